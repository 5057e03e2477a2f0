"""Whole networks of both spaces train as the spaces' own modules do; stages; what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import onnx
import pytest
import torch
from onnx import numpy_helper
from tests.device_agent.torch_nets import (
    IMAGES,
    LEARNING_RATE,
    TOLERANCES,
    Net,
    compare,
    draw_batch,
    make_model,
    make_step,
)
from torch.nn import functional

from boardfront.device_agent.backends.base import BackendError
from boardfront.device_agent.backends.torch_graph import STAGES_KEY, rebuild, stage_ends
from boardfront.device_agent.backends.torch_step import MOMENTUM, WEIGHT_DECAY
from boardfront.device_agent.network import read_network
from boardfront.protos.records import FailureKind
from boardfront.search.spaces.etnas.space import EtnasSpace
from boardfront.search.spaces.spos.space import SposSpace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.device_agent.torch_nets import Tensors

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Two threads would wait for each other on a machine with other work."""
    torch.set_num_threads(1)


_RESOLUTION = 48
"""At some resolutions single precision flips a ReLU of a network, in the space's own module alike,
and moves what a step changes by 1e-3; not at this one."""
_NETWORK_IMAGES = (8, 3, _RESOLUTION, _RESOLUTION)
_SPOS = {
    "resolution": _RESOLUTION,
    "classes": 7,
    "stem_channels": 8,
    "stages": [[16, 2], [32, 3]],
    "last_channels": 48,
}
_ETNAS = {"resolution": _RESOLUTION, "classes": 7}
_NETWORKS = [
    ("spos", "3x-57x"),
    ("spos", "x3-5x7"),
    ("etnas", "02031-a02_32_11-2-2-11"),
    ("etnas", "23311-a02c12_32_1-21-2-1"),
    ("etnas", "420-c01_32_2-1-2-11"),
    ("etnas", "211-_32_11-2-1-2"),
]


def _space(name: str, **changes: object) -> SposSpace | EtnasSpace:
    if name == "spos":
        return SposSpace.from_settings({**_SPOS, **changes})
    return EtnasSpace.from_settings({**_ETNAS, **changes})


def _written(space: SposSpace | EtnasSpace, encoding: str, folder: Path) -> onnx.ModelProto:
    """Write a network without weights and read it as an agent does."""
    path = folder / "network.onnx"
    path.write_bytes(space.write_onnx(encoding, batch=8, seed=5).SerializeToString())
    return read_network(path)


