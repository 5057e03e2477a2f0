"""Short training: each network alone, from scratch, for a few epochs."""

from boardfront.host.training.checkpoints import TrainedCandidate
from boardfront.host.training.estimator import TrainingEstimator, UntrainableError
from boardfront.host.training.settings import CandidateProgress, ShortTraining

__all__ = [
    "CandidateProgress",
    "ShortTraining",
    "TrainedCandidate",
    "TrainingEstimator",
    "UntrainableError",
]
