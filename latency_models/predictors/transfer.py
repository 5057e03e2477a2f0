"""A new board's times from another board's model and few measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.blocks import Decomposition
from boardfront.latency_models.predictors.additive import BlockTimes
from boardfront.latency_models.predictors.base import (
    SMALLEST_WEIGHT_TIME,
    BlockIndex,
    FloatArray,
    LatencyModel,
    NetworkFeatures,
    NotFittedError,
    Prediction,
    check_times,
)
from boardfront.latency_models.predictors.intervals import around, student_quantile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from boardfront.latency_models.blocks import BlockKey

_MIN_NETWORKS = 3

# Logarithms of variances, in units of the median time: where each begins, and how far, as a
# standard deviation, the data may well draw it from there.
_CONSTANT = -2.0
_TERM = -1.0
_NOISE = -4.5
_FREEDOM = 1.5

_FIRST_STEP = 2.0
_STEP_FACTOR = 0.6
_SWEEPS = 10


class TransferModel:
    """Times as a sum of terms whose sizes a few measurements of the new board decide.

    The terms are a constant, the other board's prediction, each feature, and the counts of blocks.
    A Gaussian process with one linear kernel a term, and a variance for each that maximises the
    marginal likelihood times a prior: with 10 measurements few coarse terms explain what can be
    explained, with 100 each block gets a time of its own. So it goes over into ridge regression
    on block counts by itself, and where the other board tells nothing its term vanishes.

    Source: sums of kernels and their choice by evidence, C. E. Rasmussen and C. K. I. Williams,
    Gaussian Processes for Machine Learning, 2006, sections 2.7 and 5.4. The task (a new board from
    about 10 measurements and other boards' times) is that of H. Lee, S. Lee, S. Chong and
    S. J. Hwang, Hardware-adaptive Efficient Latency Prediction for NAS via Meta-Learning, NeurIPS
    2021. Deviation: they meta-learn a neural network on a pool of boards and describe the new one
    by its times of reference networks; here is one source board, no network, and no training
    before the measurements.

    Args:
        source: Fitted on the other board; never fitted here. None: terms of the features alone.
        features: Of networks, 0 or above; None: none.
        blocks: The columns of counts, None takes those of the networks fitted on. A block that
            none of them had counts as nothing, and widens the interval.
    """

    def __init__(
        self,
        source: LatencyModel | None,
        features: NetworkFeatures | None = None,
        blocks: Sequence[BlockKey] | None = None,
    ) -> None:
        self._source = source
        self._features = features
        self._blocks = None if blocks is None else tuple(blocks)
        self._index: BlockIndex | None = None
        self._scales: FloatArray = np.ones(0)
        self._fit: _Process | None = None

    @property
    def name(self) -> str:
        """What to call it in print."""
        return "transfer" if self._source is None else f"transfer from {self._source.name}"

    @property
    def shares(self) -> Mapping[str, float]:
        """How much of the variance each term has, before any measurement, 0 to 1: what counts."""
        if self._fit is None:
            raise NotFittedError(self.name)
        sizes = np.exp(self._fit.logs[:-1])
        names = ["constant"]
        if self._source is not None:
            names.append("source")
        if self._features is not None:
            names.extend(self._features.names)
        names.append("blocks")
        return dict(zip(names, map(float, sizes / sizes.sum()), strict=True))

    def fit(
        self,
        decompositions: Sequence[Decomposition],
        times_s: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        """Learn from at least 3 networks of the new board, see `LatencyModel.fit`."""
        times, given = check_times(
            len(decompositions), times_s, weights, at_least=_MIN_NETWORKS, name=self.name
        )
        self._fit = None
        blocks = self._blocks
        self._index = BlockIndex.of(decompositions) if blocks is None else BlockIndex(blocks)
        single, counts = self._columns(decompositions)
        scales = np.abs(np.column_stack([single, counts.sum(1)])).mean(0)
        self._scales = np.where(scales > 0, scales, 1.0)
        self._fit = _fit_process(self._terms(single, counts), times, given)

    def predict(self, decompositions: Sequence[Decomposition]) -> Prediction:
        """Return the times of networks on the new board."""
        if self._fit is None or self._index is None:
            raise NotFittedError(self.name)
        single, counts = self._columns(decompositions)
        unknown = self._index.split(decompositions)[1]
        squares = np.zeros(len(counts))
        for row, others in unknown.items():
            squares[row] = sum(number**2 for number in others.values())
        return self._fit.predict(self._terms(single, counts), squares / self._scales[-1] ** 2)

    def block_times(self, blocks: Sequence[BlockKey], network: Decomposition) -> BlockTimes:
        """Return what the new board's blocks take, by the differences that they make.

        All terms but the other board's prediction are sums over blocks. Where that is one as
        well, these times and the fixed part sum to what `predict` says of any network of these
        blocks. The intervals hold what the measurements leave open; not the networks' noise.

        Args:
            blocks: Each once, those of `network` among them.
            network: To which each block is added in turn. One of typical size: a prediction that
                is cut off at 0 makes no differences.

        Raises:
            UnknownBlockError: `network` has a block that is not in `blocks`.
        """
        if self._fit is None:
            raise NotFittedError(self.name)
        counts = BlockIndex(blocks).counts([network])
        longer = [Decomposition(blocks=(*network.blocks, block)) for block in blocks]
        terms = self._terms(*self._columns([network, *longer]))
        added = [term[1:] - term[:1] for term in terms]
        fixed = [term[:1] - counts @ more for term, more in zip(terms, added, strict=True)]
        times_s, halves_s = self._fit.spans(added)
        fixed_s, fixed_half_s = self._fit.spans(fixed)
        return BlockTimes(
            blocks=tuple(blocks),
            times_s=times_s,
            low_s=times_s - halves_s,
            high_s=times_s + halves_s,
            fixed_s=float(fixed_s[0]),
            fixed_half_s=float(fixed_half_s[0]),
        )

    def _columns(self, decompositions: Sequence[Decomposition]) -> tuple[FloatArray, FloatArray]:
        """Return the terms of one column side by side, and the counts."""
        assert self._index is not None  # noqa: S101 - set by fit, which alone leads here
        columns = [np.ones((len(decompositions), 1))]
        if self._source is not None:
            columns.append(self._source.predict(decompositions).median_s[:, None])
        if self._features is not None:
            columns.append(self._features.sums(decompositions))
        return np.hstack(columns), self._index.split(decompositions)[0]

    def _terms(self, single: FloatArray, counts: FloatArray) -> list[FloatArray]:
        scaled = single / self._scales[:-1]
        return [*np.hsplit(scaled, scaled.shape[1]), counts / self._scales[-1]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Process:
    """A Gaussian process with a linear kernel a term.

    Args:
        logs: Logarithms of the terms' variances, then of the noise's.
        terms: Of the networks fitted on, each of shape (networks, columns).
        unit_s: The median time: what all is relative to.
        root: Lower triangle of the covariance of the times.
        answers: The covariance's inverse times the times.
        floor: Smallest relative time that the noise goes with; None: the noise is the same.
    """

    logs: FloatArray
    terms: list[FloatArray]
    unit_s: float
    root: FloatArray
    answers: FloatArray
    floor: float | None

    def predict(self, terms: list[FloatArray], unknown: FloatArray) -> Prediction:
        """Return times; `unknown` holds the squared counts of blocks without a column."""
        sizes = np.exp(self.logs)
        mean, variance = self._line(terms, sizes[-2] * unknown)
        level = np.ones_like(mean) if self.floor is None else np.maximum(mean, self.floor)
        half = self._quantile * np.sqrt(variance + sizes[-1] * level**2)
        return around(mean * self.unit_s, half * self.unit_s)

    def spans(self, terms: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Return parts of times and half of their intervals' widths, without noise, seconds."""
        mean, variance = self._line(terms, np.zeros(len(terms[0])))
        return mean * self.unit_s, self._quantile * np.sqrt(variance) * self.unit_s

    @property
    def _quantile(self) -> float:
        return student_quantile(len(self.answers) - 1)

    def _line(self, terms: list[FloatArray], prior: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and variance without noise; `prior` is variance that no term has."""
        weights = [size * (mine.T @ self.answers) for size, mine in self._sized()]
        mean = sum(
            (term @ weight for term, weight in zip(terms, weights, strict=True)),
            np.zeros(len(prior)),
        )
        across = np.zeros((len(self.answers), len(prior)))
        for (size, mine), term in zip(self._sized(), terms, strict=True):
            prior = prior + size * (term**2).sum(1)
            across += size * (mine @ term.T)
        explained = (np.linalg.solve(self.root, across) ** 2).sum(0)
        return mean, np.maximum(prior - explained, 0.0)

    def _sized(self) -> list[tuple[float, FloatArray]]:
        return list(zip(np.exp(self.logs[:-1]), self.terms, strict=True))


def _fit_process(terms: list[FloatArray], times: FloatArray, weights: FloatArray) -> _Process:
    unit_s = float(np.median(times))
    targets = times / unit_s
    # Weights say what squared errors count: their inverses are the noise's variances.
    level = 1 / weights / unit_s**2
    relative = np.maximum(targets, SMALLEST_WEIGHT_TIME) ** 2
    kernels = np.stack([term @ term.T for term in terms])
    middle = np.array([_CONSTANT, *[_TERM] * (len(terms) - 1), _NOISE])
    same = bool(np.allclose(level, relative))
    noise = level if same else level / level.mean()
    logs = _climb(middle, kernels, noise, targets)
    covariance = _covariance(logs, kernels, noise)
    return _Process(
        logs=logs,
        terms=terms,
        unit_s=unit_s,
        root=np.asarray(np.linalg.cholesky(covariance), dtype=np.float64),
        answers=np.asarray(np.linalg.solve(covariance, targets), dtype=np.float64),
        floor=SMALLEST_WEIGHT_TIME if same else None,
    )


def _climb(
    middle: FloatArray, kernels: FloatArray, noise: FloatArray, targets: FloatArray
) -> FloatArray:
    """Return the most likely logarithms: one after the other up and down, by ever less.

    A pattern search (R. Hooke and T. A. Jeeves, Journal of the ACM 8, 1961) without its long
    moves: it needs no derivative and no other library, and always ends at the same place.
    """

    def cost(logs: FloatArray) -> float:
        try:
            root = np.linalg.cholesky(_covariance(logs, kernels, noise))
        except np.linalg.LinAlgError:
            return float("inf")
        fit = np.linalg.solve(root, targets)
        prior = ((logs - middle) / _FREEDOM) ** 2
        return float(fit @ fit / 2 + np.log(np.diag(root)).sum() + prior.sum() / 2)

    here, step = middle, _FIRST_STEP
    least = cost(here)
    for _ in range(_SWEEPS):
        for position in range(len(here)):
            for sign in (1, -1):
                there = here.copy()
                there[position] += sign * step
                found = cost(there)
                if found < least:
                    here, least = there, found
                    break
        step *= _STEP_FACTOR
    return here


def _covariance(logs: FloatArray, kernels: FloatArray, noise: FloatArray) -> FloatArray:
    sizes = np.exp(logs)
    found = np.tensordot(sizes[:-1], kernels, axes=1)
    return np.asarray(found + np.diag(sizes[-1] * noise), dtype=np.float64)
