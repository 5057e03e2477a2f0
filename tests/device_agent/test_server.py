"""The wire beside jobs: description, health, telemetry, room for every call, no runtimes."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.device_agent import harness
from tests.device_agent.harness import Wire, in_phase, make_job, programme, refusal, result_of

from boardfront.device_agent import environment
from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.records import Phase, TaskKind

if TYPE_CHECKING:
    from boardfront.device_agent.agent import Agent

_HERE = Path(__file__).parent


def test_the_device_describes_itself(shared: tuple[Agent, Wire]) -> None:
    _, wire = shared
    found = wire.describe()
    assert found.name == "bench"
    assert found.protocol_version == records.PROTOCOL_VERSION
    assert found.measurement_protocol_version == records.MEASUREMENT_PROTOCOL_VERSION
    assert found.agent_version == importlib.metadata.version("boardfront")
    assert found.fingerprint == environment.fingerprint(found.hardware, found.system)
    assert found.hardware.memory_bytes > 2**28
    onnxruntime = found.backend("onnxruntime")
    assert onnxruntime is not None
    assert onnxruntime.available
    assert onnxruntime.tasks == (TaskKind.INFERENCE, TaskKind.TRAINING_STEP_GRAPH)
    assert onnxruntime.version == importlib.metadata.version("onnxruntime")
    assert wire.describe() == found


def test_a_third_partys_backend_is_found_and_used(rough: Wire) -> None:
    found = rough.describe().backend("rough")
    assert found is not None
    assert found.version == "0.9"
    asked = harness.subject(b"x", backend="rough")
    events = rough.run(make_job(subjects=(asked,)), b"x")
    result = result_of(harness.answers(events)["s0"])
    assert result.target.options == {"do": "nothing", "log": ""}
    # Each run sleeps 2 ms; how much longer is the machine's affair.
    assert result.statistics.min_s >= 0.002


@pytest.mark.parametrize("service", ["", "boardfront.v1.Agent"])
def test_standard_health_checking_answers(wire: Wire, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(wire.channel)
    reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10.0)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_telemetry_flows_while_a_job_runs(wire: Wire) -> None:
    content = programme(fault="hang-compile")
    job = make_job(content)
    wire.submit(job, content)
    wire.wait_for(job.job_id, in_phase(Phase.COMPILING))
    stream: Any = wire.stub.WatchTelemetry(agent_pb2.WatchTelemetryRequest(), timeout=10.0)
    samples = [codec.from_message(next(stream), records.TelemetrySample) for _ in range(3)]
    stream.cancel()
    wire.cancel(job.job_id)
    assert [sample.running_job_id for sample in samples] == [job.job_id] * 3
    assert [sample.queued_jobs for sample in samples] == [1] * 3
    times = [sample.time_unix_s for sample in samples]
    assert times == sorted(set(times))
    assert all(sample.memory_available_bytes for sample in samples)
    assert all(sample.power_w is None or sample.power_w > 0 for sample in samples)
    next_stream: Any = wire.stub.WatchTelemetry(agent_pb2.WatchTelemetryRequest(period_s=1e300))
    idle = codec.from_message(next(next_stream), records.TelemetrySample)
    next_stream.cancel()
    assert idle.running_job_id is None


def test_many_streams_leave_room_for_calls(wire: Wire) -> None:
    content = programme(fault="hang-compile")
    job = make_job(content)
    wire.submit(job, content)
    request = agent_pb2.WatchRequest(job_id=job.job_id)
    streams: list[Any] = [wire.stub.Watch(request, timeout=harness.WITHIN_S) for _ in range(24)]
    for stream in streams:
        next(stream)
    code, text = refusal(lambda: list(wire.watch(job.job_id)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "close one" in text
    assert wire.describe().queued_jobs == 1
    for stream in streams:
        stream.cancel()
    harness.until(lambda: _can_watch(wire, job.job_id))
    wire.cancel(job.job_id)


def _can_watch(wire: Wire, job_id: str) -> bool:
    stream = wire.watch(job_id)
    try:
        next(stream)
    except grpc.RpcError:
        return False
    stream.close()  # type: ignore[attr-defined]
    return True


def test_serving_imports_no_runtime(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(_HERE / "serve_and_list_modules.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=harness.WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["measured", "[]"]


def test_a_stock_client_finds_its_way_by_reflection(shared: tuple[Agent, Wire]) -> None:
    _, wire = shared
    done = subprocess.run(
        # Isolated: neither this checkout nor the user's packages are on its path by accident.
        [sys.executable, "-I", str(_HERE / "stock_client.py"), wire.address],
        capture_output=True,
        text=True,
        timeout=30.0,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines["name"] == "bench"
    assert lines["backends"].startswith("fake,onnxruntime")
    assert lines["created"] == "True"
    assert float(lines["median_s"]) == pytest.approx(0.0042, rel=0.01)
    assert lines["last"] == "JOB_STATE_COMPLETED"
    assert lines["boardfront"] == "[]"
