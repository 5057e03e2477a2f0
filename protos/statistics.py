"""What a sample says and whether it can be trusted: pure functions, standard library only.

Both sides judge by these: the agent while it measures, the host when it reads a stored result.
The interval rests on *window* medians, not on raw samples; see intervals.py.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from boardfront.protos.intervals import (
    CONFIDENCE,
    MIN_WINDOWS,
    autocorrelation,
    median_interval,
    sample_autocorrelation,
    sorted_median,
    spread,
)
from boardfront.protos.records import Circumstances, Precision, Statistics, Verdict, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CONFIDENCE",
    "MIN_WINDOWS",
    "Judgement",
    "autocorrelation",
    "find_contention",
    "find_drift",
    "find_throttling",
    "is_precise",
    "judge",
    "median_interval",
    "quantile",
    "summarize",
]

MAX_OTHER_CPU_FRACTION = 0.10
"""Share of all cores' time that other processes may take before a result is called contended."""

MAX_STEAL_FRACTION = 0.02
"""Share of the timed region that the hypervisor may take before a result is called contended."""

MIN_FREQUENCY_FRACTION = 0.90
"""Share of its clock that a device with a fixed one may lose before a result is throttled."""

FIXED_GOVERNORS = frozenset({"performance", "userspace"})
"""Governors that leave the clock where it is. Under others it follows the load, and a low one
says nothing."""

MAX_TREND = 0.02
"""Shift between the first and the last third of the windows that is called drift."""

