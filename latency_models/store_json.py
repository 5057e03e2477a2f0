"""Entries as one JSON document, written and read a piece at a time."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING

from boardfront.latency_models.store_columns import FORMAT, UNITS, VERSION, check_version
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boardfront.latency_models.store import Snapshot
    from boardfront.latency_models.store_entry import EntryJson

_PIECE_CHARACTERS = 1 << 18
_LONGEST_CHARACTERS = 1 << 28
"""Of one entry; more is no measurement and would fill the memory."""

_NOTE = "names end in their units; ratios, fractions and counts have none"


def write_json(snapshot: Snapshot, file: IO[str]) -> Iterator[int]:
    """Write a document; yield after each entry how many there are."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "units": {"note": _NOTE, **UNITS},
        "count": snapshot.count,
    }
    # One entry a line: such a file can be looked at, compared and cut by ordinary tools.
    file.write(json.dumps(head)[:-1] + ',\n"measurements": [')
    for number, entry in enumerate(snapshot.entries, 1):
        file.write((",\n" if number > 1 else "\n") + compact(entry))
        yield number
    file.write("\n]}\n")


def compact(entry: EntryJson) -> str:
    """Return an entry as one line of JSON. Numbers keep all their digits."""
    return json.dumps(entry, allow_nan=False, sort_keys=True, separators=(",", ":"))


def read_json(file: IO[str], place: str) -> Iterator[tuple[str, EntryJson]]:
    """Yield the entries of a document, each with where it was.

    Args:
        file: Of any layout and order of keys; measurements are never held all at once.
        place: The file's name, for errors.

    Raises:
        WrongInputError: It is no such document, or it is not whole.
    """
    reader = _Reader(file, place)
    reader.take("{")
    head: dict[str, object] = {}
    found = 0
    while not reader.ends("}", first=not head):
        name = reader.value()
        reader.take(":")
        if name != "measurements":
            head[str(name)] = reader.value()
            continue
        _check_head(head, place)
        head["measurements"] = True
        reader.take("[")
        first = True
        while not reader.ends("]", first=first):
            first = False
            found += 1
            where = f"{place}, measurement {found}"
            entry = reader.value()
            if not isinstance(entry, dict):
                raise _damaged(where, f"{entry!r:.40}")
            yield where, entry
    if "measurements" not in head:
        _check_head(head, place)
    if head.get("count", found) != found:
        raise _damaged(place, f"{found} measurements where its head says {head['count']}")


def _check_head(head: dict[str, object], place: str) -> None:
    if head.get("format") != FORMAT:
        raise WrongInputError(
            f"{place}: expected a JSON document of boardfront store export, got one whose "
            f"format is {head.get('format')!r:.40}: give a file that it wrote"
        )
    check_version(head.get("version"), place)


def _damaged(place: str, got: str) -> WrongInputError:
    return WrongInputError(
        f"{place}: expected a whole JSON document, got {got}: the file is damaged; export it again"
    )


class _Reader:
    """Reads JSON values one after the other, holding little more than one of them."""

    def __init__(self, file: IO[str], place: str) -> None:
        self._file = file
        self._place = place
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._ended = False

    def take(self, character: str) -> None:
        """Read a character that must be there."""
        got = self._peek()
        if got != character:
            raise _damaged(self._place, f"{got!r} for {character!r}" if got else "its end")
        self._at += 1

    def ends(self, character: str, *, first: bool) -> bool:
        """Read the end of a list, or what separates its values."""
        if self._peek() == character:
            self._at += 1
            return True
        if not first:
            self.take(",")
        return False

    def value(self) -> object:
        """Read a whole value."""
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except (json.JSONDecodeError, RecursionError) as problem:
                if not self._more():
                    raise _damaged(self._place, f"{problem}") from problem
                continue
            if end == len(self._text) and self._more():
                # A number may go on.
                continue
            self._at = end
            return value

    def _peek(self) -> str:
        while True:
            while self._at < len(self._text):
                character = self._text[self._at]
                if character not in " \t\r\n":
                    return character
                self._at += 1
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Read on, twice as much as is left over."""
        if self._ended or len(self._text) - self._at > _LONGEST_CHARACTERS:
            return False
        left = self._text[self._at :]
        piece = self._file.read(max(_PIECE_CHARACTERS, len(left)))
        self._ended = not piece
        self._text, self._at = left + piece, 0
        return bool(piece)
