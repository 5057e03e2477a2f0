"""A table on standard output: aligned on a terminal, tab-separated in a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    right: Collection[str] = (),
) -> None:
    """Print a table.

    Args:
        headings: One a column.
        rows: One cell a column, formatted.
        title: Shown on a terminal only.
        right: Headings of the columns that are aligned to the right.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        sys.stdout.write("".join("\t".join(row) + "\n" for row in [headings, *rows]))
        return
    table = Table(title=title or None, box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
