"""Pictures of the screens, for documents: drawn by the screens themselves, without a terminal."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from boardfront.host.tui.app import MonitorApp, Source
from boardfront.host.view.fleet_view import FleetView
from boardfront.host.view.follow import read_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from textual.app import App

    from boardfront.host.run_folder import RunFolder
    from boardfront.host.view.run_view import RunView

SIZES = ((80, 24), (160, 50))
"""Columns and rows: the smallest terminal that shows all, and one that shows all at once."""

_FROM_THE_NET = re.compile(r',?\s*url\("https?://[^"]*"\)\s*format\("[^"]*"\)')


def save_pictures(
    folder: RunFolder, into: Path, *, fleet: FleetView | None = None, keys: Sequence[str] = ()
) -> tuple[Path, ...]:
    """Write `monitor-80x24.svg` and `monitor-160x50.svg` of a run as it stands.

    Args:
        folder: The run's; it is only read.
        into: An existing folder.
        fleet: The boards to show; None shows none.
        keys: Pressed before, as Textual names them.

    Raises:
        WrongInputError: The run cannot be read.
    """
    view = read_run(folder)
    written = []
    for columns, rows in SIZES:
        path = into / f"monitor-{columns}x{rows}.svg"
        path.write_text(
            draw(folder, view, (columns, rows), fleet=fleet, keys=keys), encoding="utf-8"
        )
        written.append(path)
    return tuple(written)


def draw(
    folder: RunFolder,
    view: RunView,
    size: tuple[int, int],
    *,
    fleet: FleetView | None = None,
    keys: Sequence[str] = (),
) -> str:
    """Return the run screen of a size (columns, rows) as an SVG that needs no network."""
    now_s = view.ended_unix_s or view.heard_unix_s or 0.0
    boards = fleet or FleetView(time_unix_s=now_s)
    source = Source(run=lambda: view, fleet=lambda: boards, clock=lambda: now_s)
    app = MonitorApp(folder, source=source)
    return picture_of(app, size, title=f"boardfront monitor {view.name}", keys=keys)


def picture_of(
    app: App[None], size: tuple[int, int], *, title: str, keys: Sequence[str] = ()
) -> str:
    """Return a screen of a size (columns, rows) as an SVG that needs no network.

    Args:
        app: That draws it; it cannot be used again.
        size: Columns and rows.
        title: Of the window that is drawn around it.
        keys: Pressed before, as Textual names them.
    """

    async def session() -> str:
        async with app.run_test(size=size) as pilot:
            await pilot.press(*keys)
            await pilot.pause()
            return app.export_screenshot(title=title)

    return _FROM_THE_NET.sub("", asyncio.run(session()))
