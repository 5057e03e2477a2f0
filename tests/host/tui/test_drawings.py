"""Points stand where their values are, at any size, and nothing is drawn outside."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.host.tui import sample
from tests.host.tui.fleets import BUSY

from boardfront.host import journal_records as records
from boardfront.host.tui import curves, scatter
from boardfront.host.tui.blocks import block_rows
from boardfront.host.tui.candidates import Order, arrange, heading, row
from boardfront.host.tui.details import describe
from boardfront.host.tui.scale import Scale, fit, short, time_unit
from boardfront.host.view import fleet_text
from boardfront.protos.records import Verdict
from boardfront.search.spaces.spos import SposSpace

if TYPE_CHECKING:
    from boardfront.host.run_folder import RunFolder
    from boardfront.host.tui.canvas import Canvas
    from boardfront.host.view.run_view import RunView


@pytest.fixture
def view(halfway: RunFolder) -> RunView:
    """The sample run in its search."""
    return sample.frozen(halfway)


def rows_of(canvas: Canvas) -> list[str]:
    """Return a drawing's rows."""
    return canvas.content().plain.split("\n")


def test_cells_of_a_scale() -> None:
    scale = Scale(low=10.0, high=20.0, cells=5)
    assert [scale.cell(value) for value in (10.0, 11.9, 12.1, 19.9, 20.0)] == [0, 0, 1, 4, 4]
    assert scale.cell(9.99) is None
    assert scale.cell(20.01) is None
    assert scale.place(np.array([10.0, 15.0])).tolist() == [0, 2]


def test_a_scale_over_decades_gives_each_the_same_room() -> None:
    scale = Scale(low=1.0, high=1000.0, cells=30, is_log=True)
    assert [scale.cell(value) for value in (1.0, 10.01, 100.01, 1000.0)] == [0, 10, 20, 29]
    assert scale.ticks(10) == pytest.approx([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000])


@pytest.mark.parametrize("seed", range(5))
def test_a_fitted_scale_holds_all_its_values_and_ticks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(50):
        values = rng.lognormal(0.0, rng.random() * 3, size=1 + int(rng.integers(30)))
        scale = fit(values.tolist(), 1 + int(rng.integers(100)), may_be_log=bool(rng.integers(2)))
        assert all(scale.cell(float(value)) is not None for value in values)
        most = 1 + int(rng.integers(8))
        ticks = scale.ticks(most)
        assert 1 <= len(ticks) <= most
        assert all(scale.low <= tick <= scale.high * (1 + 1e-9) for tick in ticks)
        assert all(len(short(tick)) <= 9 for tick in ticks)


def test_one_value_alone_has_a_scale() -> None:
    assert fit([0.002], 10).cell(0.002) is not None
    assert fit([0.0], 10).cell(0.0) is not None
    assert fit([], 10).ticks(3)


def test_units_of_time() -> None:
    assert time_unit(0.012) == (1e-3, "ms")
    assert time_unit(2.0) == (1.0, "s")
    assert time_unit(3e-10) == (1e-9, "ns")


@pytest.mark.parametrize("size", [(1, 1), (12, 3), (40, 8), (78, 16), (200, 60)])
def test_any_size_is_drawn(view: RunView, size: tuple[int, int]) -> None:
    width, height = size
    for axes in scatter.axes_of(view):
        drawn = rows_of(scatter.draw(view, axes, "33-35", width=width, height=height))
        assert [len(line) for line in drawn] == [width] * height
    lines = rows_of(curves.draw(view.training, width=width, height=height))
    assert [len(line) for line in lines] == [width] * height


def test_faster_is_to_the_left_and_more_accurate_above(view: RunView) -> None:
    front = sorted(view.front, key=lambda one: one.latencies["rock"].median_s)
    pair = [front[0], front[-1]]
    drawn = rows_of(
        scatter.draw(
            replace(view, candidates=tuple(pair), objectives=view.objectives[:1]),
            scatter.axes_of(view)[0],
            pair[1].encoding,
            width=60,
            height=12,
        )
    )
    (slow,) = [(y, line.index("◉")) for y, line in enumerate(drawn[1:]) if "◉" in line]
    (fast,) = [(y, line.index("◆")) for y, line in enumerate(drawn[1:]) if "◆" in line]
    assert fast[1] < slow[1]
    assert fast[0] > slow[0]


def test_a_limit_far_away_does_not_shrink_the_points(view: RunView) -> None:
    near, far = (
        replace(
            view,
            objectives=(view.objectives[0], replace(view.objectives[1], limit=limit_s)),
        )
        for limit_s in (0.006, 6.0)
    )
    axes = scatter.axes_of(view)[0]
    assert scatter.draw(near, axes, None, width=70, height=14).content().plain.count("┆") == 12
    drawn = scatter.draw(far, axes, None, width=76, height=14).content().plain
    assert "┆" not in drawn
    assert "limit 6 s: far off" in drawn.split("\n")[0]


