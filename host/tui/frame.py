"""The frame of a drawing: two axes with numbers, and the field between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host.tui.scale import short

if TYPE_CHECKING:
    from boardfront.host.tui.canvas import Canvas
    from boardfront.host.tui.scale import Scale

LEFT = 7
"""Cells beside the field: six for a number, one for the axis."""

BELOW = 2
"""Rows below the field: the axis and its numbers."""

_CELLS_A_NUMBER = 10
_ROWS_A_NUMBER = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """Where values stand on a canvas.

    Args:
        x: To the right, in `width` cells.
        y: Upwards.
        top: Rows above the field.
    """

    x: Scale
    y: Scale
    top: int = 0

    def cell(self, x: float, y: float) -> tuple[int, int] | None:
        """Return (column, row) of a point; None where it is outside."""
        column, row = self.column(x), self.row(y)
        return None if column is None or row is None else (column, row)

    def column(self, x: float) -> int | None:
        """Return the column of a value on the horizontal axis."""
        at = self.x.cell(x)
        return None if at is None else LEFT + at

    def row(self, y: float) -> int | None:
        """Return the row of a value on the vertical axis."""
        at = self.y.cell(y)
        return None if at is None else self.top + self.y.cells - 1 - at

    def draw(self, canvas: Canvas, unit: str) -> None:
        """Draw both axes; the unit stands at the end of the horizontal one."""
        bottom = self.top + self.y.cells
        for row in range(self.top, bottom):
            canvas.put(LEFT - 1, row, "│", "$text-muted")
        canvas.put(LEFT - 1, bottom, "└" + "─" * self.x.cells, "$text-muted")
        for value in self.y.ticks(max(2, self.y.cells // _ROWS_A_NUMBER)):
            tick_row = self.row(value)
            if tick_row is not None:
                canvas.put(0, tick_row, f"{short(value):>6}┤", "$text-muted")
        end = LEFT + self.x.cells
        canvas.put(end - len(unit), bottom + 1, unit, "$text-muted")
        for value in self.x.ticks(max(2, self.x.cells // _CELLS_A_NUMBER)):
            self._number(canvas, value, bottom, end - len(unit) - 1)

    def _number(self, canvas: Canvas, value: float, bottom: int, end: int) -> None:
        column = self.column(value)
        if column is None:
            return
        canvas.put(column, bottom, "┬", "$text-muted")
        text = short(value)
        start = column - len(text) // 2
        if start + len(text) <= end:
            canvas.put(start, bottom + 1, text, "$text-muted")
