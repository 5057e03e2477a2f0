"""Weightless files are filled, and what no runtime should see is refused before one does."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.device_agent import harness
from tests.device_agent.harness import answers, failure_of, make_job, result_of
from tests.device_agent.onnx_files import conv_net

from boardfront.device_agent.backends.base import BackendError
from boardfront.device_agent.network import NetworkLimits, read_bytes, read_network
from boardfront.latency_models.weightless import without_weights
from boardfront.protos.errors import InvalidRecordError
from boardfront.protos.records import FailureKind
from boardfront.protos.weightless import Note, is_note

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.device_agent.harness import Wire


def _model(
    *tensors: onnx.TensorProto, nodes: list[onnx.NodeProto] | None = None
) -> onnx.ModelProto:
    """One ReLU, and whatever else is given."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"]), *(nodes or [])],
        "net",
        [value("x", TensorProto.FLOAT, [1, 4])],
        [value("y", TensorProto.FLOAT, [1, 4])],
        list(tensors),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _noted(note: Note | bytes, dims: list[int], kind: int = TensorProto.FLOAT) -> TensorProto:
    raw_data = note if isinstance(note, bytes) else note.to_bytes()
    return TensorProto(name="w", data_type=kind, dims=dims, raw_data=raw_data)


def _saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _refused(folder: Path, model: onnx.ModelProto, limits: NetworkLimits | None = None) -> str:
    with pytest.raises(BackendError) as caught:
        read_network(_saved(folder, model), limits=limits or NetworkLimits())
    assert caught.value.kind is FailureKind.INVALID_ARTIFACT
    return str(caught.value)


def test_a_note_reads_back() -> None:
    note = Note(mean=1.0, scale=0.1, seed=2**63 - 1)
    assert Note.from_bytes(note.to_bytes()) == note
    assert Note(scale=2 / 3, seed=0).to_bytes() == (
        b"boardfront-weightless/1 mean=0 scale=0.666667 seed=0"
    )
    assert is_note(note.to_bytes())
    assert not is_note(np.ones(32, dtype=np.float32).tobytes())


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b"mean=0 scale=nan seed=1", "expected 'mean=NUMBER"),
        (b"mean=0 scale=1 seed=1 more=2", "expected 'mean=NUMBER"),
        (b"mean=0 scale=1.2.3 seed=1", "a note with the number"),
        (b"mean=0 scale=1e999 seed=1", "finite"),
        (b"mean=0 scale=-1 seed=1", "scale above 0"),
        (b"mean=0.15 scale=0.1 seed=1", "at least twice the scale"),
        (b"mean=0 scale=1 seed=9999999999999999999", "seed: expected 0 to"),
        (b"\xff\xfe", "expected 'mean=NUMBER"),
    ],
)
def test_a_note_that_is_none_is_refused(tmp_path: Path, raw: bytes, named: str) -> None:
    raw = b"boardfront-weightless/1 " + raw
    with pytest.raises(InvalidRecordError, match=named):
        Note.from_bytes(raw)
    message = _refused(tmp_path, _model(_noted(raw, [4])))
    assert "initializer 'w'" in message
    assert named in message


def _values(tensor: onnx.TensorProto) -> np.ndarray:
    return np.asarray(numpy_helper.to_array(tensor), dtype=np.float64)


@pytest.mark.parametrize(
    "kind",
    [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE],
)
@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_filled_values_have_a_normal_scale_and_none_is_zero(
    tmp_path: Path, kind: int, mean: float
) -> None:
    note = Note(mean=mean, scale=0.02, seed=5)
    path = _saved(tmp_path, _model(_noted(note, [50, 40, 3, 3], kind)))
    (tensor,) = read_network(path).graph.initializer
    values = _values(tensor)
    assert values.shape == (50, 40, 3, 3)
    assert tensor.data_type == kind
    # 18,000 draws: six standard errors of mean and of standard deviation are under 5 % of 0.02.
    # A bfloat16 near 1 is rounded down by up to 2**-7.
    coarse = 2**-7 if kind == TensorProto.BFLOAT16 and mean else 0.0
    assert abs(values.mean() - mean) < 0.001 + coarse
    assert abs(values.std() - 0.02) < 0.001 + coarse
    # A relative 1e-2 for the types of few digits.
    least, most = note.magnitudes
    assert least * 0.99 - coarse < np.abs(values).min()
    assert np.abs(values).max() < most * 1.01 + coarse


