"""How runs are timed, on a clock that the test programmes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from boardfront.device_agent import timing
from boardfront.protos.records import Precision, Statistics, Window
from boardfront.protos.statistics import summarize

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Bench:
    """A clock, and a task whose runs take the given times one after the other."""

    def __init__(self, times_s: Iterable[float]) -> None:
        self._times_s = iter(times_s)
        self._now_s = 100.0
        self.runs = 0
        self.slept_s: list[float] = []

    def now_s(self) -> float:
        return self._now_s

    def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        self._now_s += duration_s

    def run(self) -> None:
        self.runs += 1
        self._now_s += next(self._times_s)


def test_a_steady_task_warms_up_for_the_least_number_of_runs() -> None:
    bench = _Bench(itertools.repeat(0.01))
    warm = timing.warm_up(timing.by_clock(bench.run, bench), bench, min_duration_s=0.0)
    assert (bench.runs, warm.settled) == (25, True)
    assert warm.steady_s == pytest.approx(0.01)


def test_a_fast_task_warms_up_for_the_least_duration() -> None:
    bench = _Bench(itertools.repeat(0.001))
    warm = timing.warm_up(timing.by_clock(bench.run, bench), bench, min_duration_s=0.2)
    assert bench.runs == pytest.approx(200, abs=1)
    assert warm.settled


def test_a_task_that_gets_faster_warms_up_until_it_settles() -> None:
    # 2 % faster each run for 60 runs, then steady: medians of ten settle within 1 % only later.
    times_s = [0.01 * 0.98 ** min(run, 60) for run in range(1000)]
    bench = _Bench(times_s)
    warm = timing.warm_up(timing.by_clock(bench.run, bench), bench, min_duration_s=0.0)
    assert 60 < bench.runs < 90
    assert warm.first_run_s == pytest.approx(0.01)
    assert warm.steady_s == pytest.approx(times_s[-1], rel=0.01)


def test_a_task_that_never_settles_is_given_up_and_said_so() -> None:
    bench = _Bench(itertools.cycle([0.01] * 10 + [0.02] * 10))
    warm = timing.warm_up(timing.by_clock(bench.run, bench), bench, min_duration_s=0.0)
    # Ten of each: where the two rolling medians meet in the same decade decides; by 5 s it ends.
    assert sum(warm.runs_s) <= 5.1
    endless = _Bench(0.01 * 1.05**run for run in itertools.count())
    warm = timing.warm_up(timing.by_clock(endless.run, endless), endless, min_duration_s=0.0)
    assert not warm.settled
    assert sum(warm.runs_s) >= 5.0


def test_a_slow_task_is_run_three_times() -> None:
    bench = _Bench(itertools.repeat(4.0))
    warm = timing.warm_up(timing.by_clock(bench.run, bench), bench, min_duration_s=0.2)
    assert warm.runs_s == (4.0, 4.0, 4.0)
    assert not warm.settled


def test_a_long_warm_up_keeps_its_first_run_and_its_last() -> None:
    bench = _Bench(itertools.chain([0.5], itertools.repeat(0.0001)))
    warm = timing.warm_up(timing.by_clock(bench.run, bench), bench, min_duration_s=1.0)
    assert len(warm.runs_s) == 1001
    assert warm.first_run_s == pytest.approx(0.5)


def test_a_window_drops_its_first_sample_and_averages_the_inner_loop() -> None:
    bench = _Bench([9.0, 9.0, 1.0, 3.0, 5.0, 7.0])
    plan = timing.WindowPlan(loops=2, samples=2, gap_s=0.25)
    assert timing.take_window(timing.by_clock(bench.run, bench), plan) == (2.0, 6.0)
    assert bench.runs == 6


@pytest.mark.parametrize(
    ("steady_s", "loops"), [(1e-6, 5000), (0.001, 5), (0.0011, 5), (0.005, 1), (0.3, 1)]
)
def test_a_sample_is_long_against_the_timer(steady_s: float, loops: int) -> None:
    plan = timing.plan_windows(steady_s, Precision(), alone=True)
    assert plan.loops == loops
    assert plan.loops * steady_s >= timing.MIN_SAMPLE_S * 0.999


def test_sixteen_windows_and_their_gaps_cover_the_asked_duration() -> None:
    precision = Precision(min_duration_s=3.2)
    plan = timing.plan_windows(0.001, precision, alone=True)
    window_s = plan.samples * plan.loops * 0.001
    assert window_s == pytest.approx(0.1)
    # The untimed sample, 5 ms, is part of it.
    assert plan.gap_s + 0.005 + window_s == pytest.approx(3.2 / 16)
    together = timing.plan_windows(0.001, precision, alone=False)
    assert (together.gap_s, together.samples) == (0.0, plan.samples)
    assert timing.plan_windows(
        0.001, Precision(min_duration_s=3.2, min_windows=32), alone=True
    ).samples == pytest.approx(plan.samples / 2)


def test_a_window_has_three_samples_even_of_a_slow_task() -> None:
    assert timing.plan_windows(10.0, Precision(), alone=True).samples == 3


def test_a_quick_look_still_takes_four_full_samples_a_window() -> None:
    plan = timing.plan_windows(0.005, Precision(min_duration_s=0.01), alone=True)
    assert (plan.loops, plan.samples, plan.gap_s) == (1, 4, 0.0)


def _statistics(half_width: float, windows: int) -> Statistics | None:
    """Windows that alternate about 1 s: their interval is +-half_width from six on."""
    values = [1.0 - half_width, 1.0 + half_width]
    made = [
        Window(start_s=float(i), loops=1, samples_s=(values[i % 2],) * 3) for i in range(windows)
    ]
    return summarize(made)


@pytest.mark.parametrize(
    ("half_width", "windows", "elapsed_s", "enough"),
    [
        (0.009, 16, 2.0, True),
        (0.009, 16, 1.8, True),  # gaps are rounded: 90 % of the duration will do
        (0.009, 16, 1.7, False),
        (0.011, 16, 2.0, False),
        (0.009, 5, 9.0, False),
        (0.009, 7, 9.0, False),  # too few to tell whether they are correlated
        (0.009, 8, 2.0, True),
        (0.009, 9, 2.0, False),  # no look
        (0.009, 11, 2.0, True),
    ],
)
def test_the_stop_rule(*, half_width: float, windows: int, elapsed_s: float, enough: bool) -> None:
    statistics = _statistics(half_width, windows)
    found = timing.is_enough(statistics, Precision(), windows=windows, elapsed_s=elapsed_s)
    assert found is enough


def test_more_windows_than_eight_may_be_asked_for() -> None:
    statistics = _statistics(0.001, 8)
    asked = Precision(min_windows=9)
    assert not timing.is_enough(statistics, asked, windows=8, elapsed_s=60.0)
    assert timing.is_enough(statistics, asked, windows=11, elapsed_s=60.0)


def _progress(
    windows: int = 9, run_s: float = 1.0, run_left_s: float = 29.0, elapsed_s: float = 2.7
) -> timing.Progress:
    return timing.Progress(
        windows=windows,
        elapsed_s=elapsed_s,
        run_s=run_s,
        sampling_s=2.7,
        run_left_s=run_left_s,
    )


def test_a_look_stops_when_it_may_and_goes_on_when_it_is_wide() -> None:
    assert timing.should_stop(_statistics(0.009, 8), Precision(), _progress(8))
    assert not timing.should_stop(_statistics(0.011, 8), Precision(), _progress(8))
    assert not timing.should_stop(None, Precision(), _progress(8))


def test_a_look_leaves_room_before_the_deadline() -> None:
    # Windows of 0.3 s: two of them are kept free where there is a result to lose.
    wide = _statistics(0.02, 9)
    assert not timing.should_stop(wide, Precision(), _progress(run_left_s=0.61))
    assert timing.should_stop(wide, Precision(), _progress(run_left_s=0.59))
    assert not timing.should_stop(None, Precision(), _progress(run_left_s=0.31))
    assert timing.should_stop(None, Precision(), _progress(run_left_s=0.29))


def test_the_turns_of_others_take_no_room_before_the_deadline() -> None:
    # Eight subjects in turn: 21.6 s went by, of which 2.7 s were this one's nine windows.
    wide = _statistics(0.02, 9)
    assert not timing.should_stop(wide, Precision(), _progress(run_left_s=0.61, elapsed_s=21.6))
    assert timing.should_stop(wide, Precision(), _progress(run_left_s=0.59, elapsed_s=21.6))
    assert not timing.should_stop(None, Precision(), _progress(run_left_s=0.31, elapsed_s=21.6))


def test_patience_ends_a_wide_look_and_later_one_without_any_interval() -> None:
    asked = Precision(max_duration_s=4.0)
    wide = _statistics(0.02, 9)
    assert not timing.should_stop(wide, asked, _progress(run_s=3.9))
    assert timing.should_stop(wide, asked, _progress(run_s=4.0))
    assert not timing.should_stop(None, asked, _progress(run_s=15.9))
    assert timing.should_stop(None, asked, _progress(run_s=16.0))
    assert not timing.should_stop(None, asked, _progress(windows=5, run_s=16.0))
