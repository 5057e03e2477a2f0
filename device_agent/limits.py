"""How much memory a worker may take, and how to tell that it took too much.

Two nets: the kernel refuses a worker private memory beyond the limit (RLIMIT_DATA: what it would
own, not what it maps, because runtimes map far more than they use), and the agent looks at the
memory of all processes below the worker while it waits for it. Should the machine run out
nevertheless, the kernel takes the worker before anything else.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import re
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MIN_MEMORY_BYTES = 256 << 20
"""An interpreter with numpy and protobuf, and the stacks of its threads."""

MOST_PROCESSES = 512
"""Of a worker and all that it started; a tuner's trials are a few. Threads are not counted."""

_ROOT = Path("/")
_DEFAULT_SHARE = 0.8
_NO_LIMIT_BYTES = 1 << 60
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_WANT_OF_MEMORY = re.compile(
    r"bad[ _]alloc|MemoryError|out of memory|(?:cannot|can't|failed to|unable to) allocate",
    re.IGNORECASE,
)

_memory_bytes: contextvars.ContextVar[int | None] = contextvars.ContextVar(
    "worker_memory_bytes", default=None
)


@contextlib.contextmanager
def worker_memory(memory_bytes: int | None) -> Iterator[None]:
    """Hold the workers that this thread starts meanwhile to `memory_bytes`; None: the default."""
    token = _memory_bytes.set(memory_bytes)
    try:
        yield
    finally:
        _memory_bytes.reset(token)


def worker_memory_bytes() -> int:
    """Return the memory that a worker started now may take, in bytes."""
    asked = _memory_bytes.get()
    return default_memory_bytes() if asked is None else asked


def default_memory_bytes(root: Path = _ROOT) -> int:
    """Return 80 % of the memory of this machine or of the container that this is, in bytes."""
    found = [os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES]
    for folder in _memory_cgroups(root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _text(folder / name).strip()
            if text.isdigit() and int(text) < _NO_LIMIT_BYTES:
                found.append(int(text))
    return max(MIN_MEMORY_BYTES, int(_DEFAULT_SHARE * min(found)))


def apply(memory_bytes: int) -> None:
    """Hold this process to `memory_bytes`, and what it starts; before anything is loaded."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    # Not every system has this limit or lets it be set; the agent's own look remains.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")


def peak_rss_bytes() -> int:
    """Return the most memory that this process ever had resident, in bytes.

    From VmHWM: getrusage's ru_maxrss starts at the resident size of whoever started the process
    (seen on Linux 6.18: 311 MiB where VmHWM was 9 MiB).
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB", _text(Path("/proc/self/status")), re.MULTILINE)
    if found is not None:
        return int(found[1]) << 10
    unit_bytes = 1 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes


def resident_bytes(pids: Iterable[int], *, over_bytes: int) -> int:
    """Return the memory that processes hold together, in bytes.

    Args:
        pids: The processes; one that is gone holds nothing.
        over_bytes: Up to here a sum that counts shared pages once a process will do; above it
            each page is counted once, which takes the kernel longer.
    """
    pids = list(pids)
    simple_bytes = sum(_rss_bytes(pid) for pid in pids)
    if simple_bytes <= over_bytes:
        return simple_bytes
    return sum(_pss_bytes(pid) for pid in pids)


def oom_kills(root: Path = _ROOT) -> int:
    """Return how often the kernel killed a process for want of memory; 0 where it does not say.

    Only a rise means anything: the machine's own count and those of our control groups are added.
    """
    texts = [_text(root / "proc/vmstat")]
    for folder in _memory_cgroups(root):
        texts += [_text(folder / "memory.events"), _text(folder / "memory.oom_control")]
    counts = (re.search(r"^oom_kill (\d+)", text, re.MULTILINE) for text in texts)
    return sum(int(count[1]) for count in counts if count is not None)


def tells_of_memory(text: str) -> bool:
    """Return whether last words say that memory could not be had."""
    return _WANT_OF_MEMORY.search(text) is not None


def _memory_cgroups(root: Path) -> list[Path]:
    """Return the folders of the control groups that bound our memory, ours first."""
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            mounts = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif "memory" in controllers.split(","):
            mounts = [root / "sys/fs/cgroup/memory"]
        else:
            continue
        # Inside a container the path may be the host's, and the mount the container's own group.
        found += [folder for mount in mounts for folder in (mount / path.lstrip("/"), mount)]
    return list(dict.fromkeys(found))


def _rss_bytes(pid: int) -> int:
    fields = _text(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) * _PAGE_BYTES if len(fields) > 1 else 0


def _pss_bytes(pid: int) -> int:
    text = _text(Path(f"/proc/{pid}/smaps_rollup"))
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return _rss_bytes(pid) if found is None else int(found[1]) << 10


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
