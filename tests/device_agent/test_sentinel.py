"""The sentinel that every agent carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from tests.device_agent import harness
from tests.device_agent.harness import Wire, answers, make_job, result_of, serving

from boardfront.device_agent import sentinel, write_sentinel
from boardfront.protos import records

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.device_agent.agent import Agent


def test_the_file_is_what_the_script_writes() -> None:
    assert sentinel.FILE.read_bytes() == write_sentinel.content()


def test_it_is_a_small_network_of_common_convolutions() -> None:
    model = onnx.load(str(sentinel.FILE))
    onnx.checker.check_model(model, full_check=True)
    (opset,) = model.opset_import
    assert (opset.domain, opset.version) == ("", 18)
    (x,) = model.graph.input
    assert [d.dim_value for d in x.type.tensor_type.shape.dim] == [1, 16, 32, 32]
    shapes = {tuple(tensor.dims)[1:] for tensor in model.graph.initializer}
    # A full 3x3, a 1x1 and a depthwise one.
    assert {(32, 3, 3), (32, 1, 1), (1, 3, 3)} <= shapes
    assert sentinel.FILE.stat().st_size < 128 << 10


def _ask_for_it(wire: Wire, backend: str) -> records.Result:
    asked = records.Subject(
        subject_id="s0", artifact_sha256=wire.describe().sentinel_sha256, backend=backend
    )
    job = make_job(subjects=[asked])
    return result_of(answers(wire.run(job))["s0"])


def test_the_agent_measures_it_without_being_sent_it(shared: tuple[Agent, Wire]) -> None:
    agent, wire = shared
    assert wire.describe().sentinel_sha256 == harness.name_of(sentinel.FILE.read_bytes())
    for backend in ("fake", "onnxruntime"):
        result = _ask_for_it(wire, backend)
        assert result.statistics.median_s > 0
        assert result.artifact_bytes == sentinel.FILE.stat().st_size
    # Nothing can evict it, because it takes no room among the artifacts.
    assert agent.artifacts.all_bytes == 0


def test_an_agent_that_takes_no_artifacts_has_it_too(tmp_path: Path) -> None:
    with serving(tmp_path, artifact_limit_bytes=1) as (_, wire):
        assert _ask_for_it(wire, "fake").artifact_sha256 == sentinel.sha256()
