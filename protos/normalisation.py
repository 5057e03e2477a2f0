"""A subject's time as a multiple of a reference's that was sampled alternately with it.

On a shared machine the level wanders by more than candidates differ. Both feel it alike, so the
ratio stands still where both times move. Pure functions, standard library only.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from boardfront.protos.intervals import (
    MIN_WINDOWS,
    is_look,
    sample_autocorrelation,
    spread,
)
from boardfront.protos.records import Verdict
from boardfront.protos.statistics import (
    Judgement,
    find_contention,
    find_drift,
    find_throttling,
    quantile,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.protos.records import Circumstances, Precision, Window

_MOVED = 1.05
"""How far a reference's level has to move before an elasticity can be told."""

_MAX_PAIRS = 200

_ALIKE_WITHIN = 0.1

_ROBUST_TO = 0.03
"""What others' work may do to a ratio: a ratio asked no more precisely than this is spared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RatioStatistics:
    """What alternated windows say of a ratio; the interval is a distribution-free 95 % one.

    Args:
        ratio: Median over the windows' ratios of medians (a subject's over the reference's).
        low: Of the interval.
        high: Of the interval.
        windows: How many windows both have.
        merged: Neighbouring windows taken together because they were correlated; 1: none.
        autocorrelation: Of the ratios that are left; None where it cannot be told.
        reference_median_s: Median of the reference's window medians, in seconds a run.
    """

    ratio: float
    low: float
    high: float
    windows: int
    merged: int
    autocorrelation: float | None
    reference_median_s: float

    @property
    def relative_half_width(self) -> float:
        """Half of the interval's width over the ratio."""
        return (self.high - self.low) / 2 / self.ratio


def normalise(
    windows: Sequence[Window], reference_windows: Sequence[Window], *, final: bool = False
) -> RatioStatistics | None:
    """Return the ratio of two alternately sampled subjects, or None while there is no interval.

    Args:
        windows: The subject's, in order.
        reference_windows: The reference's; the i-th was sampled alternately with the i-th of
            `windows`. Surplus windows of either are left out.
        final: No further window will come. Windows too few for their correlation then give the
            interval from the least to the largest; `judge_ratio` says so.
    """
    pairs = [
        (own.samples_s, other.samples_s)
        for own, other in zip(windows, reference_windows, strict=False)
    ]
    if len(pairs) < MIN_WINDOWS:
        return None
    ratios = [[a / b for a, b in zip(own, other, strict=False)] for own, other in pairs]
    found = spread(
        pairs,
        _pooled_ratio,
        samples=sum(map(len, ratios)) / len(ratios),
        correlation=sample_autocorrelation(ratios, median(itertools.chain(*ratios))),
        final=final,
    )
    if found is None:
        return None
    return RatioStatistics(
        ratio=found.middle,
        low=found.low,
        high=found.high,
        windows=len(pairs),
        merged=found.merged,
        autocorrelation=found.autocorrelation,
        reference_median_s=median(median(other) for _, other in pairs),
    )


def elasticity(windows: Sequence[Window], reference_windows: Sequence[Window]) -> float | None:
    """Return the relative change of a subject's time a relative change of the reference's.

    1: the same things slow both alike, and their ratio stands still. None where the reference's
    level moved by less than 5 % between its 10th and 90th percentile: nothing can be told.

    Source: the median of slopes between pairs (P. K. Sen, J. Amer. Stat. Ass. 63, 1968), of the
        logarithms of window medians. Both have errors, which flatten the slopes between levels
        that are close (attenuation), so only pairs at least half the movement apart are used.
    """
    pairs = [
        (math.log(median(other.samples_s)), math.log(median(own.samples_s)))
        for own, other in zip(windows, reference_windows, strict=False)
    ]
    if len(pairs) < MIN_WINDOWS:
        return None
    levels = [level for level, _ in pairs]
    moved = quantile(levels, 0.9) - quantile(levels, 0.1)
    if moved < math.log(_MOVED):
        return None
    if len(pairs) > _MAX_PAIRS:
        # Some hundred windows say what thousands would. Every n-th would miss what alternates.
        pairs = random.Random(0).sample(pairs, _MAX_PAIRS)  # noqa: S311
    slopes = [
        (b[1] - a[1]) / (b[0] - a[0])
        for a, b in itertools.combinations(pairs, 2)
        if abs(b[0] - a[0]) >= moved / 2
    ]
    return median(slopes) if slopes else None


