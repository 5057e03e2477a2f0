"""The interval of a median from windows that may be correlated. Standard library only.

The interval stands between order statistics of *window* medians (H. A. David and H. N. Nagaraja,
Order Statistics, 3rd ed., 2003, section 7.1): how many of m independent values lie under their
median is binomial(m, 1/2), whatever their distribution. Correlation raises the variance of that
number by a factor, here called inflation, and the ranks move outwards by its square root.

The factor is read at two scales. Between neighbouring samples inside windows there are many
pairs, so a fast correlation shows after the first windows; what it means for windows follows from
the autoregressive process that has it. Between neighbouring windows there are few pairs, but a
slow correlation shows only there. The larger of both counts. Many windows are merged into few
long ones first (batch means: G. S. Fishman, Grouping observations in digital simulation,
Management Science 24, 1978; B. Schmeiser, Batch size effects, Operations Research 30, 1982: ten
to thirty batches are best).
"""

from __future__ import annotations

import bisect
import itertools
import math
import operator
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_Block = TypeVar("_Block")

CONFIDENCE = 0.95
MIN_WINDOWS = 6
"""Fewest independent values whose extremes hold the median with 95 % confidence: 1 - 2/2^6."""

MAX_GROUPS = 24
"""From so many groups on neighbours are merged."""

_ROUNDING = 1e-9
"""Values that differ by less, relatively, are equal: what is left is how sums are rounded, which
looks correlated and says nothing about the device. No clock resolves it in a second."""

