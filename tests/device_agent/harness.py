"""Real agents, in this process and in processes of their own, and a plain client to ask them."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import grpc
import psutil

from boardfront.device_agent import sysfs
from boardfront.device_agent.agent import Agent
from boardfront.device_agent.artifacts import ArtifactLimits
from boardfront.device_agent.server import start_server
from boardfront.protos import agent_pb2, agent_pb2_grpc, codec, records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Self

    from boardfront.device_agent.admission import AdmissionLimits
    from boardfront.device_agent.agent import WorkerRules

_T = TypeVar("_T")

QUICK = records.Precision(relative_half_width=0.5, min_duration_s=0.2)
DEADLINES = records.Deadlines(queue_s=60.0, compile_s=20.0, run_s=10.0)
WITHIN_S = 20.0
"""Longest wait of any single step; far above what an idle machine needs."""


def programme(**options: object) -> bytes:
    """Return an artifact of the fake backend."""
    return json.dumps({"time_s": 0.001, **options}).encode()


def name_of(content: bytes) -> str:
    """Return the sha256 that names an artifact."""
    return hashlib.sha256(content).hexdigest()


def subject(
    content: bytes,
    subject_id: str = "s0",
    *,
    backend: str = "fake",
    options: Mapping[str, str] | None = None,
) -> records.Subject:
    """Return a subject of these bytes."""
    return records.Subject(
        subject_id=subject_id,
        artifact_sha256=name_of(content),
        backend=backend,
        options=options or {},
    )


def make_job(
    *contents: bytes,
    subjects: Sequence[records.Subject] = (),
    job_id: str = "",
    precision: records.Precision = QUICK,
    deadlines: records.Deadlines = DEADLINES,
    task: records.Task | None = None,
) -> records.Job:
    """Return a job over fake programmes, or over the given subjects."""
    made = tuple(subject(content, f"s{index}") for index, content in enumerate(contents))
    return records.Job(
        job_id=job_id or uuid.uuid4().hex,
        subjects=made + tuple(subjects),
        task=task or records.Task(),
        precision=precision,
        deadlines=deadlines,
    )


class Wire:
    """Speaks the contract as it is written: one call a method, nothing retried."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = grpc.insecure_channel(address)
        self.stub = agent_pb2_grpc.AgentStub(self.channel)

    def close(self) -> None:
        """Hang up."""
        self.channel.close()

    def describe(self) -> records.DeviceDescription:
        """Ask what the device is."""
        reply = self.stub.Describe(
            agent_pb2.DescribeRequest(), timeout=WITHIN_S, wait_for_ready=True
        )
        return codec.from_message(reply, records.DeviceDescription)

    def missing(self, *names: str) -> list[str]:
        """Ask which artifacts have to be sent."""
        request = agent_pb2.FindMissingArtifactsRequest(sha256=names)
        return list(self.stub.FindMissingArtifacts(request, timeout=WITHIN_S).missing_sha256)

    def upload(
        self,
        content: bytes,
        *,
        sha256: str | None = None,
        size_bytes: int | None = None,
        chunk_bytes: int = 1 << 20,
    ) -> agent_pb2.UploadArtifactReply:
        """Send an artifact, or lie about it."""
        first = agent_pb2.ArtifactChunk(
            sha256=name_of(content) if sha256 is None else sha256,
            size_bytes=len(content) if size_bytes is None else size_bytes,
            data=content[:chunk_bytes],
        )
        rest = (
            agent_pb2.ArtifactChunk(data=content[start : start + chunk_bytes])
            for start in range(chunk_bytes, len(content), chunk_bytes)
        )
        reply: agent_pb2.UploadArtifactReply = self.stub.UploadArtifact(
            itertools.chain([first], rest), timeout=WITHIN_S
        )
        return reply

    def submit(self, job: records.Job, *contents: bytes) -> agent_pb2.SubmitReply:
        """Send the artifacts and the job."""
        for content in contents:
            self.upload(content)
        request = agent_pb2.SubmitRequest(
            job=codec.to_message(job), protocol_version=records.PROTOCOL_VERSION
        )
        reply: agent_pb2.SubmitReply = self.stub.Submit(request, timeout=WITHIN_S)
        return reply

    def watch(self, job_id: str, from_event: int = 0) -> Iterator[records.JobEvent]:
        """Yield a job's events to its end."""
        request = agent_pb2.WatchRequest(job_id=job_id, from_event=from_event)
        for message in self.stub.Watch(request, timeout=WITHIN_S):
            yield codec.from_message(message, records.JobEvent)

    def run(self, job: records.Job, *contents: bytes) -> list[records.JobEvent]:
        """Submit a job and return all of its events."""
        self.submit(job, *contents)
        return list(self.watch(job.job_id))

    def cancel(self, job_id: str) -> records.JobState:
        """End a job."""
        reply = self.stub.Cancel(agent_pb2.CancelRequest(job_id=job_id), timeout=WITHIN_S)
        return records.JobState[agent_pb2.JobState.Name(reply.state).removeprefix("JOB_STATE_")]

    def acknowledge(self, job_id: str) -> None:
        """Let the agent forget a job."""
        self.stub.Acknowledge(agent_pb2.AcknowledgeRequest(job_id=job_id), timeout=WITHIN_S)

    def measure(self, content: bytes) -> records.Result | records.Failure:
        """Measure one fake programme to its end."""
        job = make_job(content)
        return answers(self.run(job, content))["s0"]

    def wait_for(
        self, job_id: str, wanted: Callable[[records.JobEvent], bool]
    ) -> records.JobEvent:
        """Return a job's first event of a kind."""
        return next(event for event in self.watch(job_id) if wanted(event))