def test_the_values_of_a_seed_are_fixed(tmp_path: Path) -> None:
    path = _saved(tmp_path, _model(_noted(Note(scale=1.0, seed=7), [3])))
    (tensor,) = read_network(path).graph.initializer
    # By hand from the definition: the first words of SFC64 seeded by 7, sign and mantissa kept.
    words = [int(word) for word in np.random.SFC64(7).random_raw(2)]
    halves = [part for word in words for part in (word & 0xFFFFFFFF, word >> 32)][:3]
    expected = [
        (-1 if half >> 31 else 1) * (1 + (half & 0x7FFFFF) / 2**23) * (3 / 7) ** 0.5
        for half in halves
    ]
    np.testing.assert_allclose(_values(tensor), expected, rtol=1e-6)


def test_reading_twice_gives_equal_bytes_and_a_full_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(conv_net())
    assert read_bytes(path) == conv_net()
    light = without_weights(onnx.load_model_from_string(conv_net(16)))
    assert len(light) < len(conv_net(16)) / 2
    path.write_bytes(light)
    filled = read_bytes(path)
    assert filled == read_bytes(path)
    model = onnx.load_model_from_string(filled)
    onnx.checker.check_model(model, full_check=True)
    assert model == read_network(path)


@pytest.mark.parametrize(
    ("note", "kind", "named"),
    [
        (Note(scale=1e-5, seed=0), TensorProto.FLOAT16, "normal numbers of FLOAT16"),
        (Note(mean=9e4, scale=1, seed=0), TensorProto.FLOAT16, "normal numbers of FLOAT16"),
        (Note(scale=1e-45, seed=0), TensorProto.FLOAT, "normal numbers of FLOAT"),
        (Note(scale=1, seed=0), TensorProto.INT64, "type INT64 has a note"),
    ],
)
def test_a_note_of_values_that_its_type_lacks_is_refused(
    tmp_path: Path, note: Note, kind: int, named: str
) -> None:
    assert named in _refused(tmp_path, _model(_noted(note, [4], kind)))


def _external(location: str) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def _constant(tensor: onnx.TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], value=tensor)


def _branch(*nodes: onnx.NodeProto, tensors: tuple[onnx.TensorProto, ...] = ()) -> onnx.NodeProto:
    inner = helper.make_graph(list(nodes), "branch", [], [], list(tensors))
    return helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner)


@pytest.mark.parametrize("location", ["/etc/passwd", "../../secret", "weights.bin"])
@pytest.mark.parametrize(
    "wrap",
    [
        _model,
        lambda tensor: _model(nodes=[_constant(tensor)]),
        lambda tensor: _model(nodes=[_branch(_constant(tensor))]),
        lambda tensor: _model(nodes=[_branch(tensors=(tensor,))]),
    ],
    ids=["initializer", "attribute", "attribute of a branch", "initializer of a branch"],
)
def test_external_data_is_refused_wherever_it_lies(
    tmp_path: Path, wrap: Callable[[onnx.TensorProto], onnx.ModelProto], location: str
) -> None:
    message = _refused(tmp_path, wrap(_external(location)))
    assert repr(location) in message
    assert "another file" in message


def test_external_data_in_a_function_and_in_training_info_is_refused(tmp_path: Path) -> None:
    model = _model()
    model.functions.append(
        helper.make_function(
            "mine", "f", [], ["c"], [_constant(_external("/w"))], [helper.make_opsetid("", 18)]
        )
    )
    assert "'/w'" in _refused(tmp_path, model)
    model = _model()
    model.training_info.add().algorithm.node.append(_constant(_external("/t")))
    assert "'/t'" in _refused(tmp_path, model)


def test_custom_operators_are_refused_but_not_the_runtimes_own(tmp_path: Path) -> None:
    custom = helper.make_node("Attention", ["x"], ["z"], domain="com.microsoft")
    message = _refused(tmp_path, _model(nodes=[_branch(custom)]))
    assert "'Attention' of domain 'com.microsoft' is a custom one" in message
    limits = NetworkLimits(domains=frozenset({"com.microsoft"}))
    read_network(_saved(tmp_path, _model(nodes=[_branch(custom)])), limits=limits)
    other = helper.make_node("Attention", ["x"], ["z"], domain="evil")
    assert "or one of ['com.microsoft']" in _refused(tmp_path, _model(nodes=[other]), limits)


def _function(name: str, calls: list[str], domain: str = "mine") -> onnx.FunctionProto:
    nodes = [helper.make_node(one, ["x"], ["y"], domain="mine") for one in calls]
    nodes.append(helper.make_node("Relu", ["x"], ["z"]))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    return helper.make_function(domain, name, ["x"], ["z"], nodes, opsets)


def test_local_functions_are_no_custom_operators(tmp_path: Path) -> None:
    model = _model(nodes=[helper.make_node("f", ["x"], ["z"], domain="mine")])
    assert "custom" in _refused(tmp_path, model)
    model.functions.append(_function("f", []))
    assert read_network(_saved(tmp_path, model)) == model
    model.functions.append(_function("Relu", [], domain=""))
    assert "hides no standard operator" in _refused(tmp_path, model)