def test_a_limit_of_accuracy_lies_flat(view: RunView) -> None:
    limited = replace(
        view, objectives=(replace(view.objectives[0], limit=0.9), view.objectives[1])
    )
    drawn = rows_of(scatter.draw(limited, scatter.axes_of(view)[0], None, width=70, height=14))
    assert sum(line.count("┄") > 20 for line in drawn) == 1


def test_nothing_to_draw(view: RunView) -> None:
    empty = replace(view, candidates=(), training=())
    text = scatter.draw(empty, scatter.Axes(target="rock"), None, width=60, height=9)
    assert "no candidate has an accuracy and a time yet" in text.content().plain
    assert "no epoch has ended yet" in curves.draw((), width=60, height=9).content().plain


def test_a_row_says_what_is_wrong_with_a_candidate(view: RunView) -> None:
    by_index = {one.index: one for one in view.candidates}
    contended = next(
        one
        for one in view.candidates
        if one.latencies and one.latencies["rock"].verdict is Verdict.CONTENDED
    )
    text = row(view, contended, "rock", 120, is_selected=False)
    assert "rock: contended" in text
    failed = row(view, by_index[17], "rock", 120, is_selected=True)
    assert failed.startswith("◉")
    assert "failed: the network needs 212 MiB" in failed
    over = [one for one in view.candidates if one.latencies and not one.is_on_front]
    slow = max(over, key=lambda one: one.latencies["rock"].median_s)
    assert "over the limit on rock" in row(view, slow, "rock", 120, is_selected=False)


def test_narrow_rows_keep_the_chosen_target(view: RunView) -> None:
    assert "pi" in heading(view, "pi", 50)
    assert "rock" not in heading(view, "pi", 50)
    wide = heading(view, "pi", 120)
    assert wide.index("pi") < wide.index("rock")
    for width in (20, 40, 78):
        for one in view.candidates:
            assert len(row(view, one, "rock", width, is_selected=False)) <= width


def test_the_order_without_values_is_at_the_end(view: RunView) -> None:
    failed = {one.encoding for one in view.candidates if one.failure is not None}
    for order in (Order.FRONT, Order.FASTEST):
        last = arrange(view.candidates, order, "rock")[-len(failed) :]
        assert {one.encoding for one in last} == failed


def test_blocks_of_a_member_and_of_something_unknown(view: RunView) -> None:
    rows = block_rows(view, "3x-57")
    assert [one.kind for one in rows] == ["stem", "3", "x", "5", "7", "head"]
    assert [one.is_smaller for one in rows] == [False, True, False, True, False, False]
    widths = [len(one.bar) for one in rows]
    assert widths[1] < widths[3]
    assert re.match(r"\s*8 -> 16 +8x8  stride 2", rows[1].shape)
    assert [one.kind for one in block_rows(view, "a_b-c")] == ["a", "b", "c"]


def test_a_space_that_fails_is_drawn_by_its_parts(
    view: RunView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("somebody else's mistake")

    monkeypatch.setattr(SposSpace, "decompose", fail)
    assert [one.kind for one in block_rows(view, "3x-57")] == ["3x", "57"]


def test_the_search_is_off_as_the_report_says(ended: RunFolder) -> None:
    view = sample.frozen(ended)
    whole = describe(view, view.front[0]).plain
    # The sample's finalists take 1.2 % longer than the search went by.
    assert whole.count("search off by -1.2%") == len(view.targets)


def test_what_a_table_has_no_column_for_stands_below_it() -> None:
    narrow, wide = (fleet_text.fitting(width, [BUSY]) for width in (45, 156))
    below = fleet_text.summary(BUSY, narrow)
    assert "2256 MHz; not slowed down; 398 ok, 11 contended, 3 timeout" in below
    below = fleet_text.summary(BUSY, wide)
    assert "MHz" not in below
    assert "slowed" not in below
    assert "398 ok, 11 contended, 3 timeout" in below


def test_epochs_go_from_left_to_right() -> None:
    epochs = [
        records.TrainingProgress(
            epoch=number, epochs=4, loss=5.0 - number, learning_rate=0.1, elapsed_s=number
        )
        for number in (1, 2, 3, 4)
    ]
    drawn = rows_of(curves.draw(epochs, width=50, height=12))
    places = sorted((line.index("•"), y) for y, line in enumerate(drawn) if "•" in line and y > 0)
    assert len(places) == 4
    assert [y for _, y in places] == sorted(y for _, y in places)
