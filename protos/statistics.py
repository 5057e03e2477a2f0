"""What a sample says and whether it can be trusted: pure functions, standard library only.

Both sides judge by these: the agent while it measures, the host when it reads a stored result.

Source: the interval is the classical one between order statistics (H. A. David and
    H. N. Nagaraja, Order Statistics, 3rd ed., 2003, section 7.1). It rests on *window* medians,
    not on raw samples, because neighbouring samples are correlated; windows that are still
    correlated are merged with their neighbours (batch means: G. S. Fishman, Grouping observations
    in digital simulation, Management Science 24, 1978).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from statistics import fmean, median, pstdev
from typing import TYPE_CHECKING

from boardfront.protos.records import Circumstances, Precision, Statistics, Verdict, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95
MIN_WINDOWS = 6
"""Fewest independent values whose extremes hold the median with 95 % confidence: 1 - 2/2^6."""

MAX_OTHER_CPU_FRACTION = 0.10
"""Share of all cores' time that other processes may take before a result is called contended."""

MAX_STEAL_FRACTION = 0.02
"""Share of the timed region that the hypervisor may take before a result is called contended."""

MAX_TREND = 0.02
"""Shift between the first and the last third of the windows that is called drift."""

_OUTLIER_MADS = 5.0
_MERGE_ABOVE = 0.35
"""Lag-1 autocorrelation above which windows are merged, once there are enough to judge."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A verdict and the sentences that justify it."""

    verdict: Verdict
    evidence: tuple[str, ...]


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the narrowest symmetric order-statistic interval of the median.

    Args:
        values: Independent values, any unit.

    Returns:
        (low, high), holding the median with at least 95 % confidence whatever the distribution,
        or None for fewer than six values.
    """
    n = len(values)
    if n < MIN_WINDOWS:
        return None
    ordered = sorted(values)
    rank = _interval_rank(n)
    return ordered[rank - 1], ordered[n - rank]


def autocorrelation(values: Sequence[float]) -> float | None:
    """Return the lag-1 autocorrelation, in -1..1; None for fewer than six or constant values."""
    if len(values) < MIN_WINDOWS:
        return None
    mean = fmean(values)
    deviations = [value - mean for value in values]
    total = sum(d * d for d in deviations)
    if total == 0.0:
        return None
    lagged = sum(a * b for a, b in itertools.pairwise(deviations))
    return lagged / total


def quantile(values: Sequence[float], q: float) -> float:
    """Return the `q` quantile (0..1), linear between order statistics."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def summarize(windows: Sequence[Window], *, final: bool = False) -> Statistics | None:
    """Return the statistics of a measurement, or None while no interval can be given.

    Args:
        windows: In the order in which they were taken.
        final: No further window will come. Windows too few for their correlation then keep their
            coarsest grouping that still gives an interval; `autocorrelation` tells how little
            that interval is worth, and `judge` says so.
    """
    groups, merged = _independent_groups(
        [window.samples_s for window in windows], keep=MIN_WINDOWS if final else 0
    )
    medians = [median(group) for group in groups]
    interval = median_interval(medians)
    if interval is None:
        return None
    samples = [sample for window in windows for sample in window.samples_s]
    middle = median(medians)
    mad = median(abs(sample - middle) for sample in samples)
    mean = fmean(samples)
    return Statistics(
        median_s=middle,
        low_s=interval[0],
        high_s=interval[1],
        mean_s=mean,
        min_s=min(samples),
        max_s=max(samples),
        p90_s=quantile(samples, 0.90),
        p99_s=quantile(samples, 0.99),
        mad_s=mad,
        cv=pstdev(samples) / mean,
        samples=len(samples),
        windows=len(windows),
        merged=merged,
        autocorrelation=autocorrelation(medians),
        outliers=_count_outliers(samples, middle, mad),
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

    The most specific explanation wins: contention explains instability, not the reverse.
    """
    findings = [
        *_contention(circumstances),
        *_drift([median(window.samples_s) for window in windows], statistics),
        *_instability(statistics, precision),
    ]
    if not findings:
        return Judgement(verdict=Verdict.OK, evidence=())
    return Judgement(verdict=findings[0][0], evidence=tuple(text for _, text in findings))


def _interval_rank(n: int) -> int:
    """Return the largest k with P(X_(k) <= median <= X_(n+1-k)) >= 95 %."""
    tail = 0.0
    rank = 0
    for k in range(n // 2):
        tail += math.comb(n, k) / 2.0**n
        if 1 - 2 * tail < CONFIDENCE:
            break
        rank = k + 1
    return rank


def _independent_groups(
    samples: list[tuple[float, ...]], *, keep: int = 0
) -> tuple[list[tuple[float, ...]], int]:
    """Merge neighbours until their medians are no longer plainly correlated.

    Returns:
        The groups and how many windows one group holds. Fewer than six groups mean: too few
        windows for this much correlation.
    """
    groups, merged = samples, 1
    while len(groups) >= MIN_WINDOWS:
        lag_one = autocorrelation([median(group) for group in groups])
        if lag_one is None or lag_one <= _MERGE_ABOVE:
            break
        if (len(groups) + 1) // 2 < keep:
            break
        groups = [
            groups[i] + groups[i + 1] if i + 1 < len(groups) else groups[i]
            for i in range(0, len(groups), 2)
        ]
        merged *= 2
    return groups, merged


def _count_outliers(samples: Sequence[float], middle: float, mad: float) -> int:
    return sum(abs(sample - middle) > _OUTLIER_MADS * mad for sample in samples)


def _contention(circumstances: Circumstances) -> list[tuple[Verdict, str]]:
    found = []
    other, steal = circumstances.other_cpu_fraction, circumstances.steal_fraction
    if other is not None and other > MAX_OTHER_CPU_FRACTION:
        found.append(
            (
                Verdict.CONTENDED,
                f"other processes took {other:.0%} of the cores' time "
                f"(limit {MAX_OTHER_CPU_FRACTION:.0%})",
            )
        )
    if steal is not None and steal > MAX_STEAL_FRACTION:
        found.append(
            (
                Verdict.CONTENDED,
                f"the hypervisor took {steal:.1%} of the time (limit {MAX_STEAL_FRACTION:.0%})",
            )
        )
    return found


def _drift(medians: Sequence[float], statistics: Statistics) -> list[tuple[Verdict, str]]:
    """Find a shift between the first and the last third of the windows.

    It counts when it is over the limit and the thirds do not even touch: of independent windows
    less than 3 % do that by chance where a third has four, and ever fewer where it has more.
    """
    third = len(medians) // 3
    if third < 4:
        return []
    first, last = medians[:third], medians[-third:]
    shift = (median(last) - median(first)) / statistics.median_s
    apart = max(first) < min(last) or max(last) < min(first)
    if abs(shift) <= MAX_TREND or not apart:
        return []
    return [(Verdict.DRIFTED, f"the last third of the windows is {shift:+.1%} off the first")]


def _instability(statistics: Statistics, precision: Precision) -> list[tuple[Verdict, str]]:
    lag_one = statistics.autocorrelation
    if lag_one is not None and lag_one > _MERGE_ABOVE:
        return [
            (
                Verdict.UNSTABLE,
                f"the level moves: neighbouring windows agree more than distant ones "
                f"(autocorrelation {lag_one:.2f}), the interval is too narrow",
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
