"""What one client, or all of them, may ask of an agent; refused over a real socket in one line."""

from __future__ import annotations

import itertools
import os
import socket
import stat
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.device_agent import harness
from tests.device_agent.harness import Wire, make_job, name_of, programme, refusal, result_of

from boardfront.device_agent import admission
from boardfront.device_agent.admission import (
    AdmissionLimits,
    CallRate,
    OverLimitError,
    Places,
    QueueLimits,
)
from boardfront.protos import agent_pb2, records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_peer_has_its_burst_and_then_its_rate() -> None:
    rate = CallRate(2.0, 3)
    assert [rate.take("a", 10.0) for _ in range(5)] == [True, True, True, False, False]
    assert rate.take("b", 10.0)
    assert [rate.take("a", 10.5) for _ in range(2)] == [True, False]
    # However long it was silent, no more than the burst.
    assert [rate.take("a", 1e6) for _ in range(4)] == [True, True, True, False]


def test_as_many_peers_are_remembered_as_fit() -> None:
    rate = CallRate(1e-9, 1)
    assert all(rate.take(str(number), 0.0) for number in range(2000))
    assert not rate.take("1999", 0.0)
    assert rate.take("0", 0.0)
    assert len(rate._left) == 1024


def test_places_are_taken_and_given_back() -> None:
    places = Places(3, 2)
    assert [places.take("a", spared=False) for _ in range(3)] == [True, True, False]
    assert [places.take("b", spared=False) for _ in range(2)] == [True, False]
    places.give_back("a")
    assert [places.take("b", spared=True) for _ in range(2)] == [True, False]
    for peer in "abb":
        places.give_back(peer)
    assert not places._taken


@pytest.mark.parametrize(
    ("peer", "certificate", "name", "local"),
    [
        ("ipv4:192.168.1.7:40312", None, "192.168.1.7", False),
        ("ipv4:127.0.0.1:40312", None, "127.0.0.1", True),
        ("ipv6:%5B::1%5D:40312", None, "::1", True),
        ("ipv6:[fe80::1%25eth0]:40312", None, "fe80::1%eth0", False),
        ("ipv6:%5B::ffff:127.0.0.1%5D:1", None, "::ffff:127.0.0.1", True),
        ("unix:", None, "unix", True),
        ("unix:/some/where", None, "unix", True),
        ("ipv4:127.0.0.1:40312", b"anna", "certificate anna", False),
        ("", None, "", False),
    ],
)
def test_a_peer_is_its_certificate_or_its_address(
    peer: str, certificate: bytes | None, name: str, *, local: bool
) -> None:
    found = {} if certificate is None else {"x509_common_name": [certificate]}
    context: Any = SimpleNamespace(peer=lambda: peer, auth_context=lambda: found)
    assert admission.peer_name(context) == name
    assert admission.is_local(name) is local


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A client of an agent that gives this machine's peers as little as strangers."""
    limits = AdmissionLimits(calls_per_s=5.0, burst=20, streams_per_peer=2, spare_local=False)
    with harness.serving(tmp_path_factory.mktemp("strict"), limits=limits) as (_, wire):
        yield wire


def test_calls_without_end_are_refused_and_then_taken_again(strict: Wire) -> None:
    ask = agent_pb2.FindMissingArtifactsRequest()

    def flood() -> None:
        for _ in range(100):
            strict.stub.FindMissingArtifacts(ask, timeout=harness.WITHIN_S)

    code, text = refusal(flood)
    assert code is _EXHAUSTED
    assert text == "more than 5 calls a second from 127.0.0.1: wait a second, then go on"
    harness.until(lambda: _is_taken(strict))


def _is_taken(wire: Wire) -> bool:
    try:
        wire.missing()
    except grpc.RpcError:
        return False
    return True


def test_one_peer_gets_its_streams_and_no_more(strict: Wire) -> None:
    time.sleep(2.0)
    request = agent_pb2.WatchTelemetryRequest(period_s=3600.0)
    streams: list[Any] = [strict.stub.WatchTelemetry(request) for _ in range(2)]
    for stream in streams:
        next(stream)
    one_more: Any = strict.stub.WatchTelemetry(request)
    code, text = refusal(lambda: next(one_more))
    assert code is _EXHAUSTED
    assert "or 2 of yours: close one, then try again" in text
    for stream in streams:
        stream.cancel()


