"""The fleet's screen answers its keys, on small and large terminals."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import pytest
from tests.host.tui.fleets import BUSY, FLEET

from boardfront.host.tui.board_screen import BoardScreen
from boardfront.host.tui.fleet_app import FleetApp
from boardfront.host.tui.fleet_panel import FleetPanel
from boardfront.host.view.fleet_view import FleetView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.pilot import Pilot

SMALL = (80, 24)
LARGE = (160, 50)
Script: TypeAlias = "Callable[[Pilot[None]], Awaitable[None]]"


def play(app: FleetApp, size: tuple[int, int], script: Script) -> None:
    """Open the screen in a terminal of a size and press keys."""

    async def session() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await script(pilot)

    asyncio.run(session())


def screen(app: FleetApp) -> str:
    """Return what a person reads."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def _opened(app: FleetApp) -> str | None:
    return app.screen.board if isinstance(app.screen, BoardScreen) else None


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_all_boards_stand_there_with_what_counts(size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[None]) -> None:
        del pilot
        text = screen(app)
        assert "6 boards: 1 off, 1 away, 1 free, 2 busy, 1 left out" in text
        (rock,) = [line for line in text.splitlines() if " busy " in line and "sampling" in line]
        assert {"2", "61", "2256", "no", "11.2", "398/14"} <= set(rock.split())
        (pi,) = [line for line in text.splitlines() if " pi5 " in line]
        assert {"tuning", "84", "1500", "yes"} <= set(pi.split())
        assert "no agent answers at 192.168.1.23" in text
        # Nothing is known by colour alone: the board under the cursor is marked.
        assert [line.split()[1] for line in text.splitlines() if "> " in line[:4]] == ["local"]

    app = FleetApp(lambda: FLEET)
    play(app, size, script)


def test_keys_move_sort_and_open() -> None:
    async def script(pilot: Pilot[None]) -> None:
        panel = app.query_one(FleetPanel)
        assert panel.selected == "local"
        await pilot.press("up")
        assert panel.selected == "local"
        await pilot.press("down", "down")
        assert panel.selected == "pi5"
        # What is under the cursor is told in words.
        words = " ".join(screen(app).split())
        assert "job 90f1, tuning 40 min 00 s of 1 h 00 min" in words

        await pilot.press("s")
        assert panel.sorted_by == "state"
        rows = [line.split()[0] for line in screen(app).splitlines()[2:8]]
        assert rows == ["imx8", "rock5b-2", "rock5b-kit…", ">", "orin", "local"]
        # The cursor stays on its board.
        assert panel.selected == "pi5"

        await pilot.press("enter")
        assert _opened(app) == "pi5"
        assert "7 events in the last minute, cooling state 2" in screen(app)
        assert "20 min 00 s left" in screen(app)
        await pilot.press("escape")
        assert _opened(app) is None
        await pilot.press("q")
        assert not app.is_running

    app = FleetApp(lambda: FLEET)
    play(app, SMALL, script)


def test_news_reach_the_table_and_the_open_board() -> None:
    shown = [FLEET]

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("down", "enter")
        assert "412 jobs" in screen(app)
        shown[0] = replace(FLEET, boards=(FLEET.boards[0], replace(BUSY, jobs=413)))
        app._renew()
        await pilot.pause()
        assert "413 jobs" in screen(app)
        await pilot.press("escape")
        assert "2 boards: 1 off, 1 busy" in screen(app)

    app = FleetApp(lambda: shown[0])
    play(app, LARGE, script)


def test_more_boards_than_rows_are_scrolled() -> None:
    many = FleetView(
        time_unix_s=FLEET.time_unix_s,
        boards=tuple(replace(BUSY, name=f"board-{number:02}") for number in range(40)),
    )

    async def script(pilot: Pilot[None]) -> None:
        panel = app.query_one(FleetPanel)
        assert "board-39" not in screen(app)
        await pilot.press(*["down"] * 39)
        assert panel.selected == "board-39"
        assert "> board-39" in screen(app)
        assert "board-00" not in screen(app)
        await pilot.press(*["up"] * 39)
        assert "> board-00" in screen(app)
        await pilot.click(FleetPanel, offset=(5, 4))
        assert panel.selected == "board-03"

    app = FleetApp(lambda: many)
    play(app, SMALL, script)


def test_no_boards_are_told() -> None:
    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("down", "enter", "s")
        assert "0 boards: none to watch" in screen(app)

    app = FleetApp(lambda: replace(FLEET, boards=()))
    play(app, (60, 12), script)
