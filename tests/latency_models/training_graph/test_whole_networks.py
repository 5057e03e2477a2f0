"""Whole networks of both spaces against the spaces' own torch modules, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.latency_models.training_graph import steps

from boardfront.latency_models.training_graph import LOSS, Sgd, training_step
from boardfront.search.spaces.etnas import EtnasSettings, EtnasSpace
from boardfront.search.spaces.spos import SposSettings
from boardfront.search.spaces.spos.space import SposSpace

if TYPE_CHECKING:
    from tests.latency_models.training_graph.steps import Array, Values

    Space = EtnasSpace | SposSpace

# A step of the graph in float64 is torch's but for rounding (ONNX keeps epsilon in float32, which
# is most of it); after three steps as well.
FLOAT64 = 1e-9
# In float32 a rounding can move a value across a ReLU's kink, and a gradient with it.
FLOAT32 = 1e-4

STEPS = 3
BATCH = 8

_ETNAS: dict[str, Any] = {
    "resolution": 32,
    "classes": 7,
    "channels": (16,),
    "last_channels": (32, 64),
}
ETNAS = EtnasSpace(EtnasSettings(**_ETNAS))
RESNET_STEM = EtnasSpace(EtnasSettings(**_ETNAS, stem="resnet"))
SPOS = SposSpace(
    SposSettings(
        resolution=24, classes=7, stem_channels=8, stages=((16, 2), (32, 3)), last_channels=48
    )
)

# Every operator of ET-NAS, skips added and concatenated, projected and not, into the last node
# and into others; every choice of SPOS.
NETWORKS: dict[str, tuple[Space, str]] = {
    "etnas conv3x3": (ETNAS, "020-_16_11-1-2-1"),
    "etnas groups and added skip": (ETNAS, "22230-a02_16_1-2-11-1"),
    "etnas depthwise and concat": (ETNAS, "13413-c02c13_16_1-1-21-1"),
    "etnas all skips": (ETNAS, "33311-a02a13c12_16_1-1-2-2"),
    "etnas widened last node": (ETNAS, "421-c02_16_1-1-2-2"),
    "etnas stem of resnet": (RESNET_STEM, "10001-_16_4-1-1-1"),
    "spos all choices": (SPOS, "35-7x3"),
    "spos xception": (SPOS, "xx-xx7"),
}


def _data(space: Space, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((BATCH, 3, space.resolution, space.resolution))
    return images, rng.integers(0, space.classes, BATCH)


def _module(space: Space, encoding: str) -> torch.nn.Module:
    torch.manual_seed(3)
    return space.build(encoding).double().train()


def _state(module: torch.nn.Module) -> Values:
    return {
        name: value.detach().numpy().copy()
        for name, value in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def _train(
    module: torch.nn.Module, data: tuple[Array, Array], sgd: Sgd
) -> tuple[list[float], Values]:
    learned = {name: p for name, p in module.named_parameters() if p.requires_grad}
    losses, truth = steps.train(module, learned, data, sgd, steps=STEPS)
    return losses, _state(module) | truth


def _errors(found: Values, truth: Values) -> dict[str, float]:
    """Relative Frobenius errors over all parameters, all momenta, all statistics.

    One a tensor would mean nothing: a shift between two batch norms has the gradient zero, and
    what stands there is rounding.
    """
    kinds: dict[str, list[str]] = {"momentum": [], "statistics": [], "parameters": []}
    for name in truth:
        kind = "statistics" if "running_" in name else "parameters"
        kinds["momentum" if name.startswith("momentum/") else kind].append(name)

    def joined(values: Values, names: list[str]) -> Array:
        return np.concatenate(
            [np.asarray(values[name], dtype=np.float64).ravel() for name in names]
        )

    return {
        kind: steps.distance(joined(found, names), joined(truth, names))
        for kind, names in kinds.items()
    }


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
def test_three_steps_are_torchs(name: str, *, double: bool) -> None:
    space, encoding = NETWORKS[name]
    data, sgd = _data(space, 2), Sgd(learning_rate=0.01, weight_decay=0.01)
    model = space.write_onnx(encoding, batch=BATCH)
    step = training_step(steps.as_double(model) if double else model, sgd=sgd)
    module = _module(space, encoding)
    values = steps.start(step, _state(module), *data)
    before = dict(values)
    losses, truth = _train(module, data, sgd)
    run = (steps.open_float64 if double else steps.open_float32)(step)
    tolerance = FLOAT64 if double else FLOAT32
    for loss in losses:
        results = run(values)
        assert float(results[LOSS]) == pytest.approx(loss, rel=tolerance)
        values = steps.after(values, results)
    assert set(truth) == set(values) - {"images", "labels"}
    for kind, error in _errors(values, truth).items():
        assert error < tolerance, kind
    # What is compared has moved: nothing agrees because nothing happened.
    assert min(_errors(before, truth).values()) > 1e-4


def test_a_frozen_beginning_stays_and_its_statistics_move() -> None:
    space, encoding = NETWORKS["etnas groups and added skip"]
    data, sgd = _data(space, 2), Sgd(learning_rate=0.05)
    module = _module(space, encoding)
    frozen = {n for n, _ in module.named_parameters() if n.startswith(("stem.", "blocks.0."))}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    model = steps.as_double(space.write_onnx(encoding, batch=BATCH))
    step = training_step(model, sgd=sgd, frozen=frozen)
    assert len(step.graph.node) < len(training_step(model, sgd=sgd).graph.node)
    values = steps.start(step, _state(module), *data)
    _, truth = _train(module, data, sgd)
    run = steps.open_float64(step)
    for _ in range(STEPS):
        results = run(values)
        values = steps.after(values, results)
    assert {f"next/{name}" for name in frozen}.isdisjoint(results)
    assert set(truth) == set(values) - {"images", "labels"}
    assert max(_errors(values, truth).values()) < FLOAT64
    assert "next/stem.0.norm.running_mean" in results