def test_this_machines_peers_are_spared_what_holds_for_one(tmp_path: Path) -> None:
    limits = AdmissionLimits(calls_per_s=1.0, burst=1, streams_per_peer=1)
    with harness.serving(tmp_path, limits=limits) as (_, wire):
        for _ in range(20):
            wire.missing()
        request = agent_pb2.WatchTelemetryRequest(period_s=3600.0)
        streams: list[Any] = [wire.stub.WatchTelemetry(request) for _ in range(3)]
        for stream in streams:
            next(stream)
            stream.cancel()


def test_health_and_reflection_are_counted_too(tmp_path: Path) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    limits = AdmissionLimits(calls_per_s=1e-3, burst=3, spare_local=False)
    with harness.serving(tmp_path, limits=limits) as (_, wire):
        stub = health_pb2_grpc.HealthStub(wire.channel)
        for _ in range(3):
            stub.Check(health_pb2.HealthCheckRequest(), timeout=10.0)
        check = health_pb2.HealthCheckRequest()
        assert refusal(lambda: stub.Check(check, timeout=10.0))[0] is _EXHAUSTED


def test_watching_health_is_a_stream_that_keeps_no_thread(tmp_path: Path) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    limits = AdmissionLimits(streams=3)
    with harness.serving(tmp_path, limits=limits) as (_, wire):
        stub = health_pb2_grpc.HealthStub(wire.channel)
        request = health_pb2.HealthCheckRequest(service="boardfront.v1.Agent")
        threads = threading.active_count()
        streams: list[Any] = [stub.Watch(request) for _ in range(3)]
        for stream in streams:
            assert next(stream).status == health_pb2.HealthCheckResponse.SERVING
        # One a stream is this client's own.
        assert threading.active_count() <= threads + 3 + 1
        one_more: Any = stub.Watch(request)
        code, text = refusal(lambda: next(one_more))
        assert (code, text[:9]) == (_EXHAUSTED, "3 streams")
        for stream in streams:
            stream.cancel()
        harness.until(lambda: _is_watched(stub, request))


def _is_watched(stub: Any, request: Any) -> bool:
    stream = stub.Watch(request)
    try:
        next(stream)
    except grpc.RpcError:
        return False
    stream.cancel()
    return True


def _endless(sent: threading.Event) -> Iterator[agent_pb2.ArtifactChunk]:
    """Name a large artifact, send a little of it, and fall silent."""
    yield agent_pb2.ArtifactChunk(sha256=name_of(b""), size_bytes=1 << 20, data=b"x")
    sent.wait(harness.WITHIN_S)


def test_uploads_that_stand_still_hold_up_nobody(tmp_path: Path) -> None:
    limits = AdmissionLimits(uploads=2, upload_idle_s=0.8)
    silent = threading.Event()
    with harness.serving(tmp_path / "state", limits=limits) as (agent, wire):
        try:
            calls: list[Any] = [
                wire.stub.UploadArtifact.future(_endless(silent)) for _ in range(2)
            ]
            harness.until(lambda: len(list(agent.artifacts._folder.glob("*.part"))) == 2)
            code, text = refusal(lambda: wire.upload(b"other"))
            assert code is _EXHAUSTED
            assert "2 artifacts are being sent" in text
            # Short calls go on meanwhile, and the silent ones are ended.
            assert wire.missing() == []
            for call in calls:
                assert call.exception(timeout=harness.WITHIN_S).code() is grpc.StatusCode.CANCELLED
            harness.until(lambda: list(agent.artifacts._folder.iterdir()) == [])
            harness.until(lambda: _can_upload(wire))
        finally:
            silent.set()


def _can_upload(wire: Wire) -> bool:
    try:
        wire.upload(b"other")
    except grpc.RpcError:
        return False
    return True


def test_an_upload_that_is_slow_but_not_silent_arrives(tmp_path: Path) -> None:
    content = bytes(range(10))

    def slow() -> Iterator[agent_pb2.ArtifactChunk]:
        yield agent_pb2.ArtifactChunk(sha256=name_of(content), size_bytes=10, data=content[:1])
        for index in range(1, 10):
            time.sleep(0.2)
            yield agent_pb2.ArtifactChunk(data=content[index : index + 1])

    with harness.serving(tmp_path, limits=AdmissionLimits(upload_idle_s=1.0)) as (_, wire):
        reply = wire.stub.UploadArtifact(slow(), timeout=harness.WITHIN_S)
        assert reply.sha256 == name_of(content)


def test_an_upload_that_waits_for_the_agents_disk_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    # A board's SD card takes its time.
    def slow(descriptor: int) -> None:
        time.sleep(1.2)
        sync(descriptor)

    with harness.serving(tmp_path, limits=AdmissionLimits(upload_idle_s=0.4)) as (_, wire):
        monkeypatch.setattr(os, "fsync", slow)
        assert wire.upload(b"other").sha256 == name_of(b"other")


