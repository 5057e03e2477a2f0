"""A field of characters that drawings are made on."""

from __future__ import annotations

from itertools import groupby

from textual.content import Content


class Canvas:
    """Characters with styles, row by row from the top.

    Args:
        width: Cells in a row.
        height: Rows.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = max(1, width)
        self.height = max(1, height)
        self._rows = [[(" ", "")] * self.width for _ in range(self.height)]

    def put(self, x: int, y: int, text: str, style: str = "") -> None:
        """Write from a cell to the right; what would stand outside is left out."""
        if not 0 <= y < self.height:
            return
        for i, character in enumerate(text, x):
            if 0 <= i < self.width:
                self._rows[y][i] = (character, style)

    def at(self, x: int, y: int) -> str:
        """Return the character of a cell."""
        return self._rows[y][x][0]

    def content(self) -> Content:
        """Return all rows as Textual shows them."""
        return Content("\n").join(
            Content.assemble(
                *(
                    ("".join(character for character, _ in run), style)
                    for style, run in groupby(row, key=lambda cell: cell[1])
                )
            )
            for row in self._rows
        )
