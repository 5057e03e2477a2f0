"""What a sum of blocks leaves over, learned from features of whole networks."""

from __future__ import annotations

import enum
import warnings
from typing import TYPE_CHECKING, Protocol

import numpy as np

from boardfront.latency_models.predictors.base import (
    FloatArray,
    LatencyModel,
    NetworkFeatures,
    NotFittedError,
    Prediction,
    check_times,
)
from boardfront.latency_models.predictors.intervals import student_quantile
from boardfront.latency_models.predictors.ridge import RidgeFit, fit_ridge

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from boardfront.latency_models.blocks import Decomposition

_MIN_NETWORKS = 5
_FOLDS = 5
_SMALLEST = 1e-3
"""Of a feature, over its median."""


class Learner(enum.Enum):
    """What learns the residual."""

    RIDGE = "ridge"
    BOOSTING = "gradient boosting"
    GAUSSIAN_PROCESS = "Gaussian process"


class ResidualModel:
    """Another model's predictions times a factor that is learned from features.

    The logarithm of measured over predicted time is regressed on the logarithms of the base's
    prediction and of the features over it: multiply-accumulates and parameters a second tell a
    network that waits for its arithmetic from one that waits for its memory (the roofline: S.
    Williams, A. Waterman and D. Patterson, Communications of the ACM 52(4), 2009). The interval is
    of the learned residual; the base's own is not added, since its errors are what the residual's
    noise was estimated on.

    scikit-learn is imported by boosting and the Gaussian process when they are fitted; ridge
    needs numpy alone. The Gaussian process takes no weights: all networks count alike.

    Args:
        base: Fitted on the same networks first; owned by this model from then on.
        features: Of networks, 0 or above.
        learner: What learns.
        seed: Of boosting's samples and the folds that its noise is estimated on.
    """

    def __init__(
        self,
        base: LatencyModel,
        features: NetworkFeatures,
        learner: Learner = Learner.GAUSSIAN_PROCESS,
        seed: int = 0,
    ) -> None:
        self._base = base
        self._features = features
        self._learner = learner
        self._seed = seed
        self._regressor: _Regressor | None = None
        self._middle: FloatArray = np.zeros(0)
        self._scale: FloatArray = np.ones(0)
        self._unit: FloatArray = np.ones(0)
        self._networks = 0

    @property
    def name(self) -> str:
        """What to call it in print."""
        return f"{self._base.name} + {self._learner.value}"

    def fit(
        self,
        decompositions: Sequence[Decomposition],
        times_s: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        """Learn from at least 5 measured networks, see `LatencyModel.fit`."""
        times, given = check_times(
            len(decompositions), times_s, weights, at_least=_MIN_NETWORKS, name=self.name
        )
        self._regressor = None
        self._base.fit(decompositions, times, None if weights is None else given)
        base_s = self._base_times(decompositions)
        sums = self._features.sums(decompositions)
        middle = np.median(sums, axis=0)
        self._unit = np.where(middle > 0, middle, 1.0)
        raw = self._raw(base_s, sums)
        self._middle, spread = raw.mean(0), raw.std(0)
        self._scale = np.where(spread > 1e-9, spread, 1.0)
        design = (raw - self._middle) / self._scale
        regressor = _make(self._learner, self._seed)
        counted = given * times**2
        regressor.fit(design, np.log(times / base_s), counted / counted.mean())
        self._networks, self._regressor = len(times), regressor

    def predict(self, decompositions: Sequence[Decomposition]) -> Prediction:
        """Return the times of networks."""
        if self._regressor is None:
            raise NotFittedError(self.name)
        base_s = self._base_times(decompositions)
        raw = self._raw(base_s, self._features.sums(decompositions))
        residual, spread = self._regressor.predict((raw - self._middle) / self._scale)
        median_s = base_s * np.exp(residual)
        # A factor beyond e^5 says no more than that nothing is known.
        factor = np.exp(np.minimum(student_quantile(self._networks - 1) * spread, 5.0))
        return Prediction(median_s=median_s, low_s=median_s / factor, high_s=median_s * factor)

    def _base_times(self, decompositions: Sequence[Decomposition]) -> FloatArray:
        """The base's predictions, none so small that its logarithm would lead astray."""
        base_s = self._base.predict(decompositions).median_s
        if not len(base_s):
            return base_s
        floor_s = max(1e-3 * float(np.median(base_s)), 1e-12)
        return np.maximum(base_s, floor_s)

    def _raw(self, base_s: FloatArray, sums: FloatArray) -> FloatArray:
        # None so small that its logarithm would lead astray.
        sizes = np.maximum(sums / self._unit, _SMALLEST)
        return np.column_stack([np.log(base_s), np.log(sizes / base_s[:, None])])


class _Regressor(Protocol):
    """Predicts a number with its standard deviation from standardised rows."""

    def fit(self, design: FloatArray, targets: FloatArray, weights: FloatArray) -> None:
        """Learn from rows of shape (rows, columns)."""

    def predict(self, design: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return medians and standard deviations, the target's noise in them."""


class _Ridge:
    def __init__(self) -> None:
        self._fit: RidgeFit | None = None

    def fit(self, design: FloatArray, targets: FloatArray, weights: FloatArray) -> None:
        self._fit = fit_ridge(design, targets, weights)

    def predict(self, design: FloatArray) -> tuple[FloatArray, FloatArray]:
        if self._fit is None:
            raise NotFittedError("ridge")
        return self._fit.predict(design), np.sqrt(self._fit.variances(design) + self._fit.noise)


class _GaussianProcess:
    """A smooth function of the features, on a scale that the data choose, plus noise.

    Source: C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, 2006,
    chapters 2 and 5.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._scale = 1.0
        self._process: _SklearnRegressor | None = None

    def fit(self, design: FloatArray, targets: FloatArray, weights: FloatArray) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        del weights
        self._scale = float(np.sqrt(np.mean(targets**2))) or 1.0
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(2.0, (0.3, 100.0)) + WhiteKernel(
            0.3, (1e-3, 2.0)
        )
        process = GaussianProcessRegressor(
            kernel, n_restarts_optimizer=1, random_state=self._seed, copy_X_train=True
        )
        with warnings.catch_warnings():
            # A scale at its bound is an answer: the residual is flat, or nothing but noise.
            warnings.simplefilter("ignore", ConvergenceWarning)
            process.fit(design, targets / self._scale)
        self._process = process

    def predict(self, design: FloatArray) -> tuple[FloatArray, FloatArray]:
        if self._process is None:
            raise NotFittedError(Learner.GAUSSIAN_PROCESS.value)
        if not len(design):
            return np.zeros(0), np.zeros(0)
        mean, spread = self._process.predict(design, return_std=True)
        return mean * self._scale, spread * self._scale


class _Boosting:
    """Shallow trees, each on what those before it left over.

    Source: J. H. Friedman, Stochastic gradient boosting, Computational Statistics and Data
    Analysis 38, 2002. It has no noise of its own: that is taken from folds left out.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._spread = 0.0
        self._trees: _SklearnTrees | None = None

    def fit(self, design: FloatArray, targets: FloatArray, weights: FloatArray) -> None:
        order = np.random.default_rng(self._seed).permutation(len(targets))
        errors = np.empty(len(targets))
        for part in np.array_split(order, min(_FOLDS, len(targets))):
            rest = np.setdiff1d(order, part)
            trees = self._grow(design[rest], targets[rest], weights[rest])
            errors[part] = targets[part] - trees.predict(design[part])
        self._spread = float(np.sqrt(np.average(errors**2, weights=weights)))
        self._trees = self._grow(design, targets, weights)

    def predict(self, design: FloatArray) -> tuple[FloatArray, FloatArray]:
        if self._trees is None:
            raise NotFittedError(Learner.BOOSTING.value)
        spread = np.full(len(design), self._spread)
        if not len(design):
            return spread, spread
        return self._trees.predict(design), spread

    def _grow(self, design: FloatArray, targets: FloatArray, weights: FloatArray) -> _SklearnTrees:
        from sklearn.ensemble import GradientBoostingRegressor

        trees: _SklearnTrees = GradientBoostingRegressor(
            n_estimators=150,
            learning_rate=0.05,
            max_depth=2,
            min_samples_leaf=3,
            subsample=0.8,
            random_state=self._seed,
        )
        trees.fit(design, targets, sample_weight=weights)
        return trees


class _SklearnRegressor(Protocol):
    def predict(self, rows: FloatArray, *, return_std: bool) -> tuple[FloatArray, FloatArray]: ...


class _SklearnTrees(Protocol):
    def fit(
        self, rows: FloatArray, targets: FloatArray, *, sample_weight: FloatArray
    ) -> object: ...

    def predict(self, rows: FloatArray) -> FloatArray: ...


def _make(learner: Learner, seed: int) -> _Regressor:
    if learner is Learner.RIDGE:
        return _Ridge()
    if learner is Learner.BOOSTING:
        return _Boosting(seed)
    return _GaussianProcess(seed)
