"""How far predictions are from the truth, and how far the truth is from itself.

Pure functions over arrays of the same length, one value a network. A prediction's error is always
signed and relative to what was measured: predicted / measured - 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from boardfront.protos.errors import WrongInputError
from boardfront.protos.intervals import CONFIDENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

_MIN_RANKED = 3
"""Fewest networks whose order says anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A share of networks, with the interval that so few of them allow.

    Args:
        value: 0 to 1.
        low: Of its 95 % interval (Wilson).
        high: Of that interval.
        count: How many networks it is.
        of: Of how many.
    """

    value: float
    low: float
    high: float
    count: int
    of: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseFloor:
    """How well repeats of the truth agree. No model is better than its truth.

    A repeat differs from what was measured first by two errors, a perfect model by one: it would
    be off by mape / sqrt(2).

    Args:
        mape: Mean of |repeat - measured| / measured.
        repeats: How many repeats that is of.
    """

    mape: float
    repeats: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """What predictions of whole networks are worth.

    Args:
        networks: How many.
        mape: Mean of |error|.
        within_5: Share of networks whose |error| is at most 5 %.
        within_10: The same for 10 %.
        worst: The largest error, signed.
        worst_index: Which network has it.
        bias: Mean of the signed errors.
        spread: Standard deviation of the measured times over their mean: where all networks take
            nearly as long, a rank correlation says little.
        spearman: Rank correlation; None where the ranks do not tell.
        kendall: The same, tau-b.
        noise_floor: Of the measured times; None where nothing was repeated.
    """

    networks: int
    mape: float
    within_5: Share
    within_10: Share
    worst: float
    worst_index: int
    bias: float
    spread: float
    spearman: float | None
    kendall: float | None
    noise_floor: NoiseFloor | None


def assess(
    predicted_s: npt.ArrayLike,
    measured_s: npt.ArrayLike,
    repeats_s: Sequence[Sequence[float]] = (),
) -> Accuracy:
    """Return what predictions are worth, beside the noise floor of their truth.

    Args:
        predicted_s: Shape (networks,), seconds.
        measured_s: Shape (networks,), seconds, above 0.
        repeats_s: For each network what measuring it anew gave; empty: nothing was repeated.

    Raises:
        WrongInputError: The arrays do not fit each other, or a time is not a positive number.
    """
    errors = relative_errors(predicted_s, measured_s)
    measured = np.asarray(measured_s, float)
    index = int(np.argmax(np.abs(errors)))
    return Accuracy(
        networks=len(errors),
        mape=float(np.mean(np.abs(errors))),
        within_5=within(predicted_s, measured_s, 0.05),
        within_10=within(predicted_s, measured_s, 0.10),
        worst=float(errors[index]),
        worst_index=index,
        bias=float(np.mean(errors)),
        spread=float(np.std(measured, ddof=min(1, len(measured) - 1)) / np.mean(measured)),
        spearman=spearman(predicted_s, measured_s),
        kendall=kendall(predicted_s, measured_s),
        noise_floor=noise_floor(measured_s, repeats_s) if repeats_s else None,
    )


def relative_errors(
    predicted_s: npt.ArrayLike, measured_s: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Return predicted / measured - 1, shape (networks,).

    Raises:
        WrongInputError: The arrays do not fit each other, or a time is not a positive number.
    """
    predicted, measured = _pair(predicted_s, measured_s)
    if not (measured > 0).all():
        raise WrongInputError(
            f"expected measured times above 0, got {float(measured.min()):.3g} s: "
            "leave out what was not measured"
        )
    return predicted / measured - 1


def mape(predicted_s: npt.ArrayLike, measured_s: npt.ArrayLike) -> float:
    """Return the mean of |predicted - measured| / measured.

    Raises:
        WrongInputError: As `relative_errors`.
    """
    return float(np.mean(np.abs(relative_errors(predicted_s, measured_s))))


