"""Taking the weights out keeps the structure, and all that steers what is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from boardfront.device_agent.network import read_network
from boardfront.latency_models.structure import structure_hash
from boardfront.latency_models.weightless import without_weights
from boardfront.protos.weightless import Note, is_note

if TYPE_CHECKING:
    from pathlib import Path

onnxruntime = pytest.importorskip("onnxruntime")

_CHANNELS = 64
_NORM = ("scale", "offset", "mean", "variance")


def _tensor(name: str, *shape: int, kind: Any = np.float32) -> onnx.TensorProto:
    values = np.random.default_rng(len(name)).standard_normal(shape)
    return numpy_helper.from_array(np.abs(values).astype(kind), name)


def _classifier() -> onnx.ModelProto:
    """A convolution, a batch norm, a transposed one, a classifier: large and small weights."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w", "b"], ["a"], pads=[1] * 4),
        node("BatchNormalization", ["a", *_NORM], ["n"]),
        node("Relu", ["n"], ["r"]),
        node("ConvTranspose", ["r", "up"], ["t"], strides=[2, 2]),
        node("Mul", ["t", "factor"], ["m"]),
        node("GlobalAveragePool", ["m"], ["p"]),
        node("Reshape", ["p", "shape"], ["f"]),
        node("Gemm", ["f", "linear", "bias"], ["g"], transB=1),
        node("MatMul", ["g", "last"], ["y"]),
    ]
    tensors = [
        _tensor("w", _CHANNELS, 3, 3, 3),
        _tensor("b", _CHANNELS),  # 256 bytes
        *(_tensor(name, _CHANNELS) for name in _NORM),
        _tensor("up", _CHANNELS, 32, 2, 2),
        _tensor("factor", 1, 32, 34, 34),  # large, but no weight
        numpy_helper.from_array(np.array([1, 32], dtype=np.int64), "shape"),
        _tensor("linear", 300, 32),
        _tensor("bias", 300),  # 1200 bytes
        _tensor("last", 300, 10),
    ]
    return _made(nodes, tensors, [1, 3, 17, 17], [1, 10])


def _made(
    nodes: list[onnx.NodeProto],
    tensors: list[onnx.TensorProto],
    shape: list[int],
    out: list[int],
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, out)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _notes(content: bytes) -> dict[str, Note]:
    model = onnx.load_model_from_string(content)
    return {
        tensor.name: Note.from_bytes(tensor.raw_data)
        for tensor in model.graph.initializer
        if is_note(tensor.raw_data)
    }


def test_weights_become_notes_and_the_rest_stays() -> None:
    model = _classifier()
    before = model.SerializeToString()
    notes = _notes(without_weights(model))
    assert model.SerializeToString() == before
    assert set(notes) == {"w", "up", "linear", "bias", "last"}
    assert len({note.seed for note in notes.values()}) == len(notes)
    # Before a ReLU, through the batch norm: 2 / (3 * 3 * 3). The transposed convolution of
    # stride 2: 64 * 2 * 2 / 4. The linear layers have 32 and 300 inputs.
    expected = {"w": 2 / 27, "up": 1 / 64, "linear": 1 / 32, "bias": 0.01, "last": 1 / 300}
    assert {name: note.scale**2 for name, note in notes.items()} == pytest.approx(
        expected, rel=1e-4
    )
    assert all(note.mean == 0 for note in notes.values())
    light = onnx.load_model_from_string(without_weights(model))
    for tensor, original in zip(light.graph.initializer, model.graph.initializer, strict=True):
        if tensor.name not in notes:
            assert tensor == original
        assert (tensor.name, tensor.dims) == (original.name, original.dims)
    assert light.graph.node == model.graph.node


def test_a_large_batch_norm_stays_near_the_identity() -> None:
    nodes = [helper.make_node("BatchNormalization", ["x", *_NORM], ["y"])]
    model = _made(nodes, [_tensor(n, 256) for n in _NORM], [1, 256, 4, 4], [1, 256, 4, 4])
    notes = _notes(without_weights(model))
    assert {name: note.mean for name, note in notes.items()} == {
        "scale": 1.0,
        "offset": 0.0,
        "mean": 0.0,
        "variance": 1.0,
    }


def test_the_structure_hash_is_that_of_the_full_file() -> None:
    model = _classifier()
    light = onnx.load_model_from_string(without_weights(model))
    assert structure_hash(light) == structure_hash(model)
    shapes = onnx.shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)
    assert shapes.graph.value_info == onnx.shape_inference.infer_shapes(model).graph.value_info


def test_the_bytes_depend_on_structure_and_seed_alone() -> None:
    first, second = _classifier(), _classifier()
    for tensor in second.graph.initializer:
        if tensor.name in {"w", "last"}:
            tensor.raw_data = bytes(len(tensor.raw_data))
    assert without_weights(first) == without_weights(first)
    assert without_weights(first) == without_weights(second)
    assert without_weights(first) != without_weights(first, seed=1)
    light = onnx.load_model_from_string(without_weights(first))
    assert without_weights(light) == without_weights(first)


def test_a_filled_file_runs_at_a_normal_scale_and_an_unfilled_one_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "light.onnx"
    path.write_bytes(without_weights(_classifier()))
    images = np.random.default_rng(0).standard_normal((1, 3, 17, 17)).astype(np.float32)
    filled = read_network(path).SerializeToString()
    session = onnxruntime.InferenceSession(filled, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"x": images})
    assert 1e-3 < out.std() < 1e3
    with pytest.raises(Exception, match="does not match expected size"):
        onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


def _linear(*more: onnx.NodeProto, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    weight = helper.make_tensor("w", kind, [32, 32], np.ones(1024))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), *more]
    return _made(nodes, [weight], [1, 32], [1, 32], kind)


@pytest.mark.parametrize(
    ("kind", "noted"),
    [
        (TensorProto.FLOAT, True),
        (TensorProto.FLOAT16, True),
        (TensorProto.BFLOAT16, True),
        (TensorProto.DOUBLE, True),
        (TensorProto.INT32, False),
        (TensorProto.INT64, False),
    ],
)
def test_only_floating_point_weights_are_taken_out(kind: int, *, noted: bool) -> None:
    assert bool(_notes(without_weights(_linear(kind=kind)))) is noted


def test_a_tensor_that_anything_else_reads_too_is_kept() -> None:
    node = helper.make_node
    assert set(_notes(without_weights(_linear(node("MatMul", ["y", "w"], ["z"]))))) == {"w"}
    assert not _notes(without_weights(_linear(node("Add", ["y", "w"], ["z"]))))
    assert not _notes(without_weights(_linear(node("MatMul", ["w", "w"], ["z"]))))
    assert not _notes(without_weights(_linear(node("Conv", ["y", "w"], ["z"], domain="mine"))))
    inner = helper.make_graph([node("MatMul", ["y", "w"], ["z"])], "branch", [], [])
    assert not _notes(
        without_weights(_linear(node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)))
    )
    given = _linear()
    given.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [32, 32]))
    assert not _notes(without_weights(given))


def test_a_weight_in_another_file_is_not_missed() -> None:
    model = _linear()
    (tensor,) = model.graph.initializer
    expected = without_weights(model)
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    assert without_weights(model) == expected
