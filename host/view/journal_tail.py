"""The records that came to a journal since one looked last; nothing is read twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.host.journal import read_line
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.journal import AnyRecord


class JournalTail:
    """Reads what is appended to a journal. It never writes, and the file need not be there yet.

    A torn last line waits until it is whole or cut off. Where the file is another one than
    before (shorter, or another last line where ours ended), all is read anew.

    Args:
        path: The journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def read(self) -> tuple[tuple[AnyRecord, ...], bool]:
        """Return the new records, and whether they are all there are: what was told is void.

        Raises:
            CorruptJournalError: A whole line is no record; nothing new is told until it is one.
            WrongInputError: The file is there and cannot be read.
        """
        try:
            data = self._new_bytes()
        except FileNotFoundError:
            is_anew = self._end > 0
            self._forget()
            return (), is_anew
        except OSError as problem:
            raise WrongInputError(
                f"{self._path}: expected a run's journal, got {problem.strerror}: check the "
                "run's folder, or the share that it is on"
            ) from problem
        is_anew = data is None
        if data is None:
            self._forget()
            data = self._path.read_bytes()
        *lines, _torn = data.split(b"\n")
        first = self._lines + 1
        records = tuple(read_line(self._path, first + i, line) for i, line in enumerate(lines))
        if lines:
            self._last = lines[-1] + b"\n"
            self._end += sum(len(line) + 1 for line in lines)
            self._lines += len(lines)
        return records, is_anew

    def _new_bytes(self) -> bytes | None:
        """Return what stands behind our end; None where ours is no longer the beginning."""
        with self._path.open("rb") as file:
            file.seek(self._end - len(self._last))
            data = file.read()
        return data[len(self._last) :] if data.startswith(self._last) else None

    def _forget(self) -> None:
        self._end = 0
        self._lines = 0
        self._last = b""
