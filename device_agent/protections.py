"""Which of a worker's protections (isolation.py) are asked for, and which of them hold.

What holds is read from a worker in /proc: it is the kernel's word, not the word of the code that
asked for it.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.device_agent import limits
from boardfront.device_agent.isolation import AUTO, TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/")
_SYS_ADMIN = 21


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerBounds:
    """What the workers that a thread starts may take, and what they are kept from.

    Args:
        memory_bytes: Of one worker; None: 80 % of the machine's memory.
        isolation: One of isolation.OFF, AUTO, ON.
        state: The agent's folder, sealed but for what was tuned; None: no folder is.
    """

    memory_bytes: int | None = None
    isolation: str = AUTO
    state: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Protections:
    """What a worker is kept from.

    Args:
        no_new_privileges: It can gain no rights, e.g. by sudo or another setuid program.
        no_network: It sees no network but a loopback of its own.
        sealed_files: It has mounts of its own; the agent's folder is read-only there.
        file_bytes: Largest file that it may write; None: no limit. So are the others.
        open_files: Most descriptors of a process.
        tasks: Most processes and threads; None too if that limit is not one of ours.
    """

    no_new_privileges: bool
    no_network: bool
    sealed_files: bool
    file_bytes: int | None
    open_files: int | None
    tasks: int | None


_DEFAULT = WorkerBounds()
_bounds: contextvars.ContextVar[WorkerBounds] = contextvars.ContextVar(
    "worker_bounds", default=_DEFAULT
)


@contextlib.contextmanager
def workers(bounds: WorkerBounds) -> Iterator[None]:
    """Hold the workers that this thread starts meanwhile to `bounds`."""
    token = _bounds.set(bounds)
    try:
        with limits.worker_memory(bounds.memory_bytes):
            yield
    finally:
        _bounds.reset(token)


def guard_arguments() -> tuple[str, str]:
    """Return what a guard started now is told: mode and folder."""
    bounds = _bounds.get()
    return bounds.isolation, "" if bounds.state is None else str(bounds.state.absolute())


def of(pid: int) -> Protections:
    """Return what process `pid`, started by this one, is kept from."""
    status = _text(Path(f"/proc/{pid}/status"))
    table = _text(Path(f"/proc/{pid}/limits"))
    tasks = _limit(table, "Max processes")
    return Protections(
        no_new_privileges=re.search(r"^NoNewPrivs:\s*1$", status, re.MULTILINE) is not None,
        no_network=_lives_elsewhere(pid, "net"),
        sealed_files=_lives_elsewhere(pid, "mnt"),
        file_bytes=_limit(table, "Max file size"),
        open_files=_limit(table, "Max open files"),
        tasks=None if tasks is None or tasks > TASKS else tasks,
    )


def obstacle(root: Path = _ROOT, uid: int | None = None) -> tuple[str, str]:
    """Return why a worker cannot be given namespaces here, and what to do about it.

    Args:
        root: Where the kernel's files are.
        uid: The agent's user; None: this process's.
    """
    kernel = root / "proc/sys"
    if _text(kernel / "kernel/apparmor_restrict_unprivileged_userns").strip() == "1":
        return (
            "AppArmor restricts user namespaces",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor "
            "profile with `userns,` for the agent's python (docs/security.md)",
        )
    if _text(kernel / "kernel/unprivileged_userns_clone").strip() == "0":
        return (
            "user namespaces are switched off",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        )
    if _text(kernel / "user/max_user_namespaces").strip() == "0":
        return "user namespaces are switched off", "sudo sysctl -w user.max_user_namespaces=10000"
    if not (root / "proc/self/ns/user").exists():
        return "this kernel has no user namespaces", "a kernel with CONFIG_USER_NS and NET_NS"
    if (os.geteuid() if uid is None else uid) == 0 and not _may_administer(root):
        return (
            "this is root without the right to make namespaces, as in a container",
            "run the agent as a user of its own, or give the container CAP_SYS_ADMIN",
        )
    return (
        "the system refuses namespaces, as containers do",
        "run the agent outside the container, or allow unshare in its seccomp profile",
    )


def _may_administer(root: Path) -> bool:
    status = _text(root / "proc/self/status")
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> _SYS_ADMIN & 1)


def _lives_elsewhere(pid: int, kind: str) -> bool:
    """Return whether a process has a namespace of its own; False where that cannot be read."""
    try:
        theirs = Path(f"/proc/{pid}/ns/{kind}").readlink()
        return theirs != Path(f"/proc/self/ns/{kind}").readlink()
    except OSError:
        return False


def _limit(table: str, name: str) -> int | None:
    found = re.search(rf"^{name}\s+(\d+)\s", table, re.MULTILINE)
    return None if found is None else int(found[1])


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