def test_functions_that_grow_without_end_are_refused(tmp_path: Path) -> None:
    call = helper.make_node("f0", ["x"], ["z"], domain="mine")
    model = _model(nodes=[call])
    model.functions.extend([_function("f0", ["f1"]), _function("f1", ["f0"])])
    assert "calls itself" in _refused(tmp_path, model)
    model = _model(nodes=[call])
    names = [f"f{index}" for index in range(40)]
    model.functions.extend(_function(name, [following] * 2) for name, following in pairwise(names))
    model.functions.append(_function(names[-1], []))
    # f0 is 2**40 - 1 nodes, beside the ReLU.
    assert f"{2**40} nodes" in _refused(tmp_path, model)


def test_a_size_bomb_is_refused_before_it_is_filled(tmp_path: Path) -> None:
    bomb = _model(_noted(Note(scale=1.0, seed=0), [100_000, 100_000]))
    assert bomb.ByteSize() < 1024
    assert "take 40000000000 bytes: expected at most" in _refused(tmp_path, bomb)
    # Not one tensor, but all of them together.
    pair = [_noted(Note(scale=1.0, seed=0), [1000]) for _ in range(2)]
    limits = NetworkLimits(filled_bytes=7999)
    assert "take 8000 bytes" in _refused(tmp_path, _model(*pair), limits)
    many = _model(_noted(Note(scale=1.0, seed=0), [2**62, 2**62, 2**62]))
    assert "expected at most" in _refused(tmp_path, many)


@pytest.mark.parametrize(
    ("tensor", "named"),
    [
        (_noted(b"\0" * 16, [100_000, 100_000]), "needs 40000000000 bytes of data, got 16"),
        (_noted(b"\0" * 15, [4]), "needs 16 bytes of data, got 15"),
        (_noted(b"", [4]), "got 0"),
        (_noted(b"\0" * 16, [-2, -2]), "none negative"),
        (_noted(b"\0" * 4, [1] * 33), "at most 32 dimensions"),
        (numpy_helper.from_array(np.array(["a"], dtype=object), "w"), "type STRING"),
        (TensorProto(name="w", data_type=999, dims=[1]), "type 999"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    tmp_path: Path, tensor: onnx.TensorProto, named: str
) -> None:
    assert named in _refused(tmp_path, _model(tensor))
    assert named in _refused(tmp_path, _model(nodes=[_constant(tensor)]))


def test_a_note_in_an_attribute_is_refused(tmp_path: Path) -> None:
    message = _refused(tmp_path, _model(nodes=[_constant(_noted(Note(scale=1, seed=0), [400]))]))
    assert "needs 1600 bytes of data" in message


@pytest.mark.parametrize(
    "kind",
    [
        *(TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64),
        *(TensorProto.UINT64, TensorProto.INT8, TensorProto.BOOL, TensorProto.INT4),
    ],
)
def test_values_in_typed_lists_are_taken(tmp_path: Path, kind: int) -> None:
    model = _model(helper.make_tensor("w", kind, [5], [1, 0, 1, 1, 0]))
    assert not model.graph.initializer[0].raw_data
    assert read_network(_saved(tmp_path, model)) == model


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [0]),
        [100_000, 100_000],
    )
    model = _model()
    model.graph.sparse_initializer.append(sparse)
    assert "sparse tensors" in _refused(tmp_path, model)
    node = helper.make_node("Constant", [], ["c"], sparse_value=sparse)
    assert "sparse tensors" in _refused(tmp_path, _model(nodes=[node]))


@pytest.mark.parametrize(
    ("content", "named"),
    [(b"no protobuf at all", "no valid protobuf"), (b"", "no nodes in it")],
)
def test_what_is_no_onnx_is_refused(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(BackendError, match=named) as caught:
        read_network(path)
    assert caught.value.kind is FailureKind.INVALID_ARTIFACT


def test_a_missing_onnx_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _saved(tmp_path, _model())
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackendError, match=r"pip install 'boardfront\[onnxruntime\]'") as caught:
        read_network(path)
    assert caught.value.kind is FailureKind.UNSUPPORTED


def test_the_agent_measures_a_weightless_file_and_refuses_external_data(wire: Wire) -> None:
    light = without_weights(onnx.load_model_from_string(conv_net(16)))
    asked = harness.subject(light, backend="onnxruntime")
    result = result_of(answers(wire.run(make_job(subjects=(asked,)), light))["s0"])
    assert result.artifact_bytes == len(light)
    outside = _model(_external("/etc/passwd")).SerializeToString()
    asked = harness.subject(outside, backend="onnxruntime")
    failure = failure_of(answers(wire.run(make_job(subjects=(asked,)), outside))["s0"])
    assert failure.kind is FailureKind.INVALID_ARTIFACT
    assert "'/etc/passwd'" in failure.message
