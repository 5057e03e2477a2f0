"""`boardfront devices --watch`: the fleet alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import Binding
from textual.content import Content
from textual.widgets import Static
from typing_extensions import override

from boardfront.host.tui.board_screen import BoardScreen
from boardfront.host.tui.fleet_panel import FleetPanel
from boardfront.host.view import fleet_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from boardfront.host.view.fleet_view import FleetView

_REDRAW_EVERY_S = 1.0


class FleetApp(App[None]):
    """Shows boards until somebody leaves.

    Args:
        look: Returns the boards as they are; called once a second on the screen's own thread.
        title: What is watched.
    """

    CSS = """
    #head { height: 1; padding: 0 1; background: $panel; text-style: bold; }
    #fleet { height: 1fr; padding: 0 1; }
    #keys { height: 1; padding: 0 1; background: $panel; }
    """
    TITLE = "boardfront devices"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(self, look: Callable[[], FleetView], *, title: str = "") -> None:
        super().__init__()
        self._look = look
        self._headline = title

    @override
    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield Static(id="head")
        yield FleetPanel(id="fleet")
        yield Static(_keys(""), id="keys")

    def on_mount(self) -> None:
        """Look for the first time."""
        self.query_one(FleetPanel).focus()
        self._renew()
        self.set_interval(_REDRAW_EVERY_S, self._renew)

    def on_fleet_panel_chosen(self, message: FleetPanel.Chosen) -> None:
        """Show one board in full."""
        board = self._look().board(message.board)
        if board is not None:
            self.push_screen(BoardScreen(board))

    def _renew(self) -> None:
        view = self._look()
        root = self.screen_stack[0]
        panel = root.query_one(FleetPanel)
        panel.show(view)
        clock = time.strftime("%H:%M:%S", time.localtime(view.time_unix_s))
        parts = [clock, fleet_text.headline(view), self._headline]
        root.query_one("#head", Static).update(Content("  ".join(part for part in parts if part)))
        root.query_one("#keys", Static).update(_keys(panel.sorted_by))
        if isinstance(self.screen, BoardScreen):
            board = view.board(self.screen.board)
            if board is not None:
                self.screen.show(board)


def _keys(sorted_by: str) -> Content:
    by = f" (by {sorted_by})" if sorted_by else ""
    return Content(f"enter details  s sort{by}  q quit   -: not known")
