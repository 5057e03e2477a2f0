"""One writer a run, across processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import time
from typing import TYPE_CHECKING

from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from pathlib import Path

_TRIES = 20
_TRY_AGAIN_AFTER_S = 0.01


class RunLockedError(BoardfrontError):
    """Another process writes the run."""


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock file `path`; changes nothing, makes nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a share that knows no locks
        return False
    finally:
        os.close(descriptor)
    return False


def is_held_elsewhere(path: Path) -> bool:
    """Return whether another machine locked the file last: its lock may not be seen from here."""
    try:
        host = path.read_text(encoding="utf-8").partition(" ")[2].strip()
    except (OSError, UnicodeDecodeError):
        return False
    return host not in {"", platform.node()}


class RunLock:
    """Held from construction to `release`; the system lets go when the process ends, however.

    Args:
        path: The lock file. It is created, holds the owner's process id and machine, and stays:
            removing it would let two processes lock two files of one name.

    Raises:
        RunLockedError: Another process, or another lock of this one, holds it; or the file
            cannot be made.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as problem:
            raise RunLockedError(
                f"{path}: expected a lock file that can be made, got {problem.strerror}: "
                "check the run's folder and its rights",
            ) from problem
        try:
            _lock(self._descriptor)
        except OSError as problem:
            written = os.pread(self._descriptor, 32, 0).decode(errors="replace")
            owner = written.partition(" ")[0].strip()
            os.close(self._descriptor)
            raise RunLockedError(
                f"{path}: expected a run that no one writes, got one of process {owner or '?'}: "
                "wait for it, or cancel it first",
            ) from problem
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()} {platform.node()}".encode(), 0)

    def release(self) -> None:
        """Let go. Releasing twice does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> None:
    """Lock, or raise OSError. Who only looks holds the file for an instant: that is waited out."""
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_TRY_AGAIN_AFTER_S)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
