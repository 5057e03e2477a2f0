"""The screen of a table that is built, on small and large terminals."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.latency_models.table_samples import table as sample_table

from boardfront.host.build_news import BuildNews
from boardfront.host.tui.table_app import TableApp
from boardfront.host.view.table_view import TableState, TableView

if TYPE_CHECKING:
    from textual.pilot import Pilot

NOW_UNIX_S = 1_800_000_000.0
NEWS = BuildNews(
    began_unix_s=NOW_UNIX_S - 600.0,
    time_unix_s=NOW_UNIX_S - 5.0,
    pid=1,
    node="workstation",
    blocks=332,
    entries=118,
    before=20,
    round_number=0,
    done=122,
    total=360,
    left_s=1245.0,
    budget_s=2700.0,
    note="conv k3 24x28x28 s1: 1.21 ms, +-3.1 %",
)


def _app() -> TableApp:
    view = TableView(
        path=Path("spos-rock.json"),
        state=TableState.BUILDING,
        time_unix_s=NOW_UNIX_S,
        table=replace(sample_table(), missing=("x", "y"), residual=None),
        news=NEWS,
        verdicts={"ok": 108, "unstable": 10},
    )
    return TableApp(lambda: view)


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
def test_the_screen_tells_how_far_it_is(size: tuple[int, int]) -> None:
    app = _app()

    async def session() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await read(pilot)

    async def read(pilot: Pilot[None]) -> None:
        strips = app.screen._compositor.render_strips()
        text = "\n".join("".join(part.text for part in strip) for strip in strips)
        assert "spos-rock.json  building  coarse round" in text
        assert "████████░░░░░░░░░░░░░░░░ 122/360 looks  about 20 min 40 s more" in text
        assert "118 of 332 have a time, 9.9 a minute" in text
        assert "10 min 00 s of 45 min 00 s used" in text
        assert "108 ok, 10 unstable" in text
        await pilot.press("q")
        assert not app.is_running

    asyncio.run(session())


def test_table_being_built(snap_compare: Any) -> None:
    assert snap_compare(_app(), terminal_size=(80, 24))
