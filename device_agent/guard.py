"""Stands between the agent and one worker, so that nothing the worker starts outlives it.

Run as a script by a bare interpreter, which needs a fraction of a worker's start:
`python -I -S guard.py PYTHON COMMAND_FD ANSWER_FD AGENT_PID MEMORY_LIMIT_BYTES ISOLATION STATE`.
It gives up what the worker must not have (isolation.py), starts the worker and sleeps. Orphans
below it become its children (PR_SET_CHILD_SUBREAPER), whatever session they went to; when the
worker ends, when the agent asks by SIGTERM, or when the agent dies, it kills all of them and ends
as the worker did.

A process can leave this tree only by asking another service to start it (systemd-run, docker), or
by killing its guard first: the latter is found by `kill_marked` unless it also cleared its
environment.
"""

# A bare interpreter imports pathlib for as long as all the rest of this file.
# ruff: noqa: PTH100, PTH109, PTH110, PTH120, PTH123, PTH208

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import sys
import time

MARK = "BOARDFRONT_WORKER"
"""Environment variable that names a worker; everything below it inherits it."""

FOLDER_PREFIX = "boardfront-worker-"
WORKER = "boardfront.device_agent.worker"

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
KILL_WITHIN_S = 5.0
"""A process that hangs in a driver cannot be killed: nobody waits longer than this for it."""


# Another one than SIGTERM, by which the agent asks: when it dies thread by thread, it is still the
# parent of this process for a moment.
_AGENT_DIED = signal.SIGHUP
_AWAITED = {signal.SIGCHLD, signal.SIGTERM, _AGENT_DIED}


def main() -> None:
    """Guard one worker to its end."""
    python, command_fd, answer_fd, agent_pid, memory_bytes, isolation, state = sys.argv[1:8]
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    prctl(PR_SET_PDEATHSIG, _AGENT_DIED)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    _forbid_core_dumps()
    if os.getppid() != int(agent_pid):
        sys.exit(1)
    _isolate(isolation, state)
    arguments = [python, "-m", WORKER, command_fd, answer_fd, str(os.getpid()), memory_bytes]
    worker = os.posix_spawn(python, arguments, os.environ, setpgroup=0, setsigmask=())
    # The end of the worker's pipes must be seen by the agent.
    os.close(int(command_fd))
    os.close(int(answer_fd))
    status, agent_died = _wait(worker)
    _end_all(worker)
    if agent_died:
        _remove_folder()
    _end_like(status)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process, where the system has it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid` in no order, those that ended unwaited included."""
    found: list[int] = []
    pending = [pid]
    parents = None if os.path.exists("/proc/thread-self/children") else _parents()
    while pending:
        parent = pending.pop()
        if parents is None:
            children = _children(parent)
        else:
            children = [child for child, its in parents.items() if its == parent]
        found += children
        pending += children
    return found


def is_worker(pid: int) -> bool:
    """Return whether a process was started as a worker; its own children may be too."""
    return WORKER.encode() in _read(f"/proc/{pid}/cmdline").split(b"\0")


def kill_marked(mark: str) -> None:
    """Kill every process whose environment names the worker `mark`."""
    wanted = f"{MARK}={mark}".encode()
    for pid in _all_pids():
        if wanted in _read(f"/proc/{pid}/environ").split(b"\0"):
            _kill(pid)


def _isolate(mode: str, state: str) -> None:
    # A bare interpreter knows no packages: the file beside this one. At the end of the path, so
    # that no file of ours stands in for one of Python's.
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    try:
        importlib.import_module("isolation").enter(mode, state)
    except OSError as error:
        sys.stderr.write(f"no worker without --worker-isolation: {error}\n")
        sys.exit(1)


def _forbid_core_dumps() -> None:
    # 1, not 0: a dump that is piped to a collector ignores 0, and one byte is no dump either
    # (Linux, fs/coredump.c).
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    soft = 1 if hard == resource.RLIM_INFINITY else min(1, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (soft, soft))


def _wait(worker: int) -> tuple[int | None, bool]:
    """Return the worker's wait status, None if it has to be ended, and whether the agent died."""
    while (number := signal.sigwait(_AWAITED)) == signal.SIGCHLD:
        status = _reap().get(worker)
        if status is not None:
            return status, False
    return None, number == _AGENT_DIED


def _reap() -> dict[int, int]:
    """Take the statuses of the children that ended."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = status
    return ended


def _end_all(worker: int) -> None:
    deadline_s = time.monotonic() + KILL_WITHIN_S
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    while time.monotonic() < deadline_s:
        for pid in descendants(os.getpid()):
            _kill(pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0] != 0:
                continue
        except ChildProcessError:
            return
        time.sleep(0.001)


def _remove_folder() -> None:
    """Remove the worker's folder, which the agent that died can no longer do."""
    import shutil

    folder = os.getcwd()
    if FOLDER_PREFIX in folder:
        shutil.rmtree(folder, ignore_errors=True)


def _end_like(status: int | None) -> None:
    if status is None:
        os._exit(0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    texts = (_read(f"/proc/{pid}/task/{thread}/children") for thread in threads)
    return [int(child) for text in texts for child in text.split()]


def _parents() -> dict[int, int]:
    """Return the parent of every process: the way of kernels without `children` files."""
    found = {}
    for pid in _all_pids():
        # "pid (any name) state ppid ...", and the name may hold spaces and brackets.
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        if len(fields) > 1:
            found[pid] = int(fields[1])
    return found


def _all_pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _read(path: str) -> bytes:
    """Return a file of /proc, empty if its process is gone or another's."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


if __name__ == "__main__":
    main()
