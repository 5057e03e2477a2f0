"""Supernet training and evaluation."""

from boardfront.host.supernet.checkpoint import CheckpointError
from boardfront.host.supernet.evaluation import Recalibration, SupernetEstimator
from boardfront.host.supernet.progress import TrainingProgress, TrainingReport
from boardfront.host.supernet.settings import SupernetTraining
from boardfront.host.supernet.training import (
    TrainedSupernet,
    TrainingDivergedError,
    train_supernet,
)

__all__ = [
    "CheckpointError",
    "Recalibration",
    "SupernetEstimator",
    "SupernetTraining",
    "TrainedSupernet",
    "TrainingDivergedError",
    "TrainingProgress",
    "TrainingReport",
    "train_supernet",
]
