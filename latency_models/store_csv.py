"""Entries as a CSV table: columns with their units for people, and the whole entry in the last."""

from __future__ import annotations

import contextlib
import csv
import json
from typing import IO, TYPE_CHECKING

from boardfront.latency_models.store_columns import (
    COLUMNS,
    RECORD,
    Cell,
    cells,
    check_cells,
    check_record_heading,
)
from boardfront.latency_models.store_json import compact
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    import _csv
    from collections.abc import Iterator, Sequence

    from boardfront.latency_models.store import Snapshot
    from boardfront.latency_models.store_entry import EntryJson

_LONGEST_CELL = 1 << 28


def write_csv(snapshot: Snapshot, file: IO[str]) -> Iterator[int]:
    """Write a table; yield after each row how many there are."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*(column.heading for column in COLUMNS), RECORD])
    for number, entry in enumerate(snapshot.entries, 1):
        row = cells(entry)
        writer.writerow([*(_text(row[column.name]) for column in COLUMNS), compact(entry)])
        yield number


def read_csv(file: IO[str], place: str) -> Iterator[tuple[str, EntryJson]]:
    """Yield the entries of a table, each with where it was.

    Columns may be missing, moved or added, as long as `record` is there.

    Raises:
        WrongInputError: It is no such table, or it was edited or cut.
    """
    with _long_cells():
        rows = csv.reader(file, strict=True)
        headings = _next_row(rows, place) or []
        record = _record_column(headings, place)
        names = [heading.partition(" [")[0] for heading in headings]
        while (row := _next_row(rows, place)) is not None:
            where = f"{place}, line {rows.line_num}"
            if len(row) != len(headings):
                raise WrongInputError(
                    f"{where}: expected {len(headings)} cells, got {len(row)}: "
                    "the file is damaged; export it again"
                )
            entry = read_record(row[record], where)
            check_cells(entry, dict(zip(names, row, strict=True)), where)
            yield where, entry


def read_record(text: str, where: str) -> EntryJson:
    """Read an entry from a cell.

    Raises:
        WrongInputError: It is not JSON.
    """
    try:
        entry = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as problem:
        raise WrongInputError(
            f"{where}: expected a record in JSON, got {text!r:.40} ({problem}): "
            "the file is damaged; export it again"
        ) from problem
    if not isinstance(entry, dict):
        raise WrongInputError(
            f"{where}: expected a record, got {entry!r:.40}: the file is damaged; export it again"
        )
    return entry


def _next_row(rows: _csv.Reader, place: str) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error as problem:
        raise WrongInputError(
            f"{place}, line {rows.line_num}: expected a CSV table, got {str(problem)!r}: "
            "the file is damaged; export it again"
        ) from problem


def _record_column(headings: Sequence[str], place: str) -> int:
    for number, heading in enumerate(headings):
        if check_record_heading(heading, place):
            return number
    raise WrongInputError(
        f"{place}: expected the columns of boardfront store export, the last of them "
        f"{RECORD!r}, got {', '.join(headings)[:80]!r}: give a file that it wrote"
    )


def _text(cell: Cell) -> str:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    # repr keeps all digits of a float.
    return "" if cell is None else cell if isinstance(cell, str) else repr(cell)


@contextlib.contextmanager
def _long_cells() -> Iterator[None]:
    """Raise the csv module's limit, which is one for the whole process, for a while."""
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)