def test_too_long_a_message_is_refused(tmp_path: Path) -> None:
    with harness.serving(tmp_path) as (_, wire):
        code, text = refusal(lambda: wire.upload(bytes(5 << 20), chunk_bytes=5 << 20))
        assert code is _EXHAUSTED
        assert "larger than max" in text
        long = (("padding", "x" * (64 << 10)),)
        request = agent_pb2.FindMissingArtifactsRequest()
        code, _ = refusal(
            lambda: wire.stub.FindMissingArtifacts(request, timeout=10.0, metadata=long)
        )
        assert code is _EXHAUSTED
        assert wire.missing() == []


def test_a_full_queue_takes_no_more_and_loses_nothing(tmp_path: Path) -> None:
    hanging, quick = programme(fault="hang-compile"), programme()
    with harness.serving(tmp_path) as (agent, wire):
        agent.jobs._limits = QueueLimits(waiting=2, kept=3)
        running, waiting, refused = make_job(hanging), make_job(quick), make_job(quick)
        wire.upload(quick)
        wire.submit(running, hanging)
        wire.submit(waiting)
        code, text = refusal(lambda: wire.submit(refused))
        assert code is _EXHAUSTED
        assert "2 jobs wait on this agent" in text
        assert "\n" not in text
        # Asking again for what is there is no new job.
        assert not wire.submit(waiting).created
        wire.cancel(running.job_id)
        wire.submit(refused)
        for job in (waiting, refused):
            result_of(harness.answers(list(wire.watch(job.job_id)))["s0"])
        code, text = refusal(lambda: wire.submit(make_job(quick)))
        assert code is _EXHAUSTED
        assert "3 jobs are kept" in text
        assert "acknowledge" in text
        wire.acknowledge(waiting.job_id)
        assert wire.submit(make_job(quick)).created


def test_the_queues_limits_are_where_they_say() -> None:
    limits = QueueLimits(waiting=2, kept=5)
    limits.check(waiting=1, kept=4)
    for counts in ({"waiting": 2, "kept": 2}, {"waiting": 0, "kept": 5}):
        with pytest.raises(OverLimitError):
            limits.check(**counts)


def test_names_from_the_wire_never_become_paths(tmp_path: Path) -> None:
    content = programme()
    evil = ("../evil", "a/b", "/etc/evil", "..", ".", "a\0b", "acknowledged.txt", "x" * 129, "")
    with harness.serving(tmp_path / "state") as (_, wire):
        wire.upload(content)
        before = sorted(path for path in tmp_path.rglob("*"))
        for name in evil:
            job = records.Job(
                job_id=name,
                subjects=(harness.subject(content),),
                precision=harness.QUICK,
                deadlines=harness.DEADLINES,
                task=records.Task(),
            )
            assert refusal(lambda job=job: wire.submit(job))[0].name == "INVALID_ARGUMENT"  # type: ignore[misc]
            asks = itertools.chain(
                (lambda name=name: list(wire.watch(name)),),
                (lambda name=name: wire.cancel(name),),
                (lambda name=name: wire.acknowledge(name),),
            )
            for ask in asks:
                assert refusal(ask)[0] is grpc.StatusCode.NOT_FOUND
            assert refusal(lambda name=name: wire.missing(name))[0].name == "INVALID_ARGUMENT"  # type: ignore[misc]
        assert sorted(path for path in tmp_path.rglob("*")) == before
        assert not (tmp_path / "evil").exists()


def test_a_unix_socket_is_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with harness.serving(tmp_path / "state", address=f"unix:{path}") as (_, wire):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert wire.describe().name == "bench"
        result_of(wire.measure(programme()))
    # What a killed agent leaves behind is taken over.
    with socket.socket(socket.AF_UNIX) as left:
        path.unlink(missing_ok=True)
        left.bind(str(path))
    with harness.serving(tmp_path / "state", address=f"unix:{path}") as (_, wire):
        assert wire.missing() == []


def test_a_socket_in_no_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    from boardfront.device_agent.agent import Agent
    from boardfront.device_agent.server import start_server
    from boardfront.protos.errors import WrongInputError

    agent = Agent(tmp_path)
    with pytest.raises(WrongInputError, match="cannot listen on unix:"):
        start_server(agent, f"unix:{tmp_path}/none/agent.sock")
    agent.stop()


def test_the_agents_folder_is_closed_to_other_users(tmp_path: Path) -> None:
    with harness.serving(tmp_path / "state"):
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