# How cautious the estimates are, in standard errors of each; the larger the caution, the rarer an
# interval that is too narrow and the longer a look. Set so that the simulation of the stop rule
# (benchmarks/simulate_stop_rule.py) covers as it should with every clock.
_SAMPLES_ADD = 0.3
_WINDOWS_TAKE_OFF = 0.4
_WINDOWS_ALLOW = 2.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Where the median lies. Units are those of the values.

    Args:
        middle: Median of the groups' values.
        low: Of the 95 % interval.
        high: Of the 95 % interval.
        merged: How many windows one group holds.
        autocorrelation: Of neighbouring groups; None for constant values.
        is_sound: False where the groups are too few for their correlation: the interval is
            from the least to the largest value then, and still too narrow.
    """

    middle: float
    low: float
    high: float
    merged: int
    autocorrelation: float | None
    is_sound: bool


def is_look(windows: int, fewest: int = MIN_WINDOWS) -> bool:
    """Return whether a stop rule may look at the interval after so many windows.

    Who looks after every window stops at the first interval that happens to be narrow, and such
    intervals cover too rarely (H. Robbins, Some aspects of the sequential design of experiments,
    Bull. Amer. Math. Soc. 58, 1952, on optional stopping). So looks are few: at 8, 11, 16, 22,
    32, 44... windows, where the interval's ranks hold 98 to 99 %. Of six or seven windows nobody
    can tell whether they are correlated.

    Args:
        windows: Taken so far.
        fewest: Before so many there is no look.
    """
    if windows < fewest:
        return False
    while windows >= 16 and windows % 2 == 0:
        windows //= 2
    return windows in {8, 11}


def median_interval(
    values: Sequence[float], *, inflation: float = 1.0
) -> tuple[float, float] | None:
    """Return the narrowest symmetric order-statistic interval of the median.

    Args:
        values: In any order and unit.
        inflation: By how much correlation raises the variance of the number of values under the
            median; 1 for independent ones.

    Returns:
        (low, high), holding the median with at least 95 % confidence whatever the distribution,
        or None for fewer than six values or too few for this inflation.
    """
    n = len(values)
    if n < MIN_WINDOWS:
        return None
    centre = (n + 1) / 2
    surplus = max(0.0, inflation - 1)
    # The inflation is an estimate: the fewer windows it comes from, the wider, as with Student's.
    reach = _reach(n) * math.sqrt(1 + surplus) * (1 + surplus / n)
    rank = math.floor(centre - reach + 1e-9)
    if rank < 1:
        return None
    ordered = sorted(values)
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


def sample_autocorrelation(windows: Sequence[Sequence[float]], middle: float) -> float:
    """Return the lag-1 autocorrelation of samples inside windows, in 0..1.

    It rests on how often neighbours lie on the same side of the median, which neither outliers
    nor the shape of the distribution move: for a normal process a share of
    1/2 + asin(r)/pi (W. F. Sheppard, 1899). It errs on the high side, the more so the fewer the
    pairs are.

    Args:
        windows: Their samples, in order.
        middle: The median of all samples.
    """
    same = pairs = 0
    for samples in windows:
        above = [sample > middle for sample in samples]
        same += sum(map(operator.eq, above, above[1:]))
        pairs += len(above) - 1
    if pairs <= 0:
        return 0.0
    agreement = 2 * same / pairs - 1
    # The median was found in the same samples, which makes neighbours look more different.
    missed = min(1.0, (1 + max(0.0, agreement)) / (1 - min(0.95, max(0.0, agreement))) / pairs)
    surplus = agreement + missed + _SAMPLES_ADD / math.sqrt(pairs)
    return math.sin(math.pi / 2 * min(1.0, max(0.0, surplus)))


def spread(
    blocks: Sequence[_Block],
    value: Callable[[Sequence[_Block]], float],
    *,
    samples: float,
    correlation: float,
    final: bool = False,
) -> Spread | None:
    """Return where the median lies, or None while there are too few windows to tell.

    Args:
        blocks: What a window holds, in order.
        value: The value of some windows taken together.
        samples: In one window, on average.
        correlation: Between neighbouring samples.
        final: No further window will come: if they are too few for their correlation, return
            what there is and say that it is not sound.
    """
    merged = 1
    while math.ceil(len(blocks) / merged) >= MAX_GROUPS:
        merged *= 2
    values = [value(blocks[i : i + merged]) for i in range(0, len(blocks), merged)]
    if len(values) < MIN_WINDOWS:
        return None
    low, high = min(values), max(values)
    if high - low <= _ROUNDING * abs(high):
        interval: tuple[float, float] | None = low, high
    else:
        inflation = _inflation(values, correlation, samples * merged)
        interval = median_interval(values, inflation=inflation)
    is_sound = interval is not None
    if interval is None:
        if not final:
            return None
        interval = low, high
    return Spread(
        middle=sorted_median(sorted(values)),
        low=interval[0],
        high=interval[1],
        merged=merged,
        autocorrelation=autocorrelation(values),
        is_sound=is_sound,
    )


def sorted_median(ordered: Sequence[float]) -> float:
    """Return the median of values in order."""
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


@lru_cache(maxsize=1024)
def _reach(n: int) -> float:
    """Return how many ranks from the middle the interval of n independent values ends.

    Interpolated between the rank at which the interval still holds the median with the asked
    confidence and the next one inwards, which does not.
    """
    rank, tail = 0, 0.0
    while True:
        wider = 1 - 2 * tail
        tail += math.comb(n, rank) / 2.0**n
        narrower = 1 - 2 * tail
        if narrower < CONFIDENCE:
            inwards = (wider - CONFIDENCE) / (wider - narrower)
            return (n + 1) / 2 - rank - inwards
        rank += 1


def _inflation(values: Sequence[float], correlation: float, length: float) -> float:
    """Return by how much correlation raises the variance of a count among groups' values.

    Args:
        values: Of the groups, in order.
        correlation: Between neighbouring samples.
        length: Samples in a group.
    """
    n = len(values)
    lag_one = autocorrelation(_places(values))
    if lag_one is None:
        return 1.0
    # Of n values estimates are low by (1 + 3 r) / n (M. G. Kendall, Biometrika 41, 1954).
    seen = (lag_one + 1 / n) / (1 - 3 / n)
    chance = 1 / math.sqrt(n)
    # Samples can agree because each window has a level of its own. Then they foretell more
    # correlation of windows than windows can have, seeing what they show themselves.
    first, ratio = _neighbours(correlation, length)
    first = min(first, seen + _WINDOWS_ALLOW * chance)
    expected = _inflated(first, min(first, ratio), n)
    if seen <= _WINDOWS_TAKE_OFF * chance:
        return expected
    return max(expected, _inflated(min(0.99, seen), min(0.99, seen), n))


def _places(values: Sequence[float]) -> list[float]:
    """Return the place of each value among all; equal values share one."""
    ordered = sorted(values)
    return [
        (bisect.bisect_left(ordered, value) + bisect.bisect_right(ordered, value)) / 2
        for value in values
    ]


def _neighbours(correlation: float, length: float) -> tuple[float, float]:
    """Return the correlation of means over `length` neighbouring values, and its decay a lag.

    The values are of the autoregressive process whose lag-1 correlation is `correlation`.
    """
    r = min(correlation, 0.999)
    if r <= 0.0:
        return 0.0, 0.0
    rest = (1 - r**length) / (1 - r)
    first = r * rest**2 / (length * (1 + r) / (1 - r) - 2 * r * rest / (1 - r))
    return first, r**length


def _inflated(first: float, ratio: float, count: int) -> float:
    """Return the inflation for lag-k correlations of first * ratio^(k-1) among normal values."""
    total, r = 0.0, first
    for lag in range(1, count):
        if r < 1e-3:
            break
        total += (1 - lag / count) * math.asin(min(1.0, r))
        r *= ratio
    return 1 + 4 / math.pi * total
