"""How a worker times runs: warm-up, inner loop, windows; and when the agent stops asking for more.

Source: design rules of measuring in docs/measurement.md; the inner loop follows pyperf's
    calibration and TVM's `min_repeat_ms`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

from boardfront.protos.intervals import is_look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.device_agent.backends.base import Clock
    from boardfront.protos.normalisation import RatioStatistics
    from boardfront.protos.records import Precision, Statistics

TimeRuns: TypeAlias = "Callable[[int], float]"
"""Runs a task so often and returns the seconds that it took."""

MIN_SAMPLE_S = 0.005
"""A sample lasts at least this long: long against the timer and against one interrupt."""

MIN_SAMPLE_IN_TURN_S = 0.001
"""The same for subjects that are sampled in turn: the shorter the turns, the more alike is what
the subjects see. On a machine whose level wanders, ratios of two networks of 1.5 ms repeated to
1.5 % with turns of one run and to 3 % with turns of 7 ms."""

PLANNED_WINDOWS = 16
"""Among so many windows the asked duration is shared."""

CORRELATED_PATIENCE = 4.0
"""How much longer than its patience a look goes on while its windows are too correlated for any
interval: they say nothing yet, and longer ones may."""

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
    """How one window is taken: `samples` samples of `loops` runs, after a gap of `gap_s`.

    The gap is the caller's to let pass.
    """

    loops: int
    samples: int
    gap_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One sample: the mean seconds of `loops` runs between two readings of the worker's clock."""

    start_s: float
    end_s: float
    loops: int
    sample_s: float


def by_clock(run: Callable[[], None], clock: Clock) -> TimeRuns:
    """Return what times runs by two readings of a clock."""

    def time_runs(loops: int) -> float:
        begin_s = clock.now_s()
        for _ in range(loops):
            run()
        return clock.now_s() - begin_s

    return time_runs


def warm_up(time_runs: TimeRuns, clock: Clock, *, min_duration_s: float) -> WarmUp:
    """Run until the rolling median of run times settles.

    Args:
        time_runs: Runs the task so often and returns the seconds that it took.
        clock: Tells how long all of it has gone on.
        min_duration_s: Goes on at least this long, or for 25 runs, whichever is later, unless
            runs are so slow that the limit of 5 s comes first.
    """
    start_s = clock.now_s()
    runs_s: list[float] = []
    while True:
        runs_s.append(time_runs(1))
        elapsed_s = clock.now_s() - start_s
        settled = _has_settled(runs_s)
        enough = len(runs_s) >= _MIN_WARM_UP_RUNS and elapsed_s >= min_duration_s
        if (enough and settled) or (elapsed_s >= _MAX_WARM_UP_S and len(runs_s) >= 3):
            return WarmUp(
                runs_s=tuple(runs_s[:1] + runs_s[1:][-_MAX_WARM_UP_KEPT:]), settled=settled
            )


def take_sample(time_runs: TimeRuns, clock: Clock, loops: int) -> Sample:
    """Take one sample between two of other subjects."""
    begin_s = clock.now_s()
    took_s = time_runs(loops)
    return Sample(start_s=begin_s, end_s=clock.now_s(), loops=loops, sample_s=took_s / loops)


def take_window(time_runs: TimeRuns, plan: WindowPlan) -> tuple[float, ...]:
    """Return the samples of one window, each the mean seconds of `plan.loops` runs.

    One sample that is not kept comes first: after a gap or another subject's window the caches
    and the clock frequency have to come back.
    """
    time_runs(plan.loops)
    return tuple(time_runs(plan.loops) / plan.loops for _ in range(plan.samples))


def plan_windows(steady_s: float, precision: Precision, *, alone: bool) -> WindowPlan:
    """Return how windows are taken for runs of `steady_s`.

    The asked duration is shared among 16 windows or more: so many show their correlation, and a
    quiet subject needs no more. A window is half of its share, but long enough for four samples;
    the rest is a gap when the subject is alone, and other subjects' windows when it is not.
    """
    share_s = precision.min_duration_s / max(precision.min_windows, PLANNED_WINDOWS)
    window_s = max(share_s / 2, 4 * MIN_SAMPLE_S)
    loops = max(1, math.ceil(MIN_SAMPLE_S / steady_s))
    samples = min(200, max(3, round(window_s / (loops * steady_s))))
    # The sample that comes first is not timed, but takes its time.
    gap_s = max(0.0, share_s - (samples + 1) * loops * steady_s)
    return WindowPlan(loops=loops, samples=samples, gap_s=gap_s if alone else 0.0)


def plan_together(steady_s: Sequence[float], precision: Precision) -> tuple[tuple[int, ...], int]:
    """Return how subjects are sampled in turn.

    All samples last about as long as the longest subject's, so that each sees as much of the
    machine's unrest as the other.

    Args:
        steady_s: Seconds a run, one a subject.
        precision: What was asked.

    Returns:
        The runs of one sample, one a subject, and the samples of one window.
    """
    sample_s = max(MIN_SAMPLE_IN_TURN_S, *steady_s)
    loops = tuple(max(1, round(sample_s / one_s)) for one_s in steady_s)
    windows = max(precision.min_windows, PLANNED_WINDOWS)
    window_s = precision.min_duration_s / windows / len(steady_s)
    return loops, min(200, max(4, round(window_s / sample_s)))


def is_enough(
    statistics: Statistics | RatioStatistics | None,
    precision: Precision,
    *,
    windows: int,
    elapsed_s: float,
) -> bool:
    """Return whether a measurement may stop: the stop rule.

    Args:
        statistics: Of the windows so far; None while there are too few.
        precision: What was asked.
        windows: Taken so far.
        elapsed_s: From the start of the first window to the end of the last.
    """
    if statistics is None or not is_look(windows, precision.min_windows):
        return False
    return (
        statistics.relative_half_width <= precision.relative_half_width
        and elapsed_s >= 0.9 * precision.min_duration_s
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far the sampling of a subject is.

    `elapsed_s` is from the start of its first window to the end of its last, in which others may
    have had their turns. The rest is its own device time: `run_s` is what it spent,
    `sampling_s` what of that went into its windows, and `run_left_s` what the run deadline
    leaves of it.
    """

    windows: int
    elapsed_s: float
    run_s: float
    sampling_s: float
    run_left_s: float


def should_stop(
    statistics: Statistics | RatioStatistics | None, precision: Precision, progress: Progress
) -> bool:
    """Return whether to take no further window, for whatever reason.

    Args:
        statistics: Of the windows so far, of the time or of the ratio, whichever the precision
            is asked of; None while no interval can be given.
        precision: What was asked.
        progress: How far the subject is.
    """
    if is_enough(statistics, precision, windows=progress.windows, elapsed_s=progress.elapsed_s):
        return True
    # Its own time alone: the deadline does not count that of the subjects sampled in between.
    window_s = progress.sampling_s / progress.windows
    # A window that the deadline cuts costs the whole result: where there is one, leave room.
    if progress.run_left_s < (window_s if statistics is None else 2 * window_s):
        return True
    patience_s = precision.max_duration_s
    if not patience_s or progress.windows < precision.min_windows:
        return False
    if statistics is None:
        patience_s *= CORRELATED_PATIENCE
    return progress.run_s >= patience_s


def _has_settled(runs_s: list[float]) -> bool:
    if len(runs_s) < 2 * _ROLLING:
        return False
    last = median(runs_s[-_ROLLING:])
    before = median(runs_s[-2 * _ROLLING : -_ROLLING])
    return abs(last - before) <= _SETTLED_WITHIN * before
