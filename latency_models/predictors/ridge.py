"""Ridge regression, and whole networks' times from how often they have each block."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.predictors.base import (
    SMALLEST_WEIGHT_TIME,
    BlockIndex,
    FloatArray,
    NotFittedError,
    Prediction,
    check_times,
)
from boardfront.latency_models.predictors.intervals import around, student_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from boardfront.latency_models.blocks import BlockKey, Decomposition

_PENALTIES = np.logspace(-8, 2, 61)
"""Tried, as shares of the largest squared singular value."""

_SMALLEST_FREE = 1e-12
"""Least that 1 - leverage counts as."""


class Criterion(enum.Enum):
    """What the penalty is chosen by."""

    LEAVE_ONE_OUT = "leave-one-out"
    GENERALISED = "generalised cross-validation"


@dataclass(frozen=True, kw_only=True, slots=True)
class RidgeFit:
    """A line through weighted points, its slopes held small.

    Args:
        mean_design: Shape (columns,): weighted mean of the rows.
        mean_target: Weighted mean of the targets.
        coefficients: Shape (columns,).
        penalty: What a squared coefficient costs.
        noise: Variance of a target of weight 1 about the line, from leave-one-out errors.
        left_out: Shape (rows,): each row's error when it is left out, in targets.
        directions: Shape (rank, columns): of the design's rows, orthonormal.
        strengths: Shape (rank,): their squared singular values.
        weight: Sum of the weights.
    """

    mean_design: FloatArray
    mean_target: float
    coefficients: FloatArray
    penalty: float
    noise: float
    left_out: FloatArray
    directions: FloatArray
    strengths: FloatArray
    weight: float

    def predict(self, design: FloatArray) -> FloatArray:
        """Return the line at rows of shape (rows, columns), shape (rows,)."""
        slopes = (design - self.mean_design) @ self.coefficients
        return np.asarray(self.mean_target + slopes, dtype=np.float64)

    def variances(self, design: FloatArray) -> FloatArray:
        """Return the variance of the line itself at these rows, without a target's noise.

        Directions in which the fit had no data count with the variance of the prior that the
        penalty stands for, noise / penalty.
        """
        away = design - self.mean_design
        seen = away @ self.directions.T
        unseen = np.maximum((away**2).sum(1) - (seen**2).sum(1), 0.0)
        spread = (seen**2 / (self.strengths + self.penalty)).sum(1) + unseen / self.penalty
        return np.asarray(self.noise * (spread + 1 / self.weight), dtype=np.float64)


def fit_ridge(
    design: FloatArray,
    targets: FloatArray,
    weights: FloatArray,
    criterion: Criterion = Criterion.LEAVE_ONE_OUT,
) -> RidgeFit:
    """Fit weighted ridge regression; the intercept is free, the penalty found by the data.

    Source: A. E. Hoerl and R. W. Kennard, Ridge regression, Technometrics 12, 1970; leave-one-out
    errors from the leverages: D. M. Allen, The relationship between variable selection and data
    augmentation and a method for prediction, Technometrics 16, 1974; generalised
    cross-validation: G. H. Golub, M. Heath and G. Wahba, Technometrics 21, 1979. Deviation: the
    noise is estimated from leave-one-out errors, so that it holds the penalty's bias too.

    Args:
        design: Shape (rows, columns), at least 3 rows.
        targets: Shape (rows,).
        weights: Shape (rows,), above 0.
        criterion: What the penalty is chosen by.
    """
    root, total = np.sqrt(weights), float(weights.sum())
    mean_design, mean_target = weights @ design / total, float(weights @ targets) / total
    scaled = (design - mean_design) * root[:, None]
    left = (targets - mean_target) * root
    vectors, singular, directions = np.linalg.svd(scaled, full_matrices=False)
    strengths = singular**2
    kept = strengths > 1e-12 * max(float(strengths.max(initial=0.0)), 1e-300)
    vectors, strengths, directions = vectors[:, kept], strengths[kept], directions[kept]
    along = vectors.T @ left
    penalty, rest, free = _least(left, vectors, strengths, weights / total, criterion)
    return RidgeFit(
        mean_design=mean_design,
        mean_target=mean_target,
        coefficients=directions.T @ (np.sqrt(strengths) * along / (strengths + penalty)),
        penalty=penalty,
        noise=float(np.mean(rest**2 / free)),
        left_out=rest / free / root,
        directions=directions,
        strengths=strengths,
        weight=total,
    )


class RidgeModel:
    """Whole networks' times as a sum over their blocks, learned from whole networks alone.

    For spaces of few distinct blocks: it needs several networks a block that matters. A block
    that no measured network had counts as nothing, and widens the interval by as much as blocks
    differ.

    Args:
        blocks: All that may occur, in any order; None takes those of the networks fitted on.
        criterion: What the penalty is chosen by.
    """

    def __init__(
        self,
        blocks: Sequence[BlockKey] | None = None,
        criterion: Criterion = Criterion.LEAVE_ONE_OUT,
    ) -> None:
        self._blocks = None if blocks is None else tuple(blocks)
        self._criterion = criterion
        self._index: BlockIndex | None = None
        self._fit: RidgeFit | None = None
        self._networks = 0
        self._noise_s2 = 0.0
        self._smallest_s: float | None = None

    @property
    def name(self) -> str:
        """What to call it in print."""
        return "ridge on block counts"

    @property
    def blocks(self) -> tuple[BlockKey, ...]:
        """The columns of `predict_counts`."""
        if self._index is None:
            raise NotFittedError(self.name)
        return self._index.blocks

    @property
    def times_s(self) -> dict[BlockKey, float]:
        """What one more of each block adds, seconds: a table of its own, up to a constant."""
        if self._fit is None:
            raise NotFittedError(self.name)
        return dict(zip(self.blocks, map(float, self._fit.coefficients), strict=True))

    def fit(
        self,
        decompositions: Sequence[Decomposition],
        times_s: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        """Learn from at least 3 measured networks, see `LatencyModel.fit`."""
        times, given = check_times(
            len(decompositions), times_s, weights, at_least=3, name=self.name
        )
        blocks = self._blocks
        self._index = BlockIndex.of(decompositions) if blocks is None else BlockIndex(blocks)
        counts = self._index.counts(decompositions)
        self._fit = fit_ridge(counts, times, given, self._criterion)
        self._networks = len(times)
        self._noise_s2 = self._fit.noise * float(np.mean(1 / given))
        smallest_s = SMALLEST_WEIGHT_TIME * float(np.median(times))
        self._smallest_s = smallest_s if weights is None else None

    def predict(self, decompositions: Sequence[Decomposition]) -> Prediction:
        """Return the times of networks."""
        if self._index is None:
            raise NotFittedError(self.name)
        counts, unknown = self._index.split(decompositions)
        squares = np.zeros(len(counts))
        for row, others in unknown.items():
            squares[row] = sum(number**2 for number in others.values())
        return self._predict(counts, squares)

    def predict_counts(self, counts: npt.NDArray[np.integer] | FloatArray) -> Prediction:
        """Return the times of networks given as block counts.

        Args:
            counts: Shape (networks, blocks), in the order of `blocks`.
        """
        rows = np.asarray(counts, dtype=np.float64)
        return self._predict(rows, np.zeros(len(rows)))

    def _predict(self, counts: FloatArray, unknown_squares: FloatArray) -> Prediction:
        fit = self._fit
        if fit is None:
            raise NotFittedError(self.name)
        median_s = fit.predict(counts)
        variance = fit.variances(counts)
        if fit.penalty:
            variance = variance + fit.noise * unknown_squares / fit.penalty
        if self._smallest_s is None:
            variance = variance + self._noise_s2
        else:
            variance = variance + fit.noise * np.maximum(median_s, self._smallest_s) ** 2
        return around(median_s, student_quantile(self._networks - 1) * np.sqrt(variance))


def _least(
    left: FloatArray,
    vectors: FloatArray,
    strengths: FloatArray,
    shares: FloatArray,
    criterion: Criterion,
) -> tuple[float, FloatArray, FloatArray]:
    """Return the best penalty, the rows' errors under it and 1 - their leverages."""
    along = vectors.T @ left
    # What no penalty fits, and what it holds back: written so, not as differences from 1, both
    # stay exact where there are more columns than rows and a small penalty fits every row.
    outside = left - vectors @ along
    free_outside = np.maximum(1 - shares - (vectors**2).sum(1), 0.0)
    largest = float(strengths[0]) if len(strengths) else 1.0
    best, least = (largest, left, np.ones_like(left)), np.inf
    for penalty in largest * _PENALTIES:
        held = penalty / (strengths + penalty)
        rest = outside + vectors @ (held * along)
        free = np.maximum(free_outside + (vectors**2) @ held, _SMALLEST_FREE)
        score = _score(rest, free, criterion)
        if score < least:
            best, least = (float(penalty), rest, free), score
    return best


def _score(rest: FloatArray, free: FloatArray, criterion: Criterion) -> float:
    if criterion is Criterion.GENERALISED:
        return float(np.mean(rest**2) / np.mean(free) ** 2)
    return float(np.mean((rest / free) ** 2))
