"""A training step as one graph, on a real runtime."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.device_agent import harness
from tests.device_agent.harness import answers, failure_of, make_job, result_of
from tests.device_agent.onnx_files import conv_net

from boardfront.device_agent.backends.base import BackendError
from boardfront.device_agent.backends.onnxruntime import OnnxRuntimeBackend
from boardfront.device_agent.backends.step_graph import read_draws
from boardfront.latency_models.training_graph import INPUTS_KEY, TASK_KEY, training_step
from boardfront.protos import records
from boardfront.protos.records import CacheState, FailureKind, Origin, TaskKind
from boardfront.search.spaces import catalog

if TYPE_CHECKING:
    from pathlib import Path

    import onnx
    from tests.device_agent.harness import Wire

    from boardfront.search.space import NetworkSpace

BATCH = 4
STEP = records.Task(kind=TaskKind.TRAINING_STEP_GRAPH, batch=BATCH)
SPACE = {
    "resolution": 16,
    "classes": 5,
    "stem_channels": 8,
    "stages": [[16, 2]],
    "last_channels": 24,
}


def _network() -> onnx.ModelProto:
    space: NetworkSpace = catalog.load("spos", SPACE)  # type: ignore[assignment]
    return space.write_onnx("3x", batch=BATCH)


def _backend(
    tmp_path: Path, step: onnx.ModelProto, task: records.Task = STEP
) -> OnnxRuntimeBackend:
    path = tmp_path / "step.onnx"
    path.write_bytes(step.SerializeToString())
    options = OnnxRuntimeBackend.resolve({}, OnnxRuntimeBackend.probe())
    backend = OnnxRuntimeBackend(options)
    backend.load(path, task, {})
    backend.compile()
    return backend


def test_a_step_is_measured_over_the_wire(wire: Wire) -> None:
    content = training_step(_network()).SerializeToString()
    subject = harness.subject(content, backend="onnxruntime")
    found = answers(wire.run(make_job(subjects=(subject,), task=STEP), content))["s0"]
    result = result_of(found)
    assert result.origin is Origin.MEASURED
    assert result.statistics.min_s > 0.0


def test_steps_go_on_from_each_other(tmp_path: Path) -> None:
    backend = _backend(tmp_path, training_step(_network()))
    outputs = [node.name for node in backend._session.get_outputs()]
    weight, loss = outputs.index("next/classifier.weight"), outputs.index("loss")
    losses, weights = [], []
    for _ in range(60):
        binding = next(backend._turns)
        backend._session.run_with_iobinding(binding)
        found = binding.get_outputs()
        losses.append(float(found[loss].numpy()))
        weights.append(found[weight].numpy().copy())
    # One batch, learned by heart: only steps that build on each other do that.
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.5 * losses[0]
    assert not np.array_equal(weights[-1], weights[-2])
    steps = [float(np.linalg.norm(b - a)) for a, b in itertools.pairwise(weights)]
    assert max(steps) < 0.5 * float(np.linalg.norm(weights[0]))


def test_values_are_drawn_as_the_metadata_say(tmp_path: Path) -> None:
    step = training_step(_network())
    backend = _backend(tmp_path, step)
    entry = next(e for e in step.metadata_props if e.key == INPUTS_KEY)
    drawn = dict(
        backend._step_values(
            {node.name: node for node in backend._session.get_inputs()},
            read_draws({INPUTS_KEY: entry.value}),
            np.random.default_rng(0),
        )
    )
    assert set(drawn) == {value.name for value in step.graph.input}
    assert drawn["labels"].dtype == np.int64
    assert 0 <= drawn["labels"].min() <= drawn["labels"].max() < 5
    assert min(v.min() for name, v in drawn.items() if name.endswith("running_var")) >= 1.0
    assert not drawn["momentum/stem.conv.weight"].any()
    weight = drawn["head.conv.weight"]
    assert weight.std() == pytest.approx(np.sqrt(2 / weight.shape[1]), rel=0.2)


def _failure(wire: Wire, content: bytes, task: records.Task) -> records.Failure:
    subject = harness.subject(content, backend="onnxruntime")
    return failure_of(answers(wire.run(make_job(subjects=(subject,), task=task), content))["s0"])


def test_neither_task_is_taken_for_the_other(wire: Wire) -> None:
    step = training_step(_network()).SerializeToString()
    failure = _failure(wire, step, records.Task(batch=BATCH))
    assert failure.kind is FailureKind.INVALID_ARTIFACT
    assert "the graph is a whole training step, asked was inference" in failure.message
    failure = _failure(wire, conv_net(), dataclasses.replace(STEP, batch=1))
    assert failure.kind is FailureKind.INVALID_ARTIFACT
    assert f"(metadata {TASK_KEY}), got another" in failure.message


def test_another_batch_and_cold_caches_are_refused(tmp_path: Path) -> None:
    step = training_step(_network())
    with pytest.raises(BackendError, match=r"of batch \(4,\), asked was 8"):
        _backend(tmp_path, step, dataclasses.replace(STEP, batch=8))
    with pytest.raises(BackendError, match="warm caches only"):
        _backend(tmp_path, step, dataclasses.replace(STEP, cache=CacheState.COLD))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "expected a JSON object"),
        ("[1]", "expected a JSON object"),
        ("[" * 100_000, "expected a JSON object"),
        ('{"images": 3}', "expected a JSON object"),
        ('{"images": {"kind": "normal", "of": 3}}', "expected a JSON object"),
        ('{"images": {"kind": "normal", "mean": "3"}}', "expected a JSON object"),
        ('{"images": {"kind": "strange"}}', "input 'images': expected one of"),
        ('{"images": {"kind": "normal", "scale": -1}}', "input 'images': expected one of"),
        ('{"images": {"kind": "normal", "mean": Infinity}}', "input 'images': expected one of"),
        ('{"labels": {"kind": "labels", "below": 0}}', "input 'labels': expected one of"),
        ('{"labels": {"kind": "labels", "below": 2.5}}', "below: expected a whole number"),
        (json.dumps({"images": {"kind": "normal"}}), "input 'labels' of type tensor"),
    ],
)
def test_metadata_that_are_not_the_writers_are_refused(
    tmp_path: Path, text: str, named: str
) -> None:
    step = training_step(_network())
    next(e for e in step.metadata_props if e.key == INPUTS_KEY).value = text
    with pytest.raises(BackendError, match=named) as caught:
        _backend(tmp_path, step)
    assert caught.value.kind is FailureKind.INVALID_ARTIFACT
