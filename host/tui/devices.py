"""The place of the devices on the run screen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from textual.containers import Container
from textual.content import Content
from textual.widgets import Static
from typing_extensions import override

from boardfront.host.journal import lock_path
from boardfront.host.run_lock import is_held_elsewhere
from boardfront.host.tui.board_screen import BoardScreen
from boardfront.host.tui.fleet_panel import FleetPanel
from boardfront.host.view.fleet_view import BoardState
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from textual.app import ComposeResult

    from boardfront.host.run_folder import RunFolder
    from boardfront.host.view.fleet_poller import FleetPoller
    from boardfront.host.view.fleet_view import BoardView, FleetView
    from boardfront.host.view.run_view import RunView


_LOOPBACK = re.compile(r"local$|localhost:|127\.|\[::1\]:", re.IGNORECASE)


class DevicesSlot(Container):
    """The boards of a run, asked from the moment on that the run tells which it uses.

    Args:
        look: Instead of the boards says how they are.
    """

    def __init__(self, look: Callable[[], FleetView] | None = None) -> None:
        super().__init__(id="devices", classes="panel")
        self.border_title = "Devices"
        self._look = look
        self._is_given = look is not None
        self._poller: FleetPoller | None = None
        self._asked: tuple[Path, tuple[str, ...]] | None = None
        self._shown: tuple[BoardView, ...] | None = None
        self._panel = FleetPanel(id="fleet")
        self._line = Static()
        self._not_asked = ""

    @property
    def job(self) -> str | None:
        """The job of the board under the cursor; None where there is none."""
        if self._look is None or self._panel.selected is None:
            return None
        board = self._look().board(self._panel.selected)
        return board.job.job_id if board is not None and board.job is not None else None

    @override
    def compose(self) -> ComposeResult:
        """Make the panel, and a line that stands below it where something is to be told."""
        yield self._panel
        yield self._line

    def on_unmount(self) -> None:
        """Hang up."""
        self._hang_up()

    def on_fleet_panel_chosen(self, message: FleetPanel.Chosen) -> None:
        """Show one board in full."""
        message.stop()
        board = None if self._look is None else self._look().board(message.board)
        if board is not None:
            self.app.push_screen(BoardScreen(board))

    def show(self, view: RunView, folder: RunFolder) -> None:
        """Show how the run's boards are."""
        devices = tuple(dict.fromkeys(name for t in view.targets for name in _names(t.device)))
        if not self._is_given and (folder.path, devices) != self._asked:
            self._asked = folder.path, devices
            self._hang_up()
            self._begin(devices, folder)
        if self._look is None:
            return
        fleet = self._look()
        if fleet.boards == self._shown:
            return
        self._shown = fleet.boards
        self._panel.show(fleet)
        screen = self.app.screen
        if isinstance(screen, BoardScreen):
            board = fleet.board(screen.board)
            if board is not None:
                screen.show(board)
        silent = [b for b in fleet.boards if b.state is BoardState.OFF]
        is_off = silent and len(fleet.boards) == 1
        self._note("no agent runs on this machine" if is_off else self._not_asked)

    def _hang_up(self) -> None:
        if self._poller is not None:
            self._poller.close()
            self._poller = self._look = None

    def _begin(self, devices: Sequence[str], folder: RunFolder) -> None:
        from boardfront.host.paths import default_fleet
        from boardfront.host.view.fleet_poller import FleetPoller, watched

        near, far = _split(devices, folder)
        self._not_asked = ""
        if far:
            self._not_asked = f"not asked from here, of the machine that runs it: {', '.join(far)}"
            self._note(self._not_asked)
        if not near:
            return
        try:
            boards = watched(near, default_fleet())
        except BoardfrontError as error:
            # The run may be another machine's, with a fleet that is not known here.
            self._note(f"the devices cannot be asked from here: {error}")
            return
        self._poller = FleetPoller(boards, ledger=folder.ledger)
        self._poller.start()
        self._look = self._poller.view

    def _note(self, text: str) -> None:
        # As content: a bracket in a name or an error is no markup.
        self._line.update(Content(text))
        self._line.display = bool(text)


def _split(devices: Sequence[str], folder: RunFolder) -> tuple[list[str], list[str]]:
    """Return the devices that can be asked from here, and those that mean the run's machine.

    `local` and an address on loopback mean another device on every machine. A board's name means
    what the fleet file here says of it.
    """
    if not is_held_elsewhere(lock_path(folder.journal)):
        return list(devices), []
    far = [name for name in devices if _LOOPBACK.match(name)]
    return [name for name in devices if name not in far], far


def _names(device: str | tuple[str, ...]) -> tuple[str, ...]:
    return (device,) if isinstance(device, str) else device