_OUTLIER_MADS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A verdict and the sentences that justify it."""

    verdict: Verdict
    evidence: tuple[str, ...]


def quantile(values: Sequence[float], q: float) -> float:
    """Return the `q` quantile (0..1), linear between order statistics."""
    return _ordered_quantile(sorted(values), q)


def summarize(windows: Sequence[Window], *, final: bool = False) -> Statistics | None:
    """Return the statistics of a measurement, or None while no interval can be given.

    Args:
        windows: In the order in which they were taken.
        final: No further window will come. Windows too few for their correlation then give the
            interval from the least to the largest; it is too narrow, and `judge` says so.
    """
    if len(windows) < MIN_WINDOWS:
        return None
    kept = [window.samples_s for window in windows]
    ordered = sorted(sample for samples in kept for sample in samples)
    found = spread(
        kept,
        _pooled_median,
        samples=len(ordered) / len(windows),
        correlation=sample_autocorrelation(kept, sorted_median(ordered)),
        final=final,
    )
    if found is None:
        return None
    # Distances from a middle fall and then rise along ordered samples, which sort in one pass.
    distances = sorted([abs(sample - found.middle) for sample in ordered])
    mad = sorted_median(distances)
    mean = fmean(ordered)
    return Statistics(
        median_s=found.middle,
        low_s=found.low,
        high_s=found.high,
        mean_s=mean,
        min_s=ordered[0],
        max_s=ordered[-1],
        p90_s=_ordered_quantile(ordered, 0.90),
        p99_s=_ordered_quantile(ordered, 0.99),
        mad_s=mad,
        cv=math.sqrt(fmean([(sample - mean) ** 2 for sample in ordered])) / mean,
        samples=len(ordered),
        windows=len(windows),
        merged=found.merged,
        autocorrelation=found.autocorrelation,
        outliers=len(ordered) - bisect.bisect_right(distances, _OUTLIER_MADS * mad),
    )


def is_precise(statistics: Statistics, precision: Precision) -> bool:
    """Return whether the interval is as narrow as asked."""
    return statistics.relative_half_width <= precision.relative_half_width


def judge(
    statistics: Statistics,
    precision: Precision,
    windows: Sequence[Window],
    circumstances: Circumstances,
) -> Judgement:
    """Return the verdict of a finished measurement.

    The most specific explanation wins: throttled, contended, drifted, unstable. A device that
    held itself back explains a level that moves, and so do others' work; not the reverse.

    Args:
        statistics: Of these windows, final.
        precision: What was asked.
        windows: In the order in which they were taken.
        circumstances: What else happened meanwhile; what could not be read convicts nobody.
    """
    findings = [
        *find_throttling(circumstances),
        *find_contention(circumstances),
        *find_drift([median(window.samples_s) for window in windows], statistics.median_s),
        *_instability(statistics, precision, windows),
    ]
    if not findings:
        return Judgement(verdict=Verdict.OK, evidence=())
    return Judgement(verdict=findings[0][0], evidence=tuple(text for _, text in findings))


def find_throttling(circumstances: Circumstances) -> list[tuple[Verdict, str]]:
    """Return what shows that the device held itself back, with the numbers."""
    found = []
    if circumstances.throttle_events:
        found.append(f"the hardware throttled itself {circumstances.throttle_events} times")
    if circumstances.cooling_state_max:
        found.append(f"a cooling device went to state {circumstances.cooling_state_max}")
    before, least = circumstances.frequency_before_hz, circumstances.frequency_min_hz
    if (
        circumstances.governor in FIXED_GOVERNORS
        and before
        and least is not None
        and least < MIN_FREQUENCY_FRACTION * before
    ):
        found.append(
            f"the clock fell from {before / 1e6:.0f} to {least / 1e6:.0f} MHz under the governor "
            f"{circumstances.governor} (limit {MIN_FREQUENCY_FRACTION:.0%})"
        )
    return [(Verdict.THROTTLED, text) for text in found]


def find_contention(circumstances: Circumstances) -> list[tuple[Verdict, str]]:
    """Return what others took of the machine, where it is over a limit."""
    found = []
    other, steal = circumstances.other_cpu_fraction, circumstances.steal_fraction
    if other is not None and other > MAX_OTHER_CPU_FRACTION:
        found.append(
            f"other processes took {other:.0%} of the cores' time "
            f"(limit {MAX_OTHER_CPU_FRACTION:.0%})"
        )
    if steal is not None and steal > MAX_STEAL_FRACTION:
        found.append(
            f"the hypervisor took {steal:.1%} of the time (limit {MAX_STEAL_FRACTION:.0%})"
        )
    return [(Verdict.CONTENDED, text) for text in found]


def find_drift(values: Sequence[float], middle: float) -> list[tuple[Verdict, str]]:
    """Return a shift between the first and the last third of windows' values.

    It counts when it is over the limit and the thirds do not even touch: of independent windows
    less than 3 % do that by chance where a third has four, and ever fewer where it has more.

    Args:
        values: One a window, in order.
        middle: What the shift is divided by.
    """
    third = len(values) // 3
    if third < 4:
        return []
    first, last = values[:third], values[-third:]
    shift = (median(last) - median(first)) / middle
    apart = max(first) < min(last) or max(last) < min(first)
    if abs(shift) <= MAX_TREND or not apart:
        return []
    return [(Verdict.DRIFTED, f"the last third of the windows is {shift:+.1%} off the first")]


def _pooled_median(windows: Sequence[Sequence[float]]) -> float:
    return median([sample for samples in windows for sample in samples])


def _ordered_quantile(ordered: Sequence[float], q: float) -> float:
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def _instability(
    statistics: Statistics, precision: Precision, windows: Sequence[Window]
) -> list[tuple[Verdict, str]]:
    if summarize(windows) is None:
        return [
            (
                Verdict.UNSTABLE,
                f"the level moves: neighbouring windows agree more than distant ones "
                f"(autocorrelation {statistics.autocorrelation or 0.0:.2f}), "
                f"the interval is too narrow",
            )
        ]
    if is_precise(statistics, precision):
        return []
    return [
        (
            Verdict.UNSTABLE,
            f"the interval is +-{statistics.relative_half_width:.1%}, "
            f"asked was +-{precision.relative_half_width:.1%}",
        )
    ]
