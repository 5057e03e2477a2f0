"""What a run says, kept in its folder beside being shown."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.progress import RunProgress


class LoggedProgress:
    """A RunProgress that passes everything on, and writes what is said into a file. Thread-safe.

    Args:
        shown: Shows it.
        log: Takes a line each, the local time before it.
    """

    def __init__(self, shown: RunProgress, log: Path) -> None:
        self._shown = shown
        self._log = log
        self._lock = threading.RLock()

    def phase(self, name: str, total: int, done: int = 0) -> None:
        """Pass it on."""
        with self._lock:
            self._shown.phase(name, total, done)

    def step(self, done: int, note: str) -> None:
        """Pass it on."""
        with self._lock:
            self._shown.step(done, note)

    def say(self, line: str) -> None:
        """Keep the line, and pass it on."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S")
        with self._lock:
            # It is for people: a disk that is full stops the run at the journal.
            with contextlib.suppress(OSError), self._log.open("a", encoding="utf-8") as file:
                file.write(f"{stamp} {' '.join(line.split())}\n")
            self._shown.say(line)

    def close(self) -> None:
        """Pass it on."""
        with self._lock:
            self._shown.close()
