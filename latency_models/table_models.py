"""Which model of latency a table's whole networks speak for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.latency_models.predictors import (
    AdditiveModel,
    BlockTimes,
    Candidate,
    Learner,
    ResidualModel,
    RidgeModel,
    choose,
)
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from boardfront.latency_models.predictors import Choice, NetworkFeatures
    from boardfront.latency_models.table import Table

_FEWEST = 8
"""Whole networks for a choice that is more than chance."""


def candidates(table: Table, features: NetworkFeatures | None = None) -> list[Candidate]:
    """Return the models that a table may be used by, the simplest first.

    Args:
        table: Its entries are the blocks' times.
        features: Of networks, for models that learn what the sum leaves over; None: none of
            those.
    """
    times = BlockTimes.of_table(table)
    found = [
        Candidate(name="additive, calibrated", make=lambda: AdditiveModel(times)),
        Candidate(name="ridge on block counts", make=lambda: RidgeModel(times.blocks)),
    ]
    if features is None:
        return found
    return [*found, *(_candidate(times, features, learner) for learner in Learner)]


def choose_model(table: Table, features: NetworkFeatures | None = None) -> Choice | None:
    """Return the model of the least error on whole networks left out; None where these are few.

    Args:
        table: With whole networks, those calibrated on and those held out.
        features: As for `candidates`.
    """
    networks = [one for one in table.networks if table.covers(one.decomposition)]
    if len(networks) < _FEWEST:
        return None
    try:
        return choose(
            candidates(table, features),
            [one.decomposition for one in networks],
            [one.time_s for one in networks],
        )
    except WrongInputError:
        # No model could be fitted: the plain sum is what there is.
        return None


def _candidate(times: BlockTimes, features: NetworkFeatures, learner: Learner) -> Candidate:
    return Candidate(
        name=f"additive + {learner.value}",
        make=lambda: ResidualModel(AdditiveModel(times), features, learner),
    )
