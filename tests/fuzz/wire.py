"""An agent's socket under wrong requests: real bytes to a real agent in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import psutil
from google.protobuf.message import DecodeError
from tests.device_agent.harness import (
    DEADLINES,
    AgentProcess,
    Wire,
    answers,
    make_job,
    name_of,
    programme,
    result_of,
    subject,
    until,
)
from tests.fuzz import samples
from tests.fuzz.mutation import ESCAPED
from tests.fuzz.targets import assert_only, passes_checks, spoilt_requests

from boardfront.device_agent.server import SERVICE
from boardfront.protos import agent_pb2, records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.mutation import Mutator

_WITHIN_S = 10.0
_STREAM_WITHIN_S = 0.3
"""A stream that has nothing to tell is silent: this is no hang."""

_BUSY = "busy"
"""gRPC's own defence against many cancelled streams; any client tries again after it."""
_TRIES = 100
_PAUSE_S = 0.05

_GLANCE = records.Precision(relative_half_width=0.5, min_duration_s=0.02)
_SOON = records.Deadlines(queue_s=60.0, compile_s=10.0, run_s=3.0)

_STREAMS = ("Watch", "WatchTelemetry")
_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def fuzz_wire(mutator: Mutator, count: int, folder: Path) -> Counter[str]:
    """Every method of an agent: it refuses in one of the ways that are foreseen, and goes on.

    Returns:
        How often each method answered what.
    """
    outcomes: Counter[str] = Counter()
    with fuzzed_agent(folder) as (agent, wire):
        pid = agent.pid
        caller = _Caller(wire)
        for name, content in spoilt_requests(mutator, count):
            outcomes[f"{name} {caller.call(name, content)}"] += 1
        for _ in range(count // 20):
            outcomes[f"UploadArtifact {caller.upload(mutator)}"] += 1
        assert agent.pid == pid
        wire.cancel("watched")
        # It is as good as new.
        result_of(wire.measure(programme(time_s=0.002)))
        assert wire.describe().queued_jobs == 0
    _assert_clean(folder)
    return outcomes


def fuzz_runs(mutator: Mutator, count: int, folder: Path) -> Counter[str]:
    """Spoilt networks that pass every check, in the hands of a real runtime: typed answers only.

    Returns:
        How often it came to a result, or to which failure.
    """
    outcomes: Counter[str] = Counter()
    with fuzzed_agent(folder) as (agent, wire):
        pid = agent.pid
        wire.cancel("watched")
        for number in range(count):
            content = _spoilt_network(mutator)
            asked = subject(content, backend="onnxruntime")
            job = make_job(
                subjects=(asked,), job_id=f"run-{number}", precision=_GLANCE, deadlines=_SOON
            )
            try:
                found = answers(wire.run(job, content))["s0"]
            except grpc.RpcError as error:
                outcomes[_refusal("Submit", content, error)] += 1
                continue
            outcomes["result" if isinstance(found, records.Result) else found.kind.value] += 1
            wire.acknowledge(job.job_id)
        assert agent.pid == pid
        assert psutil.Process(pid).children(recursive=True) == []
        result_of(wire.measure(programme(time_s=0.002)))
    _assert_clean(folder)
    return outcomes


def _assert_clean(folder: Path) -> None:
    """Check that nothing was written but in the agent's own folder."""
    assert_only(folder, folder / "agent", folder / "home" / "tmp")
    # A killed agent's workers remove their folders.
    until(lambda: not any((folder / "home" / "tmp").iterdir()))
    places = (Path("/tmp"), folder, *folder.parents)  # noqa: S108 - where wrong names point to
    assert [place / ESCAPED for place in places if (place / ESCAPED).exists()] == []


def _spoilt_network(mutator: Mutator) -> bytes:
    rights = samples.networks()
    while True:
        content = mutator.spoil(mutator.random.choice(rights))
        if content not in rights and passes_checks(content):
            return content


@contextlib.contextmanager
def fuzzed_agent(folder: Path) -> Iterator[tuple[AgentProcess, Wire]]:
    """Run an agent whose home is in `folder` too, and keep it busy with the job `watched`."""
    home = folder / "home"
    (home / "tmp").mkdir(parents=True)
    places = {name: str(home) for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")}
    environment = {**places, "TMPDIR": str(home / "tmp")}
    with AgentProcess(folder / "agent", environment=environment) as agent:
        wire = Wire(agent.address)
        wire.describe()
        hanging = programme(fault="hang-compile")
        deadlines = dataclasses.replace(DEADLINES, compile_s=86400.0)
        wire.upload(samples.ARTIFACT)
        wire.submit(make_job(hanging, job_id="watched", deadlines=deadlines), hanging)
        try:
            yield agent, wire
        finally:
            wire.close()


class _Caller:
    """Calls methods by their names, with bytes."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        # Any: the stubs know no method without a serializer, which is how bytes are sent as is.
        self._channel: Any = wire.channel

    def call(self, name: str, content: bytes) -> str:
        """Return what came of it, in a word."""
        for _ in range(_TRIES):
            outcome = self._call_once(name, content)
            if outcome != _BUSY:
                return outcome
            time.sleep(_PAUSE_S)
        raise AssertionError(f"{name} was refused {_TRIES} times: to {content[:2000]!r}")

    def _call_once(self, name: str, content: bytes) -> str:
        path = f"/{SERVICE}/{name}"
        try:
            if name in _STREAMS:
                stream = self._channel.unary_stream(path)(content, timeout=_STREAM_WITHIN_S)
                next(stream, None)
                stream.cancel()
            else:
                self._channel.unary_unary(path)(content, timeout=_WITHIN_S)
        except grpc.RpcError as error:
            return _refusal(name, content, error)
        self._undo(name, content)
        return "OK"

    def upload(self, mutator: Mutator) -> str:
        """Send chunks of which some are wrong."""
        content = mutator.random.randbytes(3000)
        right = [
            agent_pb2.ArtifactChunk(
                sha256=name_of(content), size_bytes=len(content), data=content[:1000]
            ),
            agent_pb2.ArtifactChunk(data=content[1000:]),
        ]
        mutator.twist(mutator.random.choice(right))
        chunks = [chunk.SerializeToString() for chunk in right]
        if mutator.random.random() < 0.3:
            chunks[0] = mutator.spoil(chunks[0])
        try:
            self._channel.stream_unary(f"/{SERVICE}/UploadArtifact")(
                iter(chunks), timeout=_WITHIN_S
            )
        except grpc.RpcError as error:
            return _refusal("UploadArtifact", b"|".join(chunks), error)
        return "OK"

    def _undo(self, name: str, content: bytes) -> None:
        """Make room for the next one, whose job or lease this one's would stand in the way of."""
        if name == "Submit":
            job_id = _parsed(agent_pb2.SubmitRequest, content).job.job_id
            with contextlib.suppress(grpc.RpcError):
                self._wire.cancel(job_id)
                self._wire.acknowledge(job_id)
        elif name == "AcquireLease":
            lease_id = _parsed(agent_pb2.AcquireLeaseRequest, content).lease_id
            self._wire.stub.ReleaseLease(
                agent_pb2.ReleaseLeaseRequest(lease_id=lease_id), timeout=_WITHIN_S
            )


def _refusal(name: str, content: bytes, error: Any) -> str:
    """Return the status of a refusal, which must be one that is foreseen."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and "RST_STREAM with error code 7" in details:
        return _BUSY
    foreseen = code in _REFUSALS or (
        code is grpc.StatusCode.DEADLINE_EXCEEDED and name in _STREAMS
    )
    assert foreseen, f"{name} answered {code.name}: {details}: to {content[:2000]!r}"
    assert "\n" not in details, details
    return str(code.name)


def _parsed(kind: type[Any], content: bytes) -> Any:
    try:
        return kind.FromString(content)
    except DecodeError:
        return kind()
