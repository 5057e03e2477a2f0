"""Which board got which work: read by the next life of a run, whose jobs may still be there."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Ledger:
    """A file of one JSON line a job. Thread-safe.

    Without it a run that was killed would ask any board for a job that another one has measured
    already. It is a help and no truth: a line that is torn or missing costs one measurement.

    Args:
        path: The file; it is made with the first job. None: nothing is kept.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.earlier: dict[str, str] = {} if path is None else _read(path)

    def note(self, work: str, board: str) -> None:
        """Write down that a board gets this work, before it does."""
        if self._path is None:
            return
        line = json.dumps({"work": work, "board": board}) + "\n"
        # A disk that is full stops the run where it matters: at the journal.
        with self._lock, contextlib.suppress(OSError), self._path.open("a") as file:
            file.write(line)


def _read(path: Path) -> dict[str, str]:
    """Return the board of each work; its last line counts."""
    found: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            content = json.loads(line)
            found[str(content["work"])] = str(content["board"])
    return found