def _train_own(
    space: SposSpace | EtnasSpace, encoding: str, model: onnx.ModelProto
) -> tuple[list[float], Tensors, Tensors]:
    """Train the space's own module two steps in float64: losses, state before, state after."""
    module = space.build(encoding).double().train()
    given = {t.name: torch.tensor(numpy_helper.to_array(t)) for t in model.graph.initializer}
    floats = {name: value.double() for name, value in given.items() if value.is_floating_point()}
    lacking = module.load_state_dict(floats, strict=False)
    assert not lacking.unexpected_keys
    assert all("num_batches" in key for key in lacking.missing_keys)
    optimizer = torch.optim.SGD(
        module.parameters(), LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    images, labels = draw_batch(_NETWORK_IMAGES, 7)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = functional.cross_entropy(module(images.double()), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses, floats, dict(module.state_dict())


@pytest.mark.parametrize(("space_name", "encoding"), _NETWORKS)
def test_a_whole_network_trains_as_the_space_built_it(
    space_name: str, encoding: str, tmp_path: Path
) -> None:
    space = _space(space_name)
    model = _written(space, encoding, tmp_path)
    losses, before, after = _train_own(space, encoding, model)
    assert set(rebuild(model).names) == set(before)
    for kind in TOLERANCES:
        batch = draw_batch(_NETWORK_IMAGES, 7)
        compare(rebuild(model), kind, before, after, batch, losses)


def _convolutions(tensor: torch.Tensor) -> int:
    """Count the convolutions that backward goes through."""
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        function = waiting.pop()
        if function is not None and function not in seen:
            seen.add(function)
            waiting.extend(before for before, _ in function.next_functions)
    return sum(function.name().startswith("Convolution") for function in seen)


_FROZEN = {0: (), 1: ("stem",), 3: ("stem", "blocks.0.", "blocks.1.", "blocks.2.")}


@pytest.mark.parametrize("frozen_stages", _FROZEN)
def test_frozen_stages_keep_their_parameters_and_update_their_statistics(
    frozen_stages: int, tmp_path: Path
) -> None:
    model = _written(_space("etnas"), "020-_32_11-2-2-1", tmp_path)
    assert len(stage_ends(model)) == 5
    network = rebuild(model, frozen_stages=frozen_stages)
    before = {key: value.clone() for key, value in network.module.state_dict().items()}
    step = make_step(network.module, *draw_batch(_NETWORK_IMAGES, 7))
    step.parts[0][1]()
    passed = _convolutions(step.loss)
    for _, part in step.parts[1:]:
        part()
    after = network.module.state_dict()
    kept = {name for name, key in network.names.items() if torch.equal(before[key], after[key])}
    frozen = {
        name
        for name in network.names
        if name.startswith(_FROZEN[frozen_stages] or ("-",)) and "running" not in name
    }
    assert kept == frozen
    kernels = [name for name in network.names if name.endswith("conv.weight")]
    assert passed == len(kernels) - sum(name in frozen for name in kernels)


def test_a_spos_network_marks_its_stages(tmp_path: Path) -> None:
    model = _written(_space("spos"), "3x-57x", tmp_path)
    assert stage_ends(model) == ("stem.relu.out", "blocks.1.concat.out", "blocks.4.concat.out")


def _biased(net: Net, x: str) -> str:
    kernels = [net.weight("w", 12, 8, 1, 1), net.weight("b", 12)]
    return net.node("Relu", [net.node("Conv", [x, *kernels], strides=[2, 2])])


def _marked(stages: str) -> onnx.ModelProto:
    model = Net().model(_biased)
    model.metadata_props.add(key=STAGES_KEY, value=stages)
    return model


@pytest.mark.parametrize(
    ("stages", "frozen_stages", "named"),
    [
        ("[]", 1, "1 frozen stages: the network marks 0"),
        (json.dumps(["v0", "v1"]), 3, "marks 2 .stem included."),
        (json.dumps(["nowhere"]), 1, "no node makes 'nowhere'"),
        ("{", 0, "expected a JSON list of values, got '{'"),
        ("[1]", 0, "expected a JSON list"),
    ],
)
def test_stages_that_are_not_there_are_said(stages: str, frozen_stages: int, named: str) -> None:
    with pytest.raises(BackendError, match=named) as caught:
        rebuild(_marked(stages), frozen_stages=frozen_stages)
    assert caught.value.kind is FailureKind.INVALID_ARTIFACT


def _one(kind: str, inputs: list[str], **attributes: Any) -> onnx.ModelProto:
    net = Net()
    net.weight("w", 12, 8, 3, 3)
    net.node(kind, inputs, "y", **attributes)
    return make_model(net.nodes, net.tensors, IMAGES, IMAGES)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (_one("Frobnicate", ["x"]), "no such operator here, expected one of Add"),
        (_one("Relu", ["x"], domain="org.example"), "org.example.Relu"),
        (_one("Conv", ["x", "x"]), "input 1 is computed, expected weights"),
        (_one("Conv", ["x", "w"], auto_pad="SAME_UPPER"), "auto_pad=SAME_UPPER"),
        (_one("Flatten", ["x"], axis=2), "axis=2, expected 1"),
        (_one("Gemm", ["x", "w"], alpha=0.5), "alpha=0.5, expected 1"),
        (_one("MatMul", ["x", "w"]), r"\(12, 8, 3, 3\), expected rank 2"),
        (_one("Reshape", ["x", "x"]), "input 1 is computed, expected a constant"),
        (_one("MaxPool", ["x"], kernel_shape=[3]), "a kernel of 1 dimensions"),
        (_one("AveragePool", ["x"], kernel_shape=[2, 2], pads=[0, 0, 1, 1]), "uneven"),
    ],
)
def test_what_cannot_be_rebuilt_is_unsupported(model: onnx.ModelProto, named: str) -> None:
    with pytest.raises(BackendError, match=named) as caught:
        rebuild(model)
    assert caught.value.kind is FailureKind.UNSUPPORTED
    assert "node 'y'" in str(caught.value)


def test_a_value_that_nothing_makes_is_an_invalid_artifact() -> None:
    with pytest.raises(BackendError, match="'nowhere' is made by no node") as caught:
        rebuild(_one("Relu", ["nowhere"]))
    assert caught.value.kind is FailureKind.INVALID_ARTIFACT


def test_a_shared_weight_stays_one_parameter() -> None:
    net = Net()
    features = net.node("MatMul", ["x", net.weight("shared", 12, 12)])
    net.node("MatMul", [net.node("Relu", [features]), "shared"], "y")
    module = rebuild(make_model(net.nodes, net.tensors, IMAGES, IMAGES)).module
    assert len(list(module.parameters())) == 1
