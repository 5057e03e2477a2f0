"""One writer a run, across processes."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from pathlib import Path


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
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class RunLock:
    """Held from construction to `release`; the system lets go when the process ends, however.

    Args:
        path: The lock file. It is created, holds the owner's process id, and stays: removing it
            would let two processes lock two files of one name.

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
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            owner = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise RunLockedError(
                f"{path}: expected a run that no one writes, got one of process {owner or '?'}: "
                "wait for it, or cancel it first",
            ) from problem
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let go. Releasing twice does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
