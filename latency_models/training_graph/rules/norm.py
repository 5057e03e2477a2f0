"""Batch norm: its training form, and the closed form of its gradient.

The training form normalises by the batch's own mean and biased variance, and moves the running
statistics towards the batch's mean and unbiased variance, as torch does; ONNX's training mode
takes the biased one there.
Source: Ioffe and Szegedy 2015, "Batch Normalization", algorithm 1 and section 3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from boardfront.latency_models.training_graph.attributes import attribute
from boardfront.latency_models.training_graph.names import next_name
from boardfront.latency_models.training_graph.network import UnsupportedOperatorError
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    import onnx

    from boardfront.latency_models.training_graph.share import Share
    from boardfront.latency_models.training_graph.writer import StepWriter


def write_norm(step: StepWriter, node: onnx.NodeProto) -> None:
    """Write the training form of a BatchNormalization and the update of its statistics."""
    shape = step.network.shape(node.input[0])
    axes = _axes(shape)
    samples = _samples(shape)
    if samples < 2:
        raise WrongInputError(
            f"expected more than one value a channel to normalise over, got shape {shape} in "
            f"node {node.name!r}: train with a larger batch"
        )
    images, scale, shift, _, _ = node.input
    mean = step.mean(images, axes, keep=True)
    centred = step.op("Sub", images, mean)
    variance = step.mean(step.op("Mul", centred, centred), axes, keep=True)
    shifted = step.op("Add", variance, step.number(attribute(node, "epsilon", 1e-5)))
    inverse = step.op("Reciprocal", step.op("Sqrt", shifted))
    channels = _channels(shape)
    gain = step.op("Mul", step.reshape(scale, channels), inverse)
    step.op(
        "Add",
        step.op("Mul", centred, gain),
        step.reshape(shift, channels),
        output=node.output[0],
    )
    for name, value in (("centred", centred), ("inverse", inverse), ("gain", gain)):
        step.saved[f"{node.output[0]}:{name}"] = value
    _update_statistics(step, node, mean, step.scale(variance, samples / (samples - 1)))


def norm(share: Share) -> list[str | None]:
    """Write the gradients of images, scale and shift."""
    step, slope = share.step, share.slope
    shape = share.shape(0)
    axes, samples = _axes(shape), _samples(shape)
    result = share.node.output[0]
    centred, inverse, gain = (
        step.saved[f"{result}:{name}"] for name in ("centred", "inverse", "gain")
    )
    shift = step.total(slope, axes, keep=True)
    along = step.total(step.op("Mul", slope, centred), axes, keep=True)
    scale = step.op("Mul", along, inverse)
    gradients: list[str | None] = [None] * len(share.wanted)
    if share.wanted[0]:
        # What the batch's own mean and variance take away: the parts of the slope along a shift
        # and along the centred images.
        steep = step.op("Mul", step.op("Mul", scale, inverse), step.number(1 / samples))
        rest = step.op("Sub", slope, step.scale(shift, 1 / samples))
        rest = step.op("Sub", rest, step.op("Mul", centred, steep))
        gradients[0] = step.op("Mul", gain, rest)
    if share.wanted[1]:
        gradients[1] = step.reshape(scale, (shape[1],))
    if share.wanted[2]:
        gradients[2] = step.reshape(shift, (shape[1],))
    return gradients


def _update_statistics(step: StepWriter, node: onnx.NodeProto, mean: str, variance: str) -> None:
    if attribute(node, "training_mode", 0):
        raise UnsupportedOperatorError(
            node.op_type, node.name, "expected the inference form: export in evaluation mode"
        )
    keep = attribute(node, "momentum", 0.9)
    for name, batch in zip(node.input[3:5], (mean, variance), strict=True):
        if name not in step.network.statistics or name in step.updated:
            raise UnsupportedOperatorError(
                node.op_type, node.name, f"expected running statistics of its own, got {name!r}"
            )
        moved = step.scale(step.reshape(batch, step.network.shape(name)), 1 - keep)
        step.updated[name] = step.op("Add", step.scale(name, keep), moved, output=next_name(name))


def _axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (0, *range(2, len(shape)))


def _samples(shape: tuple[int, ...]) -> int:
    return math.prod(shape) // shape[1]


def _channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, shape[1], *[1] * (len(shape) - 2))