def answers(events: Sequence[records.JobEvent]) -> dict[str, records.Result | records.Failure]:
    """Return the answer of each subject."""
    found = (event for event in events if isinstance(event.body, records.Result | records.Failure))
    return {event.subject_id: event.body for event in found}  # type: ignore[misc]


def failure_of(answer: object) -> records.Failure:
    """Return the answer, which must be a failure."""
    assert isinstance(answer, records.Failure), answer
    return answer


def result_of(answer: object) -> records.Result:
    """Return the answer, which must be a result."""
    assert isinstance(answer, records.Result), answer
    return answer


def in_phase(phase: records.Phase) -> Callable[[records.JobEvent], bool]:
    """Return a test for "a subject entered this phase"."""
    return lambda event: event.body == records.Working(phase=phase)


def is_sampling(event: records.JobEvent) -> bool:
    """Whether windows are being taken."""
    return isinstance(event.body, records.Sampling)


@contextlib.contextmanager
def serving(
    state: Path,
    *,
    address: str = "127.0.0.1:0",
    artifact_limit_bytes: int = 1 << 30,
    workers: WorkerRules | None = None,
    limits: AdmissionLimits | None = None,
    root: Path = sysfs.ROOT,
) -> Iterator[tuple[Agent, Wire]]:
    """Run an agent and its server in this process."""
    agent = Agent(
        state,
        name="bench",
        artifact_limits=ArtifactLimits(one_bytes=artifact_limit_bytes),
        workers=workers,
        root=root,
    )
    agent.start()
    server, port = start_server(agent, address, limits=limits)
    wire = Wire(address if address.startswith("unix:") else f"127.0.0.1:{port}")
    try:
        yield agent, wire
    finally:
        wire.close()
        server.stop(grace=None).wait()
        agent.stop()


class AgentProcess:
    """`boardfront-agent serve` in a process of its own.

    Args:
        state: Its folder, which must be one that this process sees too.
        listen: HOST:PORT.
        options: More of the command line.
        prefix: A command that runs the command after it, e.g. in a namespace.
        environment: More variables.
    """

    def __init__(
        self,
        state: Path,
        *,
        listen: str = "127.0.0.1:0",
        options: Sequence[str] = (),
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.state = state
        self._prefix = prefix
        self._environment = environment or {}
        self._options = options
        self._listen = listen
        self.address = ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The agent's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, at the address it had before."""
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "stderr.log").open("a") as log:
            self._process = subprocess.Popen(
                [
                    *self._prefix,
                    *(sys.executable, "-m", "boardfront.device_agent.cli", "serve"),
                    *("--listen", self.address or self._listen, "--state", str(self.state)),
                    *self._options,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **self._environment},
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("listening on "), (self.state / "stderr.log").read_text()
        self.address = line.split()[-1]

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        """Kill it as a power cut would; harmless where it is dead."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """Ask it to stop and return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process = self._process
        assert process is not None
        if process.poll() is None:
            os.kill(process.pid, number)
        code = process.wait(timeout=WITHIN_S)
        if process.stdout is not None:
            process.stdout.close()
        return code


def until(condition: Callable[[], _T], *, within_s: float = WITHIN_S) -> _T:
    """Return the first true value of `condition`, asked 50 times a second."""
    deadline_s = time.monotonic() + within_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"not true within {within_s:g} s"
        time.sleep(0.02)


def workers(pid: int | None = None) -> list[psutil.Process]:
    """Return the living worker processes of an agent's process."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            alive = child.status() != psutil.STATUS_ZOMBIE
            if alive and "boardfront.device_agent.worker" in child.cmdline():
                found.append(child)
    return found


def is_gone(pid: int) -> bool:
    """Whether no process runs under this id."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Return the status and the text with which a call is refused."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError("the agent did not refuse it")


def install_rough(folder: Path) -> None:
    """Install the backend `rough` into a folder, as pip would."""
    source = Path(__file__).with_name("rough_backend.py")
    (folder / "boardfront_rough.py").write_text(source.read_text())
    metadata = folder / "boardfront_rough-0.9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: boardfront-rough\nVersion: 0.9\n"
    )
    (metadata / "entry_points.txt").write_text(
        "[boardfront.backends]\nrough = boardfront_rough:RoughBackend\n"
    )
