"""`boardfront monitor TABLE.json`: a latency table while it is built."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static
from typing_extensions import override

from boardfront.host.tui.pace import Pace
from boardfront.host.view import table_view
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from boardfront.host.view.table_view import TableView

_BAR = 24
_NAME = 10


class TableApp(App[None]):
    """Shows a table until somebody leaves.

    Args:
        look: Returns the table as it is; called once a second, or less often where that takes
            long, on a thread.
    """

    CSS = """
    #head { height: 2; padding: 0 1; background: $panel; text-style: bold; }
    #body { padding: 1 1 0 1; }
    #keys { height: 1; padding: 0 1; background: $panel; }
    """
    TITLE = "boardfront monitor"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(self, look: Callable[[], TableView]) -> None:
        super().__init__()
        self._look = look
        self._pace = Pace()

    @override
    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield Static(id="head")
        with VerticalScroll(id="body"):
            yield Static(id="lines")
        yield Static("up and down scroll  q quit", id="keys")

    async def on_mount(self) -> None:
        """Look for the first time, and then again and again."""
        await self._follow()

    async def _follow(self) -> None:
        """Look, and again after a while that grows with what looking costs."""
        await self._renew()
        self.set_timer(self._pace.wait_s(), self._follow)

    async def _renew(self) -> None:
        """Look in a thread: a share may be slow, and the keys shall not wait."""
        try:
            view = await asyncio.to_thread(self._look)
        except BoardfrontError as error:
            # It may be there again at the next look: a build that is begun anew replaces it.
            if self.is_running:
                self.query_one("#head", Static).update(Content(str(error)))
            return
        if not self.is_running:
            return
        self.query_one("#head", Static).update(Content(_head(view)))
        shown = [f"{name:<{_NAME}} {value}" for name, value in table_view.lines(view)]
        self.query_one("#lines", Static).update(Content("\n".join(shown)))


def _head(view: TableView) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(view.time_unix_s))
    first = f"{clock}  {table_view.headline(view)}"
    done, total, left = table_view.progress(view)
    if not total:
        return first
    full = round(_BAR * min(1.0, done / total))
    return f"{first}\n{'█' * full}{'░' * (_BAR - full)} {done}/{total} looks  {left}"
