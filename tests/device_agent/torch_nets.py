"""Small graphs to rebuild, and how their training is compared with a float64 reference.

Errors are norm-wise (relative, Frobenius): what two steps of SGD changed, in float32 and in
float64, against the same two steps in float64. A wrong padding, share or sign is far above both
tolerances.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from boardfront.device_agent.backends.torch_step import TrainingStep

if TYPE_CHECKING:
    from collections.abc import Callable

    from boardfront.device_agent.backends.torch_graph import Network

    Tensors = dict[str, torch.Tensor]
    Write = Callable[["Net", str], str]

# torch keeps the sixth of h-swish in single precision, in float64 too.
TOLERANCES = {torch.float64: 1e-7, torch.float32: 1e-4}
LEARNING_RATE = 0.01
IMAGES = (4, 8, 12, 12)
CLASSES = 5
WIDTH = 12
"""Channels that every case ends in."""


class Net:
    """A small graph: images, a case, pooling, five classes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(7)

    def weight(self, name: str, *shape: int, mean: float = 0.0, spread: float = 0.3) -> str:
        values = mean + spread * self._rng.standard_normal(shape)
        self.tensors.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def numbers(self, name: str, values: object, kind: type = np.int64) -> str:
        self.tensors.append(numpy_helper.from_array(np.array(values, dtype=kind), name))
        return name

    def node(self, kind: str, inputs: list[str], outputs: Any = None, **attributes: Any) -> str:
        made = [outputs] if isinstance(outputs, str) else outputs or [f"v{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, inputs, made, **attributes))
        return str(made[0])

    def conv(self, source: str, name: str, shape: tuple[int, ...], **attributes: Any) -> str:
        return self.node("Conv", [source, self.weight(name, *shape)], **attributes)

    def norm(self, source: str, name: str, channels: int) -> str:
        parts = [
            self.weight(f"{name}.weight", channels, mean=1.0, spread=0.1),
            self.weight(f"{name}.bias", channels, spread=0.1),
            self.weight(f"{name}.running_mean", channels, spread=0.1),
            self.numbers(f"{name}.running_var", np.full(channels, 1.25), np.float32),
        ]
        return self.node("BatchNormalization", [source, *parts])

    def model(self, write: Write) -> onnx.ModelProto:
        features = self.norm(write(self, "x"), "last", WIDTH)
        flat = self.node("Flatten", [self.node("GlobalAveragePool", [features])])
        terms = [flat, self.weight("fc", CLASSES, WIDTH), self.weight("fc.bias", CLASSES)]
        self.node("Gemm", terms, "y", transB=1)
        return make_model(self.nodes, self.tensors, IMAGES, (IMAGES[0], CLASSES))


def make_model(
    nodes: list[onnx.NodeProto],
    tensors: list[onnx.TensorProto],
    images: tuple[int, ...],
    logits: tuple[int, ...],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, images)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, logits)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the relative error in the Frobenius norm."""
    expected = expected.detach().double()
    return float((found.detach().double() - expected).norm() / expected.norm())


def draw_batch(images: tuple[int, ...], classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(images, generator=generator)
    return drawn, torch.randint(0, classes, images[:1], generator=generator)


def do_step(step: TrainingStep) -> float:
    for _, part in step.parts:
        part()
    return step.loss.item()


def make_step(module: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> TrainingStep:
    return TrainingStep(
        module.train(),
        [images],
        labels,
        contextlib.nullcontext(),
        learning_rate=LEARNING_RATE,
    )


def compare(
    network: Network,
    kind: torch.dtype,
    before: Tensors,
    after: Tensors,
    batch: tuple[torch.Tensor, torch.Tensor],
    losses: list[float],
) -> None:
    """Train two steps in a precision; compare losses and what has changed with the reference."""
    step = make_step(network.module.to(kind), batch[0].to(kind), batch[1])
    assert [do_step(step), do_step(step)] == pytest.approx(losses, rel=TOLERANCES[kind])
    state = network.module.state_dict()
    found = {n: state[key].double() - before[n] for n, key in network.names.items()}
    expected = {n: after[n].detach() - before[n] for n in network.names}
    assert error(whole(found), whole(expected)) < TOLERANCES[kind]
    if kind is torch.float64:
        # One by one only here: of a tensor that changes little, float32 keeps too few digits.
        errors = {n: error(found[n], expected[n]) for n in network.names}
        assert max(errors.values()) < TOLERANCES[kind], errors


def whole(tensors: Tensors) -> torch.Tensor:
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])
