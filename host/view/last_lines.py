"""The end of a text file that grows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LINES = 200
_BYTES = 32 * 1024


class LastLines:
    """Reads the last whole lines of a file again whenever it changed.

    Args:
        path: The file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = -1
        self._lines: tuple[str, ...] = ()

    def read(self) -> tuple[str, ...]:
        """Return the last lines; what cannot be read has none."""
        try:
            size = self._path.stat().st_size
            if size != self._size:
                self._lines, self._size = self._end(size), size
        except OSError:
            self._lines, self._size = (), -1
        return self._lines

    def _end(self, size: int) -> tuple[str, ...]:
        with self._path.open("rb") as file:
            file.seek(max(0, size - _BYTES), os.SEEK_SET)
            *lines, _torn = file.read(_BYTES).split(b"\n")
        if size > _BYTES:
            del lines[:1]
        return tuple(line.decode(errors="replace") for line in lines[-_LINES:])
