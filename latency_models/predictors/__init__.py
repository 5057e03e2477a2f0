"""Models that predict whole networks' times from what the networks are made of."""

from boardfront.latency_models.predictors.additive import AdditiveModel, BlockTimes
from boardfront.latency_models.predictors.base import (
    BlockFeatures,
    BlockIndex,
    LatencyModel,
    NetworkFeatures,
    NotFittedError,
    Prediction,
    UnknownBlockError,
)
from boardfront.latency_models.predictors.choose import (
    Candidate,
    Choice,
    Parting,
    Score,
    choose,
    usual_candidates,
)
from boardfront.latency_models.predictors.conformal import CalibratedModel, FrozenModel
from boardfront.latency_models.predictors.residual import Learner, ResidualModel
from boardfront.latency_models.predictors.ridge import RidgeModel
from boardfront.latency_models.predictors.transfer import TransferModel

__all__ = [
    "AdditiveModel",
    "BlockFeatures",
    "BlockIndex",
    "BlockTimes",
    "CalibratedModel",
    "Candidate",
    "Choice",
    "FrozenModel",
    "LatencyModel",
    "Learner",
    "NetworkFeatures",
    "NotFittedError",
    "Parting",
    "Prediction",
    "ResidualModel",
    "RidgeModel",
    "Score",
    "TransferModel",
    "UnknownBlockError",
    "choose",
    "usual_candidates",
]
