"""All that is known of one board, over whatever screen is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static
from typing_extensions import override

from boardfront.host.view import fleet_text

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from boardfront.host.view.fleet_view import BoardView


class BoardScreen(ModalScreen[None]):
    """A board in full. `show` renews it while it is open.

    Args:
        board: As it is now.
    """

    DEFAULT_CSS = """
    BoardScreen { align: center middle; }
    BoardScreen > VerticalScroll {
        width: 90%; max-width: 110; height: auto; max-height: 90%;
        border: round $primary; padding: 0 1; background: $surface;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "dismiss(None)", "Back"),
    ]

    def __init__(self, board: BoardView) -> None:
        super().__init__()
        self._board = board

    @property
    def board(self) -> str:
        """The board's name."""
        return self._board.name

    @override
    def compose(self) -> ComposeResult:
        """Make the box."""
        with VerticalScroll() as box:
            box.border_title = Content(self._board.name)
            box.border_subtitle = "Esc: back"
            yield Static(_lines(self._board), id="board")

    def show(self, board: BoardView) -> None:
        """Show the board as it is now."""
        self._board = board
        if self.is_mounted:
            self.query_one("#board", Static).update(_lines(board))


def _lines(board: BoardView) -> Content:
    return Content("\n".join(fleet_text.details(board)))
