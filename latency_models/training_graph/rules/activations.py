"""Gradients of activations: at a kink, zero, as torch's ReLU, ReLU6 and hard sigmoid have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from boardfront.latency_models.training_graph.share import Share


def relu(share: Share) -> list[str | None]:
    """Pass where the result is positive; the sign of a ReLU's result is 0 or 1."""
    sign = share.step.op("Sign", share.node.output[0])
    return [share.step.op("Mul", share.slope, sign)]


def leaky_relu(share: Share) -> list[str | None]:
    """Pass where the argument is positive, `alpha` of it elsewhere."""
    step = share.step
    alpha = share.attribute("alpha", 0.01)
    positive = step.op("Greater", share.node.input[0], step.number(0))
    rate = step.op("Where", positive, step.number(1), step.number(alpha))
    return [step.op("Mul", share.slope, rate)]


def clip(share: Share) -> list[str | None]:
    """Pass strictly between the bounds."""
    step, result = share.step, share.node.output[0]
    inside = ""
    for index, kind in ((1, "Greater"), (2, "Less")):
        bound = step.network.values(share.node, index)
        if bound is not None:
            passed = step.op(kind, result, step.number(float(np.asarray(bound).item())))
            inside = step.op("And", inside, passed) if inside else passed
    slope = step.op("Mul", share.slope, step.to_number(inside)) if inside else share.slope
    return [slope, None, None]


def sigmoid(share: Share) -> list[str | None]:
    """Write slope * y * (1 - y)."""
    step, result = share.step, share.node.output[0]
    rate = step.op("Mul", result, step.op("Sub", step.number(1), result))
    return [step.op("Mul", share.slope, rate)]


def tanh(share: Share) -> list[str | None]:
    """Write slope * (1 - y * y)."""
    step, result = share.step, share.node.output[0]
    rate = step.op("Sub", step.number(1), step.op("Mul", result, result))
    return [step.op("Mul", share.slope, rate)]


def hard_sigmoid(share: Share) -> list[str | None]:
    """Write alpha * slope where the result lies strictly between 0 and 1."""
    alpha = share.attribute("alpha", 0.2)
    inside = _between_0_and_1(share, share.node.output[0])
    return [share.step.op("Mul", share.slope, share.step.scale(inside, alpha))]


def hard_swish(share: Share) -> list[str | None]:
    """Write slope * (h + x * h'), h the hard sigmoid of x."""
    step, argument = share.step, share.node.input[0]
    gate = step.op("HardSigmoid", argument, alpha=1 / 6, beta=0.5)
    inside = _between_0_and_1(share, gate)
    rate = step.op("Add", gate, step.op("Mul", argument, step.scale(inside, 1 / 6)))
    return [step.op("Mul", share.slope, rate)]


def _between_0_and_1(share: Share, tensor: str) -> str:
    step = share.step
    above = step.op("Greater", tensor, step.number(0))
    below = step.op("Less", tensor, step.number(1))
    return step.to_number(step.op("And", above, below))