def within(predicted_s: npt.ArrayLike, measured_s: npt.ArrayLike, limit: float) -> Share:
    """Return the share of networks whose |error| is at most `limit` (0.05 for 5 %).

    Raises:
        WrongInputError: As `relative_errors`.
    """
    errors = np.abs(relative_errors(predicted_s, measured_s))
    # A quotient of decimal numbers misses the limit by a rounding error; that is not over it.
    count, total = int((errors <= limit * (1 + 1e-12)).sum()), len(errors)
    low, high = wilson_interval(count, total)
    return Share(value=count / total, low=low, high=high, count=count, of=total)


def wilson_interval(
    successes: int, total: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the score interval of a binomial share; (0, 1) where nothing was tried.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference,
    Journal of the American Statistical Association 22, 1927. No continuity correction.

    Raises:
        WrongInputError: `successes` is not between 0 and `total`.
    """
    if not 0 <= successes <= total:
        raise WrongInputError(
            f"expected between 0 and {total} successes, got {successes}: count again"
        )
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, z2 = successes / total, z * z
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    # At the ends the formula gives 0 and 1 up to rounding.
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == total else min(1.0, middle + half)
    return low, high


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Return Spearman's rank correlation, ties at their mean rank.

    Returns:
        -1 to 1; None for fewer than 3 values, or where one side is all the same.

    Raises:
        WrongInputError: The arrays do not fit each other.
    """
    one, other = (_ranks(values) for values in _pair(first, second))
    one, other = one - one.mean(), other - other.mean()
    norm = math.sqrt(float(one @ one) * float(other @ other))
    if len(one) < _MIN_RANKED or norm == 0:
        return None
    return max(-1.0, min(1.0, float(one @ other) / norm))


def kendall(first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Return Kendall's tau-b: how many pairs stand in the same order, less those that do not.

    Source: M. G. Kendall, The treatment of ties in ranking problems, Biometrika 33, 1945. All
    pairs are compared, row by row: time grows with the square of the length, memory with it.

    Returns:
        -1 to 1; None for fewer than 3 values, or where one side is all the same.

    Raises:
        WrongInputError: The arrays do not fit each other.
    """
    one, other = _pair(first, second)
    agreement = untied_one = untied_other = 0
    for i in range(len(one) - 1):
        a = np.sign(one[i + 1 :] - one[i])
        b = np.sign(other[i + 1 :] - other[i])
        agreement += int(a @ b)
        untied_one += int(np.count_nonzero(a))
        untied_other += int(np.count_nonzero(b))
    if len(one) < _MIN_RANKED or not untied_one or not untied_other:
        return None
    return agreement / math.sqrt(untied_one * untied_other)


def noise_floor(
    measured_s: npt.ArrayLike, repeats_s: Sequence[Sequence[float]]
) -> NoiseFloor | None:
    """Return how far repeats are from what was measured first, or None if there are none.

    Args:
        measured_s: Shape (networks,), seconds, above 0.
        repeats_s: For each network its repeats, seconds, any number of them.

    Raises:
        WrongInputError: There is not one row of repeats a network, or a time is not positive.
    """
    measured = np.atleast_1d(np.asarray(measured_s, float))
    if len(measured) != len(repeats_s):
        raise WrongInputError(
            f"expected repeats of {len(measured)} networks, got of {len(repeats_s)}: "
            "give an empty row for a network that was not repeated"
        )
    lengths = [len(row) for row in repeats_s]
    flat = [repeat for row in repeats_s for repeat in row]
    if not flat:
        return None
    return NoiseFloor(mape=mape(flat, np.repeat(measured, lengths)), repeats=len(flat))


def _pair(
    first: npt.ArrayLike, second: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    one, other = np.asarray(first, float), np.asarray(second, float)
    if one.ndim != 1 or one.shape != other.shape or not len(one):
        raise WrongInputError(
            f"expected two rows of as many times, at least one, got shapes {one.shape} and "
            f"{other.shape}: give one prediction a measured network"
        )
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise WrongInputError(
            "expected finite times, got nan or infinity: leave out what failed, it has no time"
        )
    return one, other


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
