"""What a worker is kept from: others' rights, the network, the agent's files, boundless numbers.

The guard calls `enter` before it starts the worker, so that everything below inherits it: it alone
is sure to have one thread, which a user namespace asks for. A bare interpreter reads this file:
only what it has loaded anyway may be imported here. What came of it is read in protections.py.
"""

# A bare interpreter imports pathlib for as long as all the rest of this file.
# ruff: noqa: PTH100, PTH112, PTH118, PTH123

from __future__ import annotations

import ctypes
import os
import resource
import sys

OFF, AUTO, ON = "off", "auto", "on"
"""Ways to treat a worker: as it was, with what the system lets us do, or with all of it or not."""

SOCKETS = "sockets"
HIDDEN = ("credentials", SOCKETS)
"""In the agent's folder, never seen by a worker: the device's keys, and ways back to the agent."""
WRITABLE = "tuning"
"""In the agent's folder, where a worker may write; in all the rest it only reads."""

FILE_BYTES = 4 << 30
OPEN_FILES = 4096
TASKS = 8192
"""Processes and threads, where the kernel counts those of a worker alone."""

_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
# With these root could go back: into the agent's network, its mounts, its memory, or reboot.
_DROPPED_CAPABILITIES = (19, 21, 22)  # SYS_PTRACE, SYS_ADMIN, SYS_BOOT
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_SLAVE = 32, 4096, 16384, 1 << 19
_MS_NOATIME, _MS_NODIRATIME, _MS_RELATIME = 1024, 2048, 1 << 21
_AF_INET, _SOCK_DGRAM, _SIOCSIFFLAGS, _IFF_UP, _IFREQ_BYTES = 2, 2, 0x8914, 1, 40


def enter(mode: str, state: str = "") -> None:
    """Give up, for this process and all that it starts, what no network needs.

    Numbers are bounded and no rights can be gained in every mode. Rights on files do not change
    by it: the groups that open a GPU's or NPU's device files still count inside a user namespace,
    though they have no names there.

    Args:
        mode: OFF, AUTO or ON.
        state: The agent's folder; "" where none is to be sealed.

    Raises:
        OSError: In mode ON, if the system does not let us.
    """
    if sys.platform != "linux":
        _refuse_unless(mode, OSError(f"there are no namespaces on {sys.platform}"))
        return
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    bound(resource.RLIMIT_FSIZE, FILE_BYTES)
    bound(resource.RLIMIT_NOFILE, OPEN_FILES)
    if mode != OFF:
        try:
            _enter_namespaces(state)
        except OSError as error:
            _refuse_unless(mode, error)
        if os.geteuid() == 0:
            for capability in _DROPPED_CAPABILITIES:
                _prctl(_PR_CAPBSET_DROP, capability)


def _enter_namespaces(state: str) -> None:
    if os.geteuid() != 0:
        _try_in_child()
    _leave_network()
    # Only in a user namespace is the worker counted apart from the user's other processes.
    if os.geteuid() != 0 and _kernel() >= (5, 14):
        bound(resource.RLIMIT_NPROC, TASKS)
    if state:
        _seal(os.path.abspath(state))


def bound(what: int, most: int) -> None:
    """Lower a limit of this process for good; one that is lower already stays."""
    _, hard = resource.getrlimit(what)
    limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (limit, limit))


def _try_in_child() -> None:
    """Let a child leave the network, whose failure leaves nothing behind.

    AppArmor as Ubuntu sets it up allows a user namespace and then no mapping of users in it: there
    would be no way back to a user with a name.
    """
    child = os.fork()
    if child == 0:
        number = 255
        try:
            _leave_network()
            number = 0
        except OSError as error:
            number = error.errno or number
        finally:
            os._exit(number)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number != 0:
        raise OSError(number, f"namespaces: {os.strerror(number)}")


def _leave_network() -> None:
    """Go where there is no network but a loopback of our own."""
    uid, gid = os.geteuid(), os.getegid()
    # Root needs no user namespace, and in one it could not read other users' files any more, e.g.
    # an interpreter in somebody's home.
    _unshare(_CLONE_NEWNET | (_CLONE_NEWUSER if uid else 0))
    if uid:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    _raise_loopback()


def _raise_loopback() -> None:
    """Let the worker's processes talk to each other, as runtimes' tuners do."""
    libc = ctypes.CDLL(None, use_errno=True)
    request = b"lo".ljust(16, b"\0") + _IFF_UP.to_bytes(2, sys.byteorder)
    socket = libc.socket(_AF_INET, _SOCK_DGRAM, 0)
    if socket >= 0:
        libc.ioctl(socket, _SIOCSIFFLAGS, ctypes.create_string_buffer(request, _IFREQ_BYTES))
        os.close(socket)


def _seal(state: str) -> None:
    """Hide the agent's keys from the worker, and let it write in one folder of `state` only."""
    if not os.path.isdir(state):
        return
    _unshare(_CLONE_NEWNS)
    _mount("none", "/", "", _MS_REC | _MS_SLAVE)
    _mount(state, state, "", _MS_BIND | _MS_REC)
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    for hidden in (os.path.join(state, name) for name in HIDDEN):
        if os.path.isdir(hidden):
            _mount("none", hidden, "tmpfs", flags, "size=4k,mode=0500")
    writable = os.path.join(state, WRITABLE)
    if os.path.isdir(writable):
        _mount(writable, writable, "", _MS_BIND)
    _mount("none", state, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _kept_flags(state))


def _kept_flags(path: str) -> int:
    """Return the flags of a mount that the kernel lets nobody but its owner take away."""
    # The numbers of statvfs are those of mount, but for RELATIME.
    flags = os.statvfs(path).f_flag
    kept = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME | _MS_NODIRATIME
    return flags & kept | (_MS_RELATIME if flags & 4096 else 0)


def _refuse_unless(mode: str, error: OSError) -> None:
    if mode == ON:
        raise error


def _kernel() -> tuple[int, ...]:
    numbers = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


def _unshare(flags: int) -> None:
    _check(ctypes.CDLL(None, use_errno=True).unshare(flags), f"unshare({flags:#x})")


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    mount = ctypes.CDLL(None, use_errno=True).mount
    texts = [os.fsencode(text) if text else None for text in (source, target, kind, data)]
    code = mount(*texts[:3], ctypes.c_ulong(flags), texts[3])
    _check(code, f"mount {target} with {flags:#x}")


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _check(code: int, what: str) -> None:
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
