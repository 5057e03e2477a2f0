"""Small ONNX files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence


def conv_net(channels: int = 8, *, seed: int = 0) -> bytes:
    """Two 3x3 convolutions on a 16x16 image."""
    generator = np.random.default_rng(seed)
    shapes = {"w1": (channels, 3, 3, 3), "w2": (channels, channels, 3, 3)}
    weights = [
        numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["y"], pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "two-convs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels, 16, 16])],
        weights,
    )
    return _serialised(graph)


def dynamic_net() -> bytes:
    """One activation on images of any number and size."""
    return _one_node("Relu", ["n", 3, "h", "w"])


def unknown_operator() -> bytes:
    """A network with an operator that no runtime has."""
    return _one_node("Frobnicate", [1, 3, 4, 4])


def _one_node(operator: str, shape: Sequence[str | int]) -> bytes:
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"])],
        operator,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    return _serialised(graph)


def _serialised(graph: object) -> bytes:
    model = helper.make_model(
        graph,  # type: ignore[arg-type]
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    return bytes(model.SerializeToString())
