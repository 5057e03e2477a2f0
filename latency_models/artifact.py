"""What a device is sent to time a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.protos.records import TaskKind

if TYPE_CHECKING:
    import onnx

    from boardfront.protos.records import Task


def artifact_of(model: onnx.ModelProto, task: Task) -> onnx.ModelProto:
    """Return a network as a task needs it: itself, or one step of its training as a graph.

    Args:
        model: The network, for inference, of the task's batch.
        task: What shall be timed.

    Raises:
        UnsupportedOperatorError: Its training step cannot be written.
    """
    if task.kind is not TaskKind.TRAINING_STEP_GRAPH:
        return model
    from boardfront.latency_models.training_graph import stage_parameters, training_step

    return training_step(model, frozen=stage_parameters(model, task.frozen_stages))
