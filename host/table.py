"""A table on standard output: aligned on a terminal, tab-separated in a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    right: Collection[str] = (),
) -> None:
    """Print a table.

    In a pipe: headings once, then a line a row, cells between tabs as they are, nothing else.

    Args:
        headings: One a column.
        rows: One cell a column, formatted.
        title: Shown on a terminal only.
        right: Headings of the columns that are aligned to the right.
    """
    if not sys.stdout.isatty():
        print_tsv(headings, rows)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        table.add_column(
            Text(heading), justify="right" if heading in right else "left", overflow="fold"
        )
    for row in rows:
        # As text: a bracket in a cell is no markup.
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def print_tables(
    by: str,
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[str]]]],
    *,
    title: str = "{}",
    left: Collection[str] = (),
) -> None:
    """Print tables of one kind: one below the other, in a pipe as one.

    Args:
        by: Heading of the column that tells them apart; in a pipe of several tables only.
        tables: Headings and rows by what tells the tables apart. Where one lacks a column that
            another has, a pipe gets "-" in its place.
        title: Of each, with a place for that.
        left: Headings of the columns that are aligned to the left.
    """
    if sys.stdout.isatty() or len(tables) < 2:
        for name, (headings, rows) in tables.items():
            right = set(headings) - set(left)
            print_table(headings, rows, title=title.format(name), right=right)
        return
    every = list(dict.fromkeys(one for headings, _ in tables.values() for one in headings))
    lines = []
    for name, (headings, rows) in tables.items():
        for row in rows:
            cells = dict(zip(headings, row, strict=True))
            lines.append([name, *(cells.get(heading, "-") for heading in every)])
    print_tsv([by, *every], lines)


def print_pairs(rows: Sequence[tuple[str, str]], *, beside_table: bool = False) -> None:
    """Print names and values: aligned on a terminal, a tab between them in a pipe.

    Args:
        rows: Names and values.
        beside_table: A table is what a pipe is for: there these go to standard error.
    """
    stream = sys.stderr if beside_table and not sys.stdout.isatty() else sys.stdout
    if not stream.isatty():
        stream.write("".join(f"{_cell(name)}\t{_cell(value)}\n" for name, value in rows))
        return
    width = max((len(name) for name, _ in rows), default=0)
    stream.write("".join(f"{name:<{width}}  {value}\n" for name, value in rows))


def print_tsv(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print headings and rows as tab-separated lines; a tab or a line's end becomes a space."""
    lines = ("\t".join(map(_cell, row)) for row in [headings, *rows])
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _cell(text: str) -> str:
    return text.replace("\t", " ").replace("\r", " ").replace("\n", " ")
