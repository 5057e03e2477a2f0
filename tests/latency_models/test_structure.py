"""The structure hash counts what changes a time and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from boardfront.latency_models.structure import structure_hash
from boardfront.protos.errors import WrongInputError

_BASE: dict[str, Any] = {
    "prefix": "",
    "seed": 0,
    "kernel": 3,
    "stride": 1,
    "batch": 1,
    "channels": 4,
    "dtype": TensorProto.FLOAT,
    "target": (1, -1),
    "opset": 18,
    "swap_wiring": False,
    "order": (0, 1, 2, 3, 4),
}


def _model(**changes: Any) -> onnx.ModelProto:
    """Two convolutions of one input, subtracted, rectified, reshaped."""
    s = {**_BASE, **changes}
    p, k, c = s["prefix"], s["kernel"], s["channels"]
    kind = helper.tensor_dtype_to_np_dtype(s["dtype"])
    rng = np.random.default_rng(s["seed"])
    weights = [
        numpy_helper.from_array(rng.normal(size=(c, 3, k, k)).astype(kind), f"{p}w{i}")
        for i in range(2)
    ]
    shape = numpy_helper.from_array(np.array(s["target"], dtype=np.int64), f"{p}shape")
    pads = [k // 2] * 4
    strides = [s["stride"]] * 2
    first, second = (f"{p}b", f"{p}a") if s["swap_wiring"] else (f"{p}a", f"{p}b")
    nodes = [
        helper.make_node("Conv", [f"{p}x", f"{p}w0"], [f"{p}a"], pads=pads, strides=strides),
        helper.make_node("Conv", [f"{p}x", f"{p}w1"], [f"{p}b0"], pads=pads, strides=strides),
        helper.make_node("Relu", [f"{p}b0"], [f"{p}b"]),
        helper.make_node("Sub", [first, second], [f"{p}d"]),
        helper.make_node("Reshape", [f"{p}d", f"{p}shape"], [f"{p}y"]),
    ]
    for i, node in enumerate(nodes):
        node.name = f"{p}node{i}"
    graph = helper.make_graph(
        [nodes[i] for i in s["order"]],
        f"{p}graph",
        [helper.make_tensor_value_info(f"{p}x", s["dtype"], [s["batch"], 3, 8, 8])],
        [helper.make_tensor_value_info(f"{p}y", s["dtype"], [1, None])],
        [*weights, shape],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", s["opset"])])


@pytest.mark.parametrize(
    "changes",
    [{"prefix": "renamed/"}, {"seed": 7}, {"order": (1, 2, 0, 3, 4)}, {"order": (1, 0, 2, 3, 4)}],
    ids=["names", "weights", "order", "order-of-equal-convolutions"],
)
def test_names_weights_and_file_order_do_not_count(changes: dict[str, Any]) -> None:
    assert structure_hash(_model(**changes)) == structure_hash(_model())


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": 5},
        {"stride": 2},
        {"batch": 2},
        {"channels": 8},
        {"dtype": TensorProto.FLOAT16},
        {"target": (2, -1)},
        {"opset": 17},
        {"swap_wiring": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_changes_a_time_counts(changes: dict[str, Any]) -> None:
    assert structure_hash(_model(**changes)) != structure_hash(_model())


def test_the_hash_is_sha256_and_stable() -> None:
    # Origin: this implementation at its first version. A change invalidates every stored time:
    # raise "v1" in structure.py knowingly.
    expected = "d1645a87b19deaee3344ad8499b48b02b7566a743c94ed1616aaa0601ace32ea"
    assert structure_hash(_model()) == expected
    assert structure_hash(_model()) == structure_hash(
        onnx.ModelProto.FromString(_model().SerializeToString()),
    )


def _constant_model(value: np.ndarray[Any, Any]) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(value)),
        helper.make_node("Cast", ["c"], ["cf"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "cf"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y]))


def test_constant_nodes_count_by_value_only_where_they_hold_integers() -> None:
    ints, other_ints = np.array([1, 2]), np.array([1, 3])
    floats, other_floats = np.array([1.0, 2.0]), np.array([1.0, 3.0])
    assert structure_hash(_constant_model(ints)) != structure_hash(_constant_model(other_ints))
    assert structure_hash(_constant_model(floats)) == structure_hash(_constant_model(other_floats))


def test_symbolic_dimensions_count_by_identity_not_by_name() -> None:
    def model(first: str, second: str) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [first, second])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [first, second])
        node = helper.make_node("Relu", ["x"], ["y"])
        return helper.make_model(helper.make_graph([node], "g", [x], [y]))

    assert structure_hash(model("a", "b")) == structure_hash(model("n", "m"))
    assert structure_hash(model("a", "b")) != structure_hash(model("n", "n"))


def test_shared_weights_differ_from_equal_shaped_ones() -> None:
    def model(second: str) -> onnx.ModelProto:
        w = [numpy_helper.from_array(np.ones((2, 2), np.float32), name) for name in ("v", "w")]
        nodes = [
            helper.make_node("MatMul", ["x", "v"], ["h"]),
            helper.make_node("MatMul", ["h", second], ["y"]),
        ]
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 2]) for n in "xy")
        return helper.make_model(helper.make_graph(nodes, "g", [x], [y], w))

    assert structure_hash(model("v")) != structure_hash(model("w"))


def test_subgraphs_count() -> None:
    def model(op: str, captured: str) -> onnx.ModelProto:
        out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [2])
        then = helper.make_graph([helper.make_node(op, [captured], ["o"])], "t", [], [out])
        other = helper.make_graph([helper.make_node("Neg", [captured], ["o"])], "e", [], [out])
        node = helper.make_node("If", ["cond"], ["y"], then_branch=then, else_branch=other)
        cond = helper.make_tensor_value_info("cond", TensorProto.BOOL, [])
        x = helper.make_tensor_value_info(captured, TensorProto.FLOAT, [2])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
        return helper.make_model(helper.make_graph([node], "g", [cond, x], [y]))

    assert structure_hash(model("Relu", "x")) == structure_hash(model("Relu", "renamed"))
    assert structure_hash(model("Relu", "x")) != structure_hash(model("Abs", "x"))


def test_a_value_from_nowhere_is_an_error() -> None:
    model = _model()
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(WrongInputError, match="got 'nowhere': export the model again"):
        structure_hash(model)


def test_a_cycle_is_an_error() -> None:
    model = _model()
    model.graph.node[0].input[0] = "d"
    with pytest.raises(WrongInputError, match="without cycles, got one among"):
        structure_hash(model)
