"""Intervals that cover as promised: as wide as errors on networks left out say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.predictors.base import (
    FloatArray,
    LatencyModel,
    NotFittedError,
    Prediction,
    check_times,
)
from boardfront.latency_models.predictors.intervals import conformal_quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from boardfront.latency_models.blocks import Decomposition

_LEAST_HALF = 0.002
"""Half-widths count as no smaller than this share of the time: a model that is sure of one
network beyond reason must not stretch the intervals of all."""


class CalibratedModel:
    """A model whose intervals are stretched or shrunk until 95 % of times left out lie inside.

    Cross-conformal: the model is fitted on all folds but one and scored on that one, by
    |measured - predicted| over the half-width of its own interval; the interval's factor is the
    conformal quantile of all scores. So the model says where it is unsure, and the data how much.

    Source: R. F. Barber, E. J. Candes, A. Ramdas and R. J. Tibshirani, Predictive inference with
    the jackknife+, Annals of Statistics 49, 2021, section 3 (CV+); scores over a width: J. Lei,
    M. G'Sell, A. Rinaldo, R. J. Tibshirani and L. Wasserman, Distribution-free predictive
    inference for regression, JASA 113, 2018, section 5.2. Deviation: the interval stands around
    the prediction of the model fitted on all networks, so the coverage is not guaranteed free of
    assumptions but holds as far as the model is stable. Networks must be drawn as those that
    shall be predicted. Fewer than 19 networks: see `conformal_quantile`.

    Args:
        make: Makes the model, each time a new one.
        folds: At most so many; as many as there are networks leaves one out each time.
        seed: Of the folds.
        judged: Indexes of the networks to fit on that may be left out and scored; the others are
            learned from each time. None: all of them.
    """

    def __init__(
        self,
        make: Callable[[], LatencyModel],
        folds: int = 10,
        seed: int = 0,
        judged: Sequence[int] | None = None,
    ) -> None:
        self._make = make
        self._folds = folds
        self._seed = seed
        self._judged = judged
        self._model = make()
        self._factor: float | None = None

    @property
    def name(self) -> str:
        """What to call it in print."""
        return self._model.name

    @property
    def model(self) -> LatencyModel:
        """What is fitted on all networks."""
        return self._model

    @property
    def factor(self) -> float:
        """By how much the model's own intervals were stretched; about 1 for an honest one."""
        if self._factor is None:
            raise NotFittedError(self.name)
        return self._factor

    def fit(
        self,
        decompositions: Sequence[Decomposition],
        times_s: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        """Learn from at least 4 measured networks, see `LatencyModel.fit`."""
        times, given = check_times(
            len(decompositions), times_s, weights, at_least=4, name=self.name
        )
        self._factor = None
        rng = np.random.default_rng(self._seed)
        scores = np.full(len(times), np.nan)
        for rest, part in split(len(times), self._folds, rng, self._judged):
            model = self._make()
            model.fit(
                [decompositions[i] for i in rest],
                times[rest],
                None if weights is None else given[rest],
            )
            found = model.predict([decompositions[i] for i in part])
            scores[part] = np.abs(times[part] - found.median_s) / _half_s(found)
        self._model = self._make()
        self._model.fit(decompositions, times, None if weights is None else given)
        self._factor = conformal_quantile(scores[~np.isnan(scores)])

    def predict(self, decompositions: Sequence[Decomposition]) -> Prediction:
        """Return the times of networks."""
        factor = self.factor
        return _stretched(self._model.predict(decompositions), factor)


class FrozenModel:
    """A model that stays as it was fitted: new networks say only how wide its intervals are.

    Split conformal: the factor on the model's own intervals is the conformal quantile of
    |measured - predicted| over their half-widths, on networks that built nothing in the model.

    Source: H. Papadopoulos, K. Proedrou, V. Vovk and A. Gammerman, Inductive confidence machines
    for regression, ECML 2002; scores over a width as in `CalibratedModel`. Networks must be drawn
    as those that shall be predicted. Fewer than 19 networks: see `conformal_quantile`.

    Args:
        model: Fitted. Before `fit` its own intervals hold.
    """

    def __init__(self, model: LatencyModel) -> None:
        self._model = model
        self._factor = 1.0

    @property
    def name(self) -> str:
        """What to call it in print."""
        return self._model.name

    @property
    def factor(self) -> float:
        """By how much the model's own intervals were stretched; about 1 for an honest one."""
        return self._factor

    def fit(
        self,
        decompositions: Sequence[Decomposition],
        times_s: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        """Learn the intervals from measured networks, see `LatencyModel.fit`; none: its own."""
        times, _ = check_times(len(decompositions), times_s, weights, at_least=0, name=self.name)
        self._factor = 1.0
        if len(times):
            found = self._model.predict(decompositions)
            self._factor = conformal_quantile(np.abs(times - found.median_s) / _half_s(found))

    def predict(self, decompositions: Sequence[Decomposition]) -> Prediction:
        """Return the times of networks."""
        return _stretched(self._model.predict(decompositions), self._factor)


def split(
    networks: int, folds: int, rng: np.random.Generator, judged: Sequence[int] | None = None
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Yield for each fold the others' indexes and its own, in a random order.

    Args:
        networks: How many there are.
        folds: At most so many.
        rng: Parts them.
        judged: Indexes that are in a fold, each in one; the others never are. None: all.
    """
    order = rng.permutation(np.arange(networks) if judged is None else np.array(judged, np.intp))
    for part in np.array_split(order, min(folds, len(order))):
        yield np.setdiff1d(np.arange(networks), part), np.sort(part)


def _half_s(found: Prediction) -> FloatArray:
    half_s = np.maximum(found.high_s - found.median_s, found.median_s - found.low_s)
    least = np.maximum(_LEAST_HALF * found.median_s, 1e-12)
    return np.asarray(np.maximum(half_s, least), dtype=np.float64)


def _stretched(found: Prediction, factor: float) -> Prediction:
    half_s = factor * _half_s(found)
    return Prediction(
        median_s=found.median_s,
        low_s=np.maximum(found.median_s - half_s, 0.0),
        high_s=found.median_s + half_s,
    )
