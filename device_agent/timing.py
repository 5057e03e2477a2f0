"""How a worker times runs: warm-up, inner loop, windows; and when the agent stops asking for more.

Source: design rules of measuring in docs/measurement.md; the inner loop follows pyperf's
    calibration and TVM's `min_repeat_ms`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from boardfront.protos.statistics import is_precise

if TYPE_CHECKING:
    from collections.abc import Callable

    from boardfront.device_agent.backends.base import Clock
    from boardfront.protos.records import Precision, Statistics

MIN_SAMPLE_S = 0.005
"""A sample lasts at least this long: long against the timer and against one interrupt."""

_ROLLING = 10
_SETTLED_WITHIN = 0.01
_MIN_WARM_UP_RUNS = 25
_MAX_WARM_UP_S = 5.0
_MAX_WARM_UP_KEPT = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmUp:
    """What the warm-up showed, in seconds a run, in order."""

    runs_s: tuple[float, ...]
    settled: bool

    @property
    def first_run_s(self) -> float:
        """The very first run."""
        return self.runs_s[0]

    @property
    def steady_s(self) -> float:
        """Median of the last runs."""
        return median(self.runs_s[-_ROLLING:])


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowPlan:
    """How one window is taken: `samples` samples of `loops` runs, after a gap of `gap_s`."""

    loops: int
    samples: int
    gap_s: float


def warm_up(run: Callable[[], None], clock: Clock, *, min_duration_s: float) -> WarmUp:
    """Run until the rolling median of run times settles.

    Args:
        run: One run of the task.
        clock: Times it.
        min_duration_s: Goes on at least this long, or for 25 runs, whichever is later, unless
            runs are so slow that the limit of 5 s comes first.
    """
    start_s = clock.now_s()
    runs_s: list[float] = []
    while True:
        begin_s = clock.now_s()
        run()
        end_s = clock.now_s()
        runs_s.append(end_s - begin_s)
        elapsed_s = end_s - start_s
        settled = _has_settled(runs_s)
        enough = len(runs_s) >= _MIN_WARM_UP_RUNS and elapsed_s >= min_duration_s
        if (enough and settled) or (elapsed_s >= _MAX_WARM_UP_S and len(runs_s) >= 3):
            return WarmUp(
                runs_s=tuple(runs_s[:1] + runs_s[1:][-_MAX_WARM_UP_KEPT:]), settled=settled
            )


def take_window(run: Callable[[], None], clock: Clock, plan: WindowPlan) -> tuple[float, ...]:
    """Return the samples of one window, each the mean seconds of `plan.loops` runs.

    One untimed sample comes first: after a gap or another subject's window the caches and the
    clock frequency have to come back.
    """
    if plan.gap_s > 0:
        clock.sleep(plan.gap_s)
    for _ in range(plan.loops):
        run()
    samples_s = []
    for _ in range(plan.samples):
        begin_s = clock.now_s()
        for _ in range(plan.loops):
            run()
        samples_s.append((clock.now_s() - begin_s) / plan.loops)
    return tuple(samples_s)


def plan_windows(steady_s: float, precision: Precision, *, alone: bool) -> WindowPlan:
    """Return how windows are taken for runs of `steady_s`.

    A window is half of its share of the asked duration; the other half is a gap when the subject
    is alone, and other subjects' windows when it is not.
    """
    share_s = precision.min_duration_s / precision.min_windows
    window_s = max(share_s / 2, 4 * MIN_SAMPLE_S)
    loops = max(1, math.ceil(MIN_SAMPLE_S / steady_s))
    samples = min(200, max(3, round(window_s / (loops * steady_s))))
    return WindowPlan(loops=loops, samples=samples, gap_s=share_s / 2 if alone else 0.0)


def is_enough(
    statistics: Statistics | None, precision: Precision, *, windows: int, elapsed_s: float
) -> bool:
    """Return whether a measurement may stop: the stop rule.

    Args:
        statistics: Of the windows so far; None while there are too few.
        precision: What was asked.
        windows: Taken so far.
        elapsed_s: From the start of the first window to the end of the last.
    """
    if statistics is None or windows < precision.min_windows:
        return False
    return is_precise(statistics, precision) and elapsed_s >= 0.9 * precision.min_duration_s


def _has_settled(runs_s: list[float]) -> bool:
    if len(runs_s) < 2 * _ROLLING:
        return False
    last = median(runs_s[-_ROLLING:])
    before = median(runs_s[-2 * _ROLLING : -_ROLLING])
    return abs(last - before) <= _SETTLED_WITHIN * before
