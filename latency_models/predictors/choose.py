"""Which model a space and a target get: decided by error on networks left out, never by name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.predictors.additive import AdditiveModel
from boardfront.latency_models.predictors.base import check_times
from boardfront.latency_models.predictors.conformal import CalibratedModel, split
from boardfront.latency_models.predictors.residual import Learner, ResidualModel
from boardfront.latency_models.predictors.ridge import RidgeModel
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from boardfront.latency_models.blocks import BlockKey, Decomposition
    from boardfront.latency_models.predictors.additive import BlockTimes
    from boardfront.latency_models.predictors.base import (
        FloatArray,
        LatencyModel,
        NetworkFeatures,
        Prediction,
    )

_MIN_NETWORKS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A model that may be chosen.

    Args:
        name: What to print.
        make: Makes the model, each time a new one.
    """

    name: str
    make: Callable[[], LatencyModel]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What a candidate is worth on networks left out.

    Args:
        name: Of the candidate.
        mape: Mean of |predicted - measured| / measured; None where it could not be fitted.
        standard_error: Of that mean over networks; None likewise.
        failure: Why it could not be fitted; empty where it was.
    """

    name: str
    mape: float | None
    standard_error: float | None
    failure: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The model chosen, fitted on all networks, and why.

    Args:
        model: With intervals calibrated on networks left out.
        name: Of the candidate.
        best: The candidate of the least error, which may be another.
        scores: In the order of the candidates.
        networks: How many they were tried on.
        folds: Parts that were left out in turn.
        repeats: How often the networks were parted anew.
    """

    model: CalibratedModel
    name: str
    best: str
    scores: tuple[Score, ...]
    networks: int
    folds: int
    repeats: int

    @property
    def lines(self) -> tuple[str, ...]:
        """What to print: the error of each candidate, the choice and the rule."""
        head = (
            f"mean error on networks left out ({self.networks} networks, {self.folds} folds, "
            f"{self.repeats} times):"
        )
        rows = tuple(f"  {score.name}: {_text(score)}" for score in self.scores)
        why = "least error" if self.name == self.best else f"as good as {self.best}, and simpler"
        rule = "the simplest within one standard error of the best"
        return (head, *rows, f"chosen: {self.name} ({why}; rule: {rule})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parting:
    """Which networks are left out in turn.

    Args:
        folds: At least 2; no more than networks that are left out are used.
        repeats: How often the networks are parted anew, at least 1.
        seed: Of the parting.
        judged: Indexes of the networks that are left out, where the others were seen by what the
            candidates are made from: those are learned from only. None: all.
    """

    folds: int = 5
    repeats: int = 3
    seed: int = 0
    judged: tuple[int, ...] | None = None


def usual_candidates(
    times: BlockTimes | None,
    features: NetworkFeatures | None,
    *,
    blocks: Sequence[BlockKey] | None = None,
    interpolate: Callable[[Sequence[BlockKey]], Prediction] | None = None,
    seed: int = 0,
) -> tuple[Candidate, ...]:
    """Return what is tried for a space and a target, the simplest first.

    Args:
        times: Of blocks; None where there is no table: then nothing is summed.
        features: Of networks; None: no residual is learned.
        blocks: All that may occur, for ridge; None where too many to list.
        interpolate: As for `AdditiveModel`.
        seed: Of what is learned.
    """
    found = [Candidate(name="ridge on block counts", make=lambda: RidgeModel(blocks))]
    if times is None:
        return tuple(found)
    found.insert(0, Candidate(name="additive", make=lambda: AdditiveModel(times, interpolate)))
    if features is None:
        return tuple(found)

    def residual(learner: Learner) -> Candidate:
        return Candidate(
            name=f"additive + {learner.value}",
            make=lambda: ResidualModel(AdditiveModel(times, interpolate), features, learner, seed),
        )

    return (*found, *map(residual, Learner))


def choose(
    candidates: Sequence[Candidate],
    decompositions: Sequence[Decomposition],
    times_s: npt.ArrayLike,
    parting: Parting | None = None,
) -> Choice:
    """Return the simplest candidate whose error is within one standard error of the least.

    Every candidate is fitted and scored on the same folds. A candidate that cannot be fitted on
    so few networks, or meets an unknown block, is left out with its reason.

    Source: L. Breiman, J. Friedman, R. Olshen and C. Stone, Classification and Regression Trees,
    1984, section 3.4.3 (the 1 SE rule). The standard error is over networks, of the errors
    averaged over the repeats: networks are what varies, repeats are not new data.

    Args:
        candidates: The simplest first.
        decompositions: Measured networks, drawn as those that shall be predicted.
        times_s: Shape (networks,), seconds, above 0.
        parting: Which networks are left out, and how often; None: as `Parting` says.

    Raises:
        WrongInputError: No candidate could be fitted, or what was given does not fit.
    """
    parting = parting or Parting()
    if not candidates or parting.folds < 2 or parting.repeats < 1:
        raise WrongInputError(
            f"expected candidates, at least 2 folds and 1 repeat, got {len(candidates)}, "
            f"{parting.folds} and {parting.repeats}: correct them"
        )
    times, _ = check_times(
        len(decompositions), times_s, None, at_least=_MIN_NETWORKS, name="the choice of a model"
    )
    judged = tuple(range(len(times))) if parting.judged is None else parting.judged
    check_times(
        len(judged), times[list(judged)], None, at_least=_MIN_NETWORKS, name="judging the models"
    )
    parting = replace(parting, judged=judged, folds=min(parting.folds, len(judged)))
    scores = tuple(_score(candidate, decompositions, times, parting) for candidate in candidates)
    best, chosen = _one_standard_error(scores)
    model = CalibratedModel(candidates[chosen].make, seed=parting.seed, judged=judged)
    model.fit(decompositions, times)
    return Choice(
        model=model,
        name=candidates[chosen].name,
        best=candidates[best].name,
        scores=scores,
        networks=len(judged),
        folds=parting.folds,
        repeats=parting.repeats,
    )


def _score(
    candidate: Candidate,
    decompositions: Sequence[Decomposition],
    times: FloatArray,
    parting: Parting,
) -> Score:
    rng = np.random.default_rng(parting.seed)
    errors = np.zeros(len(times))
    try:
        for _ in range(parting.repeats):
            for rest, part in split(len(times), parting.folds, rng, parting.judged):
                model = candidate.make()
                model.fit([decompositions[i] for i in rest], times[rest])
                found = model.predict([decompositions[i] for i in part]).median_s
                errors[part] += np.abs(found / times[part] - 1) / parting.repeats
    except WrongInputError as problem:
        return Score(name=candidate.name, mape=None, standard_error=None, failure=str(problem))
    if parting.judged is not None:
        errors = errors[np.array(parting.judged)]
    return Score(
        name=candidate.name,
        mape=float(errors.mean()),
        standard_error=float(errors.std(ddof=1)) / math.sqrt(len(errors)),
    )


def _one_standard_error(scores: Sequence[Score]) -> tuple[int, int]:
    """Return the places of the best score and of the first that is as good."""
    ranked = [
        (score.mape, place, score.standard_error or 0.0)
        for place, score in enumerate(scores)
        if score.mape is not None
    ]
    if not ranked:
        raise WrongInputError(
            f"expected a model that fits, got none: {scores[0].name}: {scores[0].failure}"
        )
    least, best, error = min(ranked)
    return best, min(place for mape, place, _ in ranked if mape <= least + error)


def _text(score: Score) -> str:
    if score.mape is None or score.standard_error is None:
        return f"left out ({score.failure})"
    return f"{score.mape:.2%} (standard error {score.standard_error:.2%})"
