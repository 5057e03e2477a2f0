"""Which board got which work: read by the next life of a run, whose jobs may still be there."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
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
        self.earlier: dict[str, str] = {}
        left_out: dict[str, str] = {}
        for line in () if path is None else _read(path):
            take(line, self.earlier, left_out)
        for board in left_out:
            # Of an earlier life of the run, which begins with all boards.
            self.note_back(board)

    def note(self, work: str, board: str) -> None:
        """Write down that a board gets this work, before it does."""
        self._write({"work": work, "board": board})

    def note_left_out(self, board: str, why: str) -> None:
        """Write down that a board gets no work until it is back."""
        self._write({"board": board, "left_out": why, "time_unix_s": time.time()})

    def note_back(self, board: str) -> None:
        """Write down that a board gets work again."""
        self._write({"board": board, "left_out": "", "time_unix_s": time.time()})

    def _write(self, content: Mapping[str, object]) -> None:
        if self._path is None:
            return
        line = json.dumps(content) + "\n"
        # A disk that is full stops the run where it matters: at the journal.
        with self._lock, contextlib.suppress(OSError), self._path.open("a") as file:
            file.write(line)


def take(line: str, works: dict[str, str], left_out: dict[str, str]) -> None:
    """Take note of one line of a ledger; a torn one says nothing.

    Args:
        line: As it stands in the file.
        works: Takes the board of a work; its last line counts.
        left_out: Takes why a board gets no work; one that is back is removed.
    """
    with contextlib.suppress(ValueError, KeyError, TypeError):
        content = json.loads(line)
        board = str(content["board"])
        if "work" in content:
            works[str(content["work"])] = board
        elif content["left_out"]:
            left_out[board] = str(content["left_out"])
        else:
            left_out.pop(board, None)


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
