"""The training step of a network as one portable ONNX graph."""

from boardfront.latency_models.training_graph.names import (
    INPUTS_KEY,
    LABELS,
    LOSS,
    TASK_KEY,
    momentum_name,
    next_name,
)
from boardfront.latency_models.training_graph.network import UnsupportedOperatorError
from boardfront.latency_models.training_graph.stages import stage_parameters
from boardfront.latency_models.training_graph.step import Sgd, training_step

__all__ = [
    "INPUTS_KEY",
    "LABELS",
    "LOSS",
    "TASK_KEY",
    "Sgd",
    "UnsupportedOperatorError",
    "momentum_name",
    "next_name",
    "stage_parameters",
    "training_step",
]
