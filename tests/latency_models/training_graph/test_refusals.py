"""What no step is written of, and how that is said; stages; what the graph carries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.latency_models.training_graph.networks import node

from boardfront.latency_models.training_graph import (
    INPUTS_KEY,
    TASK_KEY,
    Sgd,
    UnsupportedOperatorError,
    stage_parameters,
    training_step,
)
from boardfront.protos.errors import WrongInputError
from boardfront.search.spaces.etnas import EtnasSettings, EtnasSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

ETNAS = EtnasSpace(EtnasSettings(resolution=32, classes=7, channels=(16,), last_channels=(32, 64)))
ENCODING = "020-_16_1-1-2-1"

HEAD = node("Gemm", ["f", "w"], ["logits"], transB=1)


def _model(
    nodes: Sequence[onnx.NodeProto],
    *,
    shape: Sequence[Any] = (2, 6),
    opset: int = 18,
    **arrays: Any,
) -> onnx.ModelProto:
    arrays = {"w": np.ones((3, 6), dtype=np.float32), **arrays}
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, (shape[0], 3))
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in arrays.items()]
    graph = helper.make_graph(list(nodes), "net", [images], [logits], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _gate(kind: str, **how: Any) -> list[onnx.NodeProto]:
    """A learned layer, then the operator, then the classifier."""
    return [node("Gemm", ["images", "v"], ["h"]), node(kind, ["h"], ["f"], **how), HEAD]


V = np.ones((6, 6), dtype=np.float32)
FLAT = np.array([2, 6], dtype=np.int64)


@pytest.mark.parametrize("kind", ["Erf", "Gelu", "Elu"])
def test_an_operator_without_a_gradient_is_named(kind: str) -> None:
    model = _model(_gate(kind), v=V, opset=20)
    with pytest.raises(
        UnsupportedOperatorError, match=rf"{kind} \(node 'f-node'\): expected one"
    ) as e:
        training_step(model)
    assert e.value.kind == kind


def test_it_may_stand_where_no_gradient_passes() -> None:
    model = _model([node("Erf", ["images"], ["f"]), HEAD])
    assert [n.op_type for n in training_step(model).graph.node].count("Erf") == 1
    frozen = training_step(_model(_gate("Erf"), v=V), frozen=["v"])
    assert "next/v" not in {value.name for value in frozen.graph.output}


def test_what_is_random_in_training_is_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"Dropout.*random in training"):
        training_step(_model([node("Dropout", ["images"], ["f"]), HEAD]))


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (_model([node("Identity", ["images"], ["f"]), HEAD], opset=12), "13 or newer, got 12"),
        (_model([node("Identity", ["images"], ["f"]), HEAD], shape=("n", 6)), "fixed batch"),
        (
            _model(
                [
                    node("Gemm", ["images", "w"], ["l"], transB=1),
                    node("Softmax", ["l"], ["logits"]),
                ]
            ),
            "ends in Softmax: export it without",
        ),
        (
            _model(
                [
                    node("Identity", ["images"], ["labels"]),
                    node("Gemm", ["labels", "w"], ["logits"], transB=1),
                ]
            ),
            "without a tensor called 'labels'",
        ),
        (
            _model(
                [
                    node("Reshape", ["images", "to"], ["x"]),
                    node("BatchNormalization", ["x", "s", "s", "m", "m"], ["y"]),
                    node("Reshape", ["y", "flat"], ["f"]),
                    HEAD,
                ],
                shape=(1, 6),
                to=np.array([1, 6, 1, 1], dtype=np.int64),
                flat=np.array([1, 6], dtype=np.int64),
                s=np.ones(6, dtype=np.float32),
                m=np.ones(6, dtype=np.float32),
            ),
            "more than one value a channel",
        ),
        (
            _model(
                [node("Identity", ["images"], ["f"]), HEAD], w=np.ones((3, 6), dtype=np.float16)
            ),
            "parameters of one type, FLOAT or DOUBLE",
        ),
    ],
)
def test_what_is_no_such_classifier_is_refused(model: onnx.ModelProto, named: str) -> None:
    with pytest.raises(WrongInputError, match=named):
        training_step(model)


def test_one_dimensional_convolutions_are_refused() -> None:
    nodes = [
        node("Reshape", ["images", "to"], ["x"]),
        node("Conv", ["x", "k"], ["y"], pads=[1, 1]),
        node("Reshape", ["y", "flat"], ["f"]),
        HEAD,
    ]
    arrays: dict[str, Any] = {
        "to": np.array([2, 1, 6], dtype=np.int64),
        "k": np.ones((1, 1, 3), dtype=np.float32),
    }
    with pytest.raises(UnsupportedOperatorError, match=r"Conv .*two dimensions"):
        training_step(_model(nodes, flat=FLAT, **arrays))


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(WrongInputError, match="learning_rate: expected above 0, got 0"):
        Sgd(learning_rate=0.0)
    with pytest.raises(WrongInputError, match="momentum: expected from 0 to below 1, got 1"):
        Sgd(momentum=1.0)
    with pytest.raises(WrongInputError, match="weight_decay: expected at least 0, got -1"):
        Sgd(weight_decay=-1.0)


def test_frozen_names_have_to_be_parameters() -> None:
    with pytest.raises(WrongInputError, match=r"such as 'stem.0.conv.weight', got 'stemm'"):
        training_step(ETNAS.write_onnx(ENCODING, batch=2), frozen={"stemm"})


def test_stages_name_their_parameters() -> None:
    model = ETNAS.write_onnx(ENCODING, batch=2)
    assert stage_parameters(model, 0) == frozenset()
    stem = stage_parameters(model, 1)
    assert {name.split(".")[0] for name in stem} == {"stem"}
    assert len(stem) == 9
    two = stage_parameters(model, 2)
    assert {".".join(name.split(".")[:2]) for name in two - stem} == {"blocks.0"}
    everything = {t.name for t in model.graph.initializer if "running_" not in t.name}
    assert everything - stage_parameters(model, 5) == {"classifier.weight", "classifier.bias"}
    for count in (-1, 6):
        with pytest.raises(WrongInputError, match=f"expected 0 to 5.*got {count}"):
            stage_parameters(model, count)
    del model.metadata_props[:]
    with pytest.raises(WrongInputError, match="expected 0 to 0"):
        stage_parameters(model, 1)
    model.metadata_props.add(key="boardfront.stages", value='["nowhere"]')
    with pytest.raises(WrongInputError, match="tensors that nodes make"):
        stage_parameters(model, 1)


def test_a_step_carries_no_weights_and_describes_every_input() -> None:
    model = ETNAS.write_onnx(ENCODING, batch=2)
    step = training_step(model)
    metadata = {entry.key: entry.value for entry in step.metadata_props}
    assert metadata[TASK_KEY] == "training-step-graph"
    assert set(json.loads(metadata[INPUTS_KEY])) == {value.name for value in step.graph.input}
    assert max(len(t.raw_data) for t in step.graph.initializer) < 1024
    assert len(step.SerializeToString()) < 300_000
    again = training_step(ETNAS.write_onnx(ENCODING, batch=2))
    assert again.SerializeToString(deterministic=True) == step.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("opset", [13, 17, 18, 20, 22])
def test_the_graph_is_valid_in_every_opset(opset: int) -> None:
    shape = np.array([2, 3, 8, 8], dtype=np.int64)
    nodes = [
        node("Reshape", ["images", "to"], ["x"]),
        node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c", "s", "s", "m", "m2"], ["n"]),
        node("Relu", ["n"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"]),
        HEAD,
    ]
    ones = {name: np.ones(4, dtype=np.float32) for name in ("s", "m", "m2")}
    kernel = np.ones((4, 3, 3, 3), dtype=np.float32)
    head = np.ones((3, 16), dtype=np.float32)
    model = _model(nodes, shape=(2, 192), opset=opset, to=shape, k=kernel, w=head, **ones)
    onnx.checker.check_model(training_step(model), full_check=True)
