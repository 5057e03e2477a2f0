"""Networks compiled here for a device: real libraries, run by a real agent and kept."""

from __future__ import annotations

import dataclasses
import importlib.util
import platform
import shutil
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import serving
from tests.device_agent.onnx_files import conv_net, unknown_operator

from boardfront.device_agent.agent import WorkerRules
from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient, artifact_name
from boardfront.host.fleet.compiling import HostCompiler, is_compiled_here
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.host.fleet.planned_job import PlannedJob
from boardfront.latency_models.base import TimeRequest
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos import records
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boardfront.latency_models.base import Measurement

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        importlib.util.find_spec("tvm") is None
        or platform.machine() != "x86_64"
        or shutil.which("x86_64-linux-gnu-gcc") is None,
        reason="needs TVM and gcc on x86-64, so that what is compiled for a device runs here",
    ),
]


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where libraries are kept; nothing of the person's is touched."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "boardfront" / "libraries"


@pytest.fixture
def measurer(tmp_path: Path, libraries: Path) -> Iterator[DeviceMeasurer]:
    del libraries
    rules = WorkerRules(native_code=True)
    with (
        serving(tmp_path / "agent", workers=rules) as (_, wire),
        MeasurementStore(tmp_path / "store.db") as store,
    ):
        client = AgentClient(RemoteAddress(wire.address), lost_after_s=5.0)
        yield DeviceMeasurer(client, store)
        client.close()


def _request(model: bytes) -> TimeRequest:
    return TimeRequest(
        model=model,
        structure_hash=artifact_name(model),
        task=records.Task(),
        backend="tvm",
        options={"compile_on": "host"},
        precision=records.Precision(relative_half_width=0.5, min_duration_s=0.2),
        deadlines=records.Deadlines(compile_s=120.0, run_s=30.0),
        label="a net/of ours",
        fresh=True,
    )


def _one(measurer: DeviceMeasurer, request: TimeRequest) -> Measurement:
    (answer,) = measurer.measure([request])
    return answer


@pytest.mark.slow
def test_a_library_is_made_once_sent_and_run(measurer: DeviceMeasurer, libraries: Path) -> None:
    request = _request(conv_net())
    first = _one(measurer, request)
    assert first.result is not None, first.failure
    assert first.result.target.tuning == "untuned"
    assert first.result.target.options["compile_on"] == "host"
    (library,) = libraries.glob("*.library")
    assert first.result.artifact_sha256 == artifact_name(library.read_bytes())
    made = library.stat().st_ino
    second = _one(measurer, request)
    assert second.result is not None
    assert second.result.artifact_sha256 == first.result.artifact_sha256
    assert library.stat().st_ino == made
    # What is asked for is what was answered: the store can find it.
    planned = measurer.plan([request])
    assert isinstance(planned, PlannedJob)
    assert planned.asked[0].key == first.key


def test_what_cannot_be_compiled_is_a_failure_not_an_end(
    measurer: DeviceMeasurer, libraries: Path
) -> None:
    broken, good = _request(unknown_operator()), _request(conv_net())
    answer = _one(measurer, broken)
    assert answer.failure is not None
    assert answer.failure.kind in {FailureKind.UNSUPPORTED, FailureKind.INVALID_ARTIFACT}
    assert answer.id is not None
    hasty = dataclasses.replace(
        good, deadlines=dataclasses.replace(good.deadlines, compile_s=0.05)
    )
    late = _one(measurer, hasty)
    assert late.failure is not None
    assert late.failure.kind is FailureKind.TIMEOUT
    assert not list(libraries.iterdir())


def test_libraries_that_others_remove_at_the_same_time_are_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "kept.library").write_bytes(b"kept")
    # What glob finds and stat does not.
    (tmp_path / "gone.library").symlink_to(tmp_path / "nowhere")
    HostCompiler(tmp_path)._evict()
    assert (tmp_path / "kept.library").read_bytes() == b"kept"


def test_other_targets_are_left_alone() -> None:
    assert not is_compiled_here("tvm", {})
    assert not is_compiled_here("onnxruntime", {"compile_on": "host"})
    assert is_compiled_here("tvm", {"compile_on": "host"})
