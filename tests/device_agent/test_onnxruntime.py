"""A real network on a real runtime: what comes back is measured."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from tests.device_agent import harness
from tests.device_agent.harness import answers, failure_of, make_job, result_of
from tests.device_agent.onnx_files import conv_net, dynamic_net, unknown_operator

from boardfront.protos import records
from boardfront.protos.records import FailureKind, Origin, TaskKind, Verdict

if TYPE_CHECKING:
    from tests.device_agent.harness import Wire


def _run(
    wire: Wire, content: bytes, task: records.Task | None = None, **changes: object
) -> records.Result | records.Failure:
    asked = harness.subject(content, backend="onnxruntime")
    asked = dataclasses.replace(asked, **changes)  # type: ignore[arg-type]
    return answers(wire.run(make_job(subjects=(asked,), task=task), content))["s0"]


def test_a_conv_net_is_measured(wire: Wire) -> None:
    result = result_of(_run(wire, conv_net(), options={"threads": "1"}))
    assert result.origin is Origin.MEASURED
    assert isinstance(result.verdict, Verdict)
    assert (result.verdict is Verdict.OK) == (not result.evidence)
    samples_s = [sample for window in result.windows for sample in window.samples_s]
    assert min(samples_s) > 0.0
    assert len(samples_s) == result.statistics.samples
    assert min(samples_s) == result.statistics.min_s
    statistics = result.statistics
    assert statistics.low_s <= statistics.median_s <= statistics.high_s
    starts_s = [window.start_s for window in result.windows]
    assert starts_s[0] == 0.0
    assert starts_s == sorted(starts_s)
    assert all(w.loops * statistics.median_s > 0.001 for w in result.windows)
    assert len(result.warm_up_s) >= 25
    assert result.load_s >= 0.0
    assert result.compile_s > 0.0
    assert dict(result.target.options) == {
        "threads": "1",
        "provider": "CPUExecutionProvider",
        "graph_optimization": "all",
        "spinning": "off",
    }
    assert result.circumstances.load_average is not None
    assert (result.circumstances.worker_peak_rss_bytes or 0) > 2**20


def test_two_networks_share_a_job(wire: Wire) -> None:
    small, large = conv_net(channels=4), conv_net(channels=48)
    subjects = (
        harness.subject(small, "small", backend="onnxruntime"),
        harness.subject(large, "large", backend="onnxruntime"),
    )
    found = answers(wire.run(make_job(subjects=subjects), small, large))
    times_s = {name: result_of(answer).statistics.median_s for name, answer in found.items()}
    # 144 times the multiplications: whatever the machine, the order is clear.
    assert times_s["small"] < times_s["large"]


def test_dynamic_dimensions_take_the_batch_and_the_given_shapes(wire: Wire) -> None:
    failure = failure_of(_run(wire, dynamic_net()))
    assert failure.kind is FailureKind.INVALID_ARTIFACT
    assert "1x3x?x?" in failure.message
    assert "--shape x=1x3xNxN" in failure.message
    result_of(_run(wire, dynamic_net(), input_shapes={"x": (2, 3, 8, 8)}))


@pytest.mark.parametrize(
    ("shapes", "named"),
    [
        ({"x": (1, 4, 8, 8)}, "does not fit input 'x': the model has ?x3x?x?"),
        ({"x": (1, 3, 8)}, "does not fit"),
        ({"y": (1, 3, 8, 8)}, "no input is called 'y'"),
    ],
)
def test_a_shape_that_does_not_fit_is_said(
    wire: Wire, shapes: dict[str, tuple[int, ...]], named: str
) -> None:
    failure = failure_of(_run(wire, dynamic_net(), input_shapes=shapes))
    assert failure.kind is FailureKind.INVALID_ARTIFACT
    assert named in failure.message


def test_an_operator_nobody_knows_is_unsupported(wire: Wire) -> None:
    failure = failure_of(_run(wire, unknown_operator()))
    assert failure.kind is FailureKind.UNSUPPORTED
    assert "Frobnicate" in failure.message


@pytest.mark.parametrize(
    ("task", "named"),
    [
        (
            records.Task(kind=TaskKind.TRAINING_STEP),
            "training-step-graph only, asked was training-step",
        ),
        (records.Task(cache=records.CacheState.COLD), "warm caches only, asked was cold"),
    ],
)
def test_a_task_it_cannot_time_is_unsupported_not_mislabelled(
    wire: Wire, task: records.Task, named: str
) -> None:
    failure = failure_of(_run(wire, conv_net(), task))
    assert failure.kind is FailureKind.UNSUPPORTED
    assert named in failure.message