def ratio_is_enough(
    ratio: RatioStatistics | None, precision: Precision, *, windows: int, elapsed_s: float
) -> bool:
    """Return whether alternated windows may stop: the stop rule, of the ratio.

    Args:
        ratio: Of the windows so far; None while there are too few.
        precision: What was asked, of the ratio.
        windows: Taken so far, of each.
        elapsed_s: From the start of the first window to the end of the last.
    """
    if ratio is None or not is_look(windows, precision.min_windows):
        return False
    return (
        ratio.relative_half_width <= precision.relative_half_width
        and elapsed_s >= 0.9 * precision.min_duration_s
    )


def judge_ratio(
    ratio: RatioStatistics,
    precision: Precision,
    windows: Sequence[Window],
    reference_windows: Sequence[Window],
    circumstances: Circumstances,
) -> Judgement:
    """Return whether a ratio can be trusted, and why not.

    What slows both alike leaves the ratio where it is, but not exactly: with a hog on the same
    core the raw median was 14.6 % off and the ratio 2 to 2.6 % (x86, see docs/measurement.md),
    and its interval, which knows nothing of that, was narrower. So others' work, and a device
    that held itself back, spoil a ratio of which more than +-3 % is asked, and leave a coarser
    one. A lower clock alone is forgiven where the level moved and the subject followed it as
    the reference did (elasticity 0.9 to 1.1): the ratio is the same at both clocks then.

    Args:
        ratio: Of these windows, final.
        precision: What was asked, of the ratio.
        windows: The subject's.
        reference_windows: The reference's, alternated with them.
        circumstances: What else happened meanwhile.
    """
    ratios = [
        median(own.samples_s) / median(other.samples_s)
        for own, other in zip(windows, reference_windows, strict=False)
    ]
    findings = [
        *_disturbance(precision, windows, reference_windows, circumstances),
        *find_drift(ratios, ratio.ratio),
        *_instability(ratio, precision, windows, reference_windows),
    ]
    if not findings:
        return Judgement(verdict=Verdict.OK, evidence=())
    return Judgement(verdict=findings[0][0], evidence=tuple(text for _, text in findings))


def _disturbance(
    precision: Precision,
    windows: Sequence[Window],
    reference_windows: Sequence[Window],
    circumstances: Circumstances,
) -> list[tuple[Verdict, str]]:
    if precision.relative_half_width >= _ROBUST_TO:
        return []
    throttling = find_throttling(circumstances)
    if throttling:
        slope = elasticity(windows, reference_windows)
        if slope is not None and abs(slope - 1) <= _ALIKE_WITHIN:
            throttling = []
    return [*throttling, *find_contention(circumstances)]


def _instability(
    ratio: RatioStatistics,
    precision: Precision,
    windows: Sequence[Window],
    reference_windows: Sequence[Window],
) -> list[tuple[Verdict, str]]:
    if normalise(windows, reference_windows) is None:
        return [
            (
                Verdict.UNSTABLE,
                f"the ratio moves: neighbouring windows agree more than distant ones "
                f"(autocorrelation {ratio.autocorrelation or 0.0:.2f}), "
                f"the interval is too narrow",
            )
        ]
    if ratio.relative_half_width <= precision.relative_half_width:
        return []
    return [
        (
            Verdict.UNSTABLE,
            f"the ratio's interval is +-{ratio.relative_half_width:.1%}, "
            f"asked was +-{precision.relative_half_width:.1%}",
        )
    ]


def _pooled_ratio(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    own = median(itertools.chain(*(samples for samples, _ in pairs)))
    return own / median(itertools.chain(*(samples for _, samples in pairs)))
