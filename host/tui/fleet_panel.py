"""The boards as a table that fits where it is put; readable without colours."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from typing_extensions import override

from boardfront.host.view import fleet_text
from boardfront.host.view.fleet_view import BoardState, BoardView, FleetView

if TYPE_CHECKING:
    from textual import events
    from textual.binding import BindingType
    from textual.geometry import Size

_STYLES = {
    BoardState.AWAY: "$text-error",
    BoardState.REFUSED: "$text-error",
    BoardState.LEFT_OUT: "$text-error",
    BoardState.HELD: "$text-warning",
    BoardState.FREE: "$text-success",
    BoardState.OFF: "dim",
    BoardState.ASKING: "dim",
}
_MARK = "> "
_BLANK = "  "
_ABOVE = 1
_BELOW = 4
"""Rows: a blank one, and three of words on the board under the cursor."""


class FleetPanel(Widget, can_focus=True):
    """A line a board. `show` gives it what it shows; it asks nobody by itself."""

    DEFAULT_CSS = """
    FleetPanel { height: auto; max-height: 100%; min-height: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("s", "sort", "Sort"),
        Binding("enter", "choose", "Details"),
    ]

    class Chosen(Message):
        """Somebody wants to see more of a board.

        Args:
            board: Its name.
        """

        def __init__(self, board: str) -> None:
            self.board = board
            super().__init__()

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - as in textual
        super().__init__(id=id, classes=classes)
        self._view: FleetView | None = None
        self._sort = next(iter(fleet_text.SORTS))
        self._chosen: str | None = None
        self._top = 0

    @property
    def selected(self) -> str | None:
        """The name of the board under the cursor; None where there is no board."""
        boards = self._boards()
        names = [board.name for board in boards]
        if self._chosen in names:
            return self._chosen
        return names[0] if names else None

    @property
    def sorted_by(self) -> str:
        """What the boards are sorted by, in words."""
        return self._sort

    def show(self, view: FleetView) -> None:
        """Show the boards as they are now; the cursor stays on its board."""
        before = len(self._boards())
        self._view = view
        self.refresh(layout=len(view.boards) != before)

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        names = [board.name for board in self._boards()]
        if names:
            place = names.index(self.selected or names[0]) + by
            self._chosen = names[min(max(place, 0), len(names) - 1)]
            self.refresh()

    def action_sort(self) -> None:
        """Sort by the next thing."""
        sorts = list(fleet_text.SORTS)
        self._sort = sorts[(sorts.index(self._sort) + 1) % len(sorts)]
        self.refresh()

    def action_choose(self) -> None:
        """Tell which board is under the cursor."""
        if self.selected is not None:
            self.post_message(self.Chosen(self.selected))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is."""
        boards = self._boards()
        place = self._top + event.y - 1
        if 0 <= place < len(boards):
            self._chosen = boards[place].name
            self.refresh()

    @override
    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return the rows of all boards, with the titles and what is below."""
        return _ABOVE + max(1, len(self._boards())) + _BELOW

    @override
    def render(self) -> Content:
        """Draw the table, and what is known of the board under the cursor."""
        width, height = self.size.width, self.size.height
        boards = self._boards()
        layout = fleet_text.fitting(width - len(_MARK), boards)
        below = _BELOW if height >= _ABOVE + 1 + _BELOW else 0
        rows = max(1, height - _ABOVE - below)
        first = self._first_shown(boards, rows)
        drawn = [Content.styled(fleet_text.cut(_BLANK + layout.titles, width), "bold")]
        drawn += [self._row(board, layout, width) for board in boards[first : first + rows]]
        if not boards:
            drawn.append(Content(f"{_BLANK}no boards to watch"))
        drawn += [Content("")] * (rows - max(1, len(boards[first : first + rows])))
        if below:
            chosen = next((board for board in boards if board.name == self.selected), None)
            text = "" if chosen is None else fleet_text.summary(chosen, layout)
            wrapped = textwrap.wrap(text, max(20, width - len(_BLANK)), max_lines=below - 1)
            drawn += [Content(""), *(Content.styled(_BLANK + line, "dim") for line in wrapped)]
        return Content("\n").join(drawn)

    def _row(self, board: BoardView, layout: fleet_text.Layout, width: int) -> Content:
        is_selected = board.name == self.selected
        line = fleet_text.cut((_MARK if is_selected else _BLANK) + layout.row(board), width)
        if is_selected and self.has_focus:
            return Content.styled(line.ljust(width), "bold reverse")
        return Content.styled(line, _STYLES.get(board.state, ""))

    def _boards(self) -> list[BoardView]:
        boards = () if self._view is None else self._view.boards
        return sorted(boards, key=fleet_text.SORTS[self._sort])

    def _first_shown(self, boards: list[BoardView], height: int) -> int:
        """Return where the visible part begins, so that the cursor is in it."""
        names = [board.name for board in boards]
        place = names.index(self.selected) if self.selected is not None else 0
        if place < self._top:
            self._top = place
        elif place >= self._top + height:
            self._top = place - height + 1
        self._top = max(0, min(self._top, len(boards) - height))
        return self._top
