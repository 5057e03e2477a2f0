"""Which model of latency a table's whole networks speak for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.latency_models.predictors import (
    AdditiveModel,
    BlockTimes,
    Candidate,
    FrozenModel,
    Learner,
    Parting,
    ResidualModel,
    RidgeModel,
    choose,
)
from boardfront.latency_models.table_parts import EntryOrigin, NetworkRole
from boardfront.latency_models.table_residual import networks_of
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from boardfront.latency_models.predictors import Choice, LatencyModel, NetworkFeatures
    from boardfront.latency_models.table import Table
    from boardfront.latency_models.table_interpolation import TableInterpolation

_FEWEST = 8
"""Whole networks for a choice that is more than chance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TablePredictor:
    """What a table's networks are predicted by.

    Args:
        model: Fitted, with intervals.
        name: What to call it in print.
        mape: Its mean error on whole networks left out; None where these are too few to tell.
        networks: Whole networks that it was fitted on.
    """

    model: LatencyModel
    name: str
    mape: float | None
    networks: int


def predictor_of(
    table: Table,
    features: NetworkFeatures | None = None,
    interpolation: TableInterpolation | None = None,
) -> TablePredictor:
    """Return the model that `choose_model` chose; where it cannot, the sum of the blocks.

    The sum is calibrated on the whole networks that there are; without any its interval is that
    of the blocks alone. A transferred table's sum stays as it is: its blocks come from those
    networks already, and the held-out ones say how wide its intervals are.

    Args:
        table: With whole networks or without.
        features: As for `candidates`.
        interpolation: The same.
    """
    if table.transfer is not None:
        return _transferred(table, interpolation)
    choice = choose_model(table, features, interpolation)
    if choice is not None:
        mape = next(score.mape for score in choice.scores if score.name == choice.name)
        return TablePredictor(
            model=choice.model, name=choice.name, mape=mape, networks=choice.networks
        )
    networks = [one for one in table.networks if table.covers(one.decomposition)]
    model = AdditiveModel(BlockTimes.of_table(table), interpolation)
    model.fit([one.decomposition for one in networks], [one.time_s for one in networks])
    name = "additive, calibrated" if networks else "additive"
    return TablePredictor(model=model, name=name, mape=None, networks=len(networks))


def candidates(
    table: Table,
    features: NetworkFeatures | None = None,
    interpolation: TableInterpolation | None = None,
) -> list[Candidate]:
    """Return the models that a table may be used by, the simplest first.

    Args:
        table: Its entries are the blocks' times.
        features: Of networks, for models that learn what the sum leaves over; None: none of
            those.
        interpolation: Of blocks that the table lacks; None: a network that has one is refused.
    """
    times = BlockTimes.of_table(table)

    def additive() -> AdditiveModel:
        return AdditiveModel(times, interpolation)

    def with_residual(learner: Learner, features: NetworkFeatures) -> Candidate:
        return Candidate(
            name=f"additive + {learner.value}",
            make=lambda: ResidualModel(additive(), features, learner),
        )

    found = [
        Candidate(name="additive, calibrated", make=additive),
        Candidate(name="ridge on block counts", make=lambda: RidgeModel(times.blocks)),
    ]
    if features is None:
        return found
    return [*found, *(with_residual(learner, features) for learner in Learner)]


def choose_model(
    table: Table,
    features: NetworkFeatures | None = None,
    interpolation: TableInterpolation | None = None,
) -> Choice | None:
    """Return the model of the least error on whole networks left out; None where these are few.

    Where blocks are interpolated, calibration networks have corrected them: those are learned
    from, and only held-out ones are left out in turn.

    Args:
        table: With whole networks, those calibrated on and those held out. Of a transferred one
            nothing is chosen: its blocks come from its networks.
        features: As for `candidates`.
        interpolation: The same.
    """
    if table.transfer is not None:
        return None
    networks = [one for one in table.networks if table.covers(one.decomposition)]
    if len(networks) < _FEWEST:
        return None
    judged = None
    if any(one.origin is EntryOrigin.INTERPOLATED for one in table.entries):
        judged = tuple(i for i, one in enumerate(networks) if one.role is NetworkRole.HELD_OUT)
    try:
        return choose(
            candidates(table, features, interpolation),
            [one.decomposition for one in networks],
            [one.time_s for one in networks],
            Parting(judged=judged),
        )
    except WrongInputError:
        # No model could be fitted: the plain sum is what there is.
        return None


def _transferred(table: Table, interpolation: TableInterpolation | None) -> TablePredictor:
    model = FrozenModel(AdditiveModel(BlockTimes.of_table(table), interpolation))
    networks = networks_of(table, NetworkRole.HELD_OUT)
    model.fit([one.decomposition for one in networks], [one.time_s for one in networks])
    return TablePredictor(
        model=model,
        name="transferred blocks, summed",
        mape=None if table.residual is None else table.residual.mape,
        networks=len(networks),
    )
