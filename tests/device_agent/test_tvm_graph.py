"""What is done to a graph before TVM sees it leaves its outputs as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from boardfront.device_agent.backends import tvm_check, tvm_graph
from boardfront.device_agent.backends.base import BackendError
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Sequence

onnxruntime = pytest.importorskip("onnxruntime")

_SHAPE = (2, 4, 6, 6)


def _model(
    nodes: Sequence[onnx.NodeProto], *, channels: int = 4, seed: int = 0
) -> onnx.ModelProto:
    """Nodes between "x" and "y", with weights for whatever names they use."""
    generator = np.random.default_rng(seed)
    drawn: dict[str, Any] = {
        "weight": generator.standard_normal((channels, 4, 3, 3)),
        "grouped": generator.standard_normal((channels, 1, 3, 3)),
        "bias": generator.standard_normal(channels),
        "gamma": generator.standard_normal(channels),
        "beta": generator.standard_normal(channels),
        "mean": generator.standard_normal(channels),
        "variance": 0.5 + generator.random(channels),
    }
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "part",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, _SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.asarray(values, np.float32), name)
            for name, values in drawn.items()
            if name in used
        ],
    )
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10)


def _norm(before: str, after: str) -> onnx.NodeProto:
    parts = ["gamma", "beta", "mean", "variance"]
    return helper.make_node("BatchNormalization", [before, *parts], [after], epsilon=1e-3)


def _conv(inputs: Sequence[str], after: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Conv", inputs, [after], pads=[1, 1, 1, 1], **attributes)


def _add(first: str, second: str) -> onnx.NodeProto:
    return helper.make_node("Add", [first, second], ["y"])


_PARTS = {
    "conv-norm": ([_conv(["x", "weight"], "a"), _norm("a", "y")], 0),
    "bias-norm": ([_conv(["x", "weight", "bias"], "a"), _norm("a", "y")], 0),
    "bias": ([_conv(["x", "weight", "bias"], "y")], 0),
    "grouped-norm": ([_conv(["x", "grouped"], "a", group=4), _norm("a", "y")], 0),
    "two-norms": ([_conv(["x", "weight"], "a"), _norm("a", "b"), _norm("b", "y")], 0),
    "weight-shared": (
        [_conv(["x", "weight"], "a"), _norm("a", "b"), _conv(["b", "weight"], "y")],
        0,
    ),
    "conv-used-twice": ([_conv(["x", "weight"], "a"), _norm("a", "b"), _add("a", "b")], 1),
    "norm-alone": ([_norm("x", "y")], 1),
}


@pytest.mark.parametrize("part", _PARTS)
def test_folding_keeps_the_outputs(part: str) -> None:
    nodes, norms_left = _PARTS[part]
    model = _model(nodes)
    folded = tvm_graph.fold_batch_norms(model)
    kinds = [node.op_type for node in folded.graph.node]
    assert kinds.count("BatchNormalization") == norms_left
    assert all(len(node.input) == 2 for node in folded.graph.node if node.op_type == "Conv")
    drawn = tvm_graph.draw_inputs(model, {"x": _SHAPE})
    session = onnxruntime.InferenceSession(
        folded.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    # Single precision, sums of 36 products: 1e-6 is ten roundings.
    assert tvm_check.check_outputs(model, drawn, session.run(None, drawn)) < 1e-6


def test_folding_leaves_the_model_it_was_given() -> None:
    nodes, _ = _PARTS["bias-norm"]
    model = _model(nodes)
    before = model.SerializeToString(deterministic=True)
    tvm_graph.fold_batch_norms(model)
    assert model.SerializeToString(deterministic=True) == before


def test_folding_drops_what_nothing_uses() -> None:
    nodes, _ = _PARTS["conv-norm"]
    names = {one.name for one in tvm_graph.fold_batch_norms(_model(nodes)).graph.initializer}
    assert not names & {"weight", "gamma", "beta", "mean", "variance"}
    assert len(names) == 2


def test_the_structure_is_that_of_the_graph_and_not_of_its_weights() -> None:
    nodes, _ = _PARTS["conv-norm"]
    shapes = {"x": _SHAPE}
    same = {tvm_graph.structure(_model(nodes, seed=seed), shapes) for seed in (0, 1)}
    assert len(same) == 1
    others = {
        tvm_graph.structure(_model(nodes, channels=8), shapes),
        tvm_graph.structure(_model(nodes), {"x": (1, 4, 6, 6)}),
        tvm_graph.structure(_model(_PARTS["bias-norm"][0]), shapes),
    }
    assert len(same | others) == 4


@pytest.mark.parametrize("wrong", ["scaled", "shape", "not-a-number", "missing"])
def test_wrong_outputs_are_a_failure_that_says_by_how_much(wrong: str) -> None:
    model = _model(_PARTS["conv-norm"][0])
    drawn = tvm_graph.draw_inputs(model, {"x": _SHAPE})
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (right,) = session.run(None, drawn)
    outputs = {
        "scaled": [right * np.float32(1.01)],
        "shape": [right[:1]],
        "not-a-number": [right * np.float32("nan")],
        "missing": [],
    }[wrong]
    said = "by 0.01 of its norm" if wrong == "scaled" else "by inf of its norm"
    with pytest.raises(BackendError, match=said) as caught:
        tvm_check.check_outputs(model, drawn, outputs)
    assert caught.value.kind is FailureKind.UNSUPPORTED
