"""One agent as the host sees it: records in and out over a connection that may come and go."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from boardfront.protos import agent_pb2, agent_pb2_grpc, codec, records
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from boardfront.host.fleet.address import AgentAddress

    EventSink = Callable[[records.JobEvent], None]

_T = TypeVar("_T")

_CHUNK_BYTES = 1 << 20
_CALL_WITHIN_S = 20.0
_FIRST_CONTACT_WITHIN_S = 5.0
_DESCRIBE_WITHIN_S = 90.0
"""An agent's first description probes its backends, whose imports take long on a slow card."""
_RETRY_AFTER_S = (0.1, 0.2, 0.5, 1.0, 2.0)

_LOST = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
)
_WRONG = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS)

_ACKNOWLEDGED = records.JobState.ACKNOWLEDGED

_OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 64 << 20),
]


class DeviceUnreachableError(BoardfrontError):
    """No agent answers at the address, or it stopped answering for too long."""


class AgentClient:
    """Speaks to one agent.

    Args:
        address: Where it is; asked again after every loss, because a local agent that died comes
            back at another port.
        lost_after_s: How long each loss of the connection may last before giving up, in seconds.
        on_lost: Told in a few words when the connection is lost, and when it is back.

    Every wait has a deadline. Used from one thread.
    """

    def __init__(
        self,
        address: AgentAddress,
        *,
        lost_after_s: float = 120.0,
        on_lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._address = address
        self._lost_after_s = lost_after_s
        self._on_lost = on_lost
        self._channel: grpc.Channel | None = None
        self._connected_to = ""
        self._must_resolve = True
        self._lost_since_s: float | None = None

    def close(self) -> None:
        """Close the connection; jobs go on."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def describe(self, *, patient: bool = False) -> records.DeviceDescription:
        """Ask the device what it is.

        Args:
            patient: Try again for `lost_after_s`, as one does in the middle of a search.

        Raises:
            DeviceUnreachableError: If nothing answers within five seconds, or for so long.
            WrongInputError: If the agent speaks another protocol version.
        """
        if patient:
            reply = self._retried(self._ask_description)
        else:
            try:
                reply = self._ask_description()
            except grpc.RpcError as error:
                raise self._unreachable(error) from None
        if reply.protocol_version != records.PROTOCOL_VERSION:
            raise WrongInputError(
                f"the agent at {self._connected_to} speaks protocol version "
                f"{reply.protocol_version}, this host {records.PROTOCOL_VERSION}: install the "
                "same boardfront on both"
            )
        return codec.from_message(reply, records.DeviceDescription)

    def run(
        self, job: records.Job, artifacts: Mapping[str, bytes], on_event: EventSink
    ) -> dict[str, records.Result | records.Failure]:
        """Submit a job (or find it again) and watch it to its end.

        A lost connection is re-attached; an agent that forgot the job gets it again under the
        same id. The results stay on the agent until `acknowledge`.

        Args:
            job: What to measure.
            artifacts: The bytes of the artifacts it names, by sha256; those that the agent has
                may be left out.
            on_event: Told every event once, in order.

        Returns:
            One result or failure a subject id.

        Raises:
            DeviceUnreachableError: If the agent stays away for longer than `lost_after_s`.
            WrongInputError: If the agent refuses the job.
            JobCancelledError: If somebody cancelled the job.
            ArtifactGoneError: If the agent lacks an artifact whose bytes were left out.
            JobForgottenError: If the job was acknowledged before: use another id.
        """
        follower = _Follower(on_event)
        state, _ = self._retried(lambda: self._submit(job, artifacts))
        if state is records.JobState.CANCELLED:
            # Cancelled in an earlier life of ours, which did not come to acknowledge it.
            self.acknowledge(job.job_id)
        while not follower.finished:
            self._retried(lambda: self._attach(job, artifacts, follower))
        if follower.state is not records.JobState.COMPLETED:
            raise JobCancelledError(f"job {job.job_id} was cancelled on its agent")
        return follower.answers

    def missing(self, names: Collection[str]) -> frozenset[str]:
        """Return which of these artifacts, named by sha256, the agent does not have."""
        request = agent_pb2.FindMissingArtifactsRequest(sha256=list(names))
        reply = self._retried(
            lambda: self._stub().FindMissingArtifacts(request, timeout=_CALL_WITHIN_S)
        )
        return frozenset(reply.missing_sha256)

    def cancel(self, job_id: str) -> None:
        """End a job and let the agent forget it; an unknown one is as good as ended."""
        try:
            self._stub().Cancel(agent_pb2.CancelRequest(job_id=job_id), timeout=_CALL_WITHIN_S)
            self._stub().Acknowledge(
                agent_pb2.AcknowledgeRequest(job_id=job_id), timeout=_CALL_WITHIN_S
            )
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise self._unreachable(error) from None

    def acknowledge(self, job_id: str) -> None:
        """Let the agent forget a finished job."""

        def call() -> None:
            request = agent_pb2.AcknowledgeRequest(job_id=job_id)
            try:
                self._stub().Acknowledge(request, timeout=_CALL_WITHIN_S)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise

        self._retried(call)

    def telemetry(self, period_s: float) -> Iterator[records.TelemetrySample]:
        """Yield the device's state every `period_s` seconds until the caller stops."""
        request = agent_pb2.WatchTelemetryRequest(period_s=period_s)
        stream = self._stub().WatchTelemetry(request)
        try:
            for message in stream:
                yield codec.from_message(message, records.TelemetrySample)
        except grpc.RpcError as error:
            raise self._unreachable(error) from None
        finally:
            stream.cancel()

    def _ask_description(self) -> agent_pb2.DeviceDescription:
        self._must_resolve = True
        stub = self._stub()
        # Asks for nothing, so that silence tells an agent that is away from one that is slow.
        stub.FindMissingArtifacts(
            agent_pb2.FindMissingArtifactsRequest(),
            timeout=_FIRST_CONTACT_WITHIN_S,
            wait_for_ready=True,
        )
        reply: agent_pb2.DeviceDescription = stub.Describe(
            agent_pb2.DescribeRequest(), timeout=_DESCRIBE_WITHIN_S
        )
        return reply

    def _attach(
        self, job: records.Job, artifacts: Mapping[str, bytes], follower: _Follower
    ) -> None:
        """Follow a job to its end or to the next loss, from the first event not seen."""
        state, created = self._submit(job, artifacts)
        if state is _ACKNOWLEDGED:
            raise JobForgottenError(f"job {job.job_id} was acknowledged before")
        if created:
            # The agent had lost its state: the events begin anew.
            follower.restart()
        self._heard()
        request = agent_pb2.WatchRequest(job_id=job.job_id, from_event=follower.next_index)
        for message in self._stub().Watch(request):
            follower.take(codec.from_message(message, records.JobEvent))

    def _submit(
        self, job: records.Job, artifacts: Mapping[str, bytes]
    ) -> tuple[records.JobState, bool]:
        """Return the job's state and whether the agent did not have it."""
        request = agent_pb2.SubmitRequest(
            job=codec.to_message(job), protocol_version=records.PROTOCOL_VERSION
        )
        try:
            reply = self._stub().Submit(request, timeout=_CALL_WITHIN_S)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            self._upload(artifacts)
            reply = self._stub().Submit(request, timeout=_CALL_WITHIN_S)
        state = agent_pb2.JobState.Name(reply.state).removeprefix("JOB_STATE_")
        return records.JobState[state], reply.created

    def _upload(self, artifacts: Mapping[str, bytes]) -> None:
        asked = agent_pb2.FindMissingArtifactsRequest(sha256=list(artifacts))
        reply = self._stub().FindMissingArtifacts(asked, timeout=_CALL_WITHIN_S)
        for sha256 in reply.missing_sha256:
            content = artifacts[sha256]
            # Slow links: a deadline that grows with the size, at 100 kB/s.
            within_s = _CALL_WITHIN_S + len(content) / 1e5
            self._stub().UploadArtifact(_chunks(sha256, content), timeout=within_s)

    def _retried(self, call: Callable[[], _T]) -> _T:
        """Call again after a lost connection, until it is away for `lost_after_s`."""
        attempt = 0
        while True:
            try:
                answer = call()
            except grpc.RpcError as error:
                if not _is_lost(error):
                    raise self._refused(error) from None
                attempt = 0 if self._lost_since_s is None else attempt + 1
                self._lost(error)
                time.sleep(_RETRY_AFTER_S[min(attempt, len(_RETRY_AFTER_S) - 1)])
                continue
            self._heard()
            return answer

    def _lost(self, error: grpc.RpcError) -> None:
        self._must_resolve = True
        now_s = time.monotonic()
        if self._lost_since_s is None:
            self._lost_since_s = now_s
            self._on_lost(f"connection to {self._connected_to} lost, trying again")
        elif now_s - self._lost_since_s > self._lost_after_s:
            self._lost_since_s = None
            raise self._unreachable(error) from None

    def _heard(self) -> None:
        if self._lost_since_s is not None:
            self._lost_since_s = None
            self._on_lost(f"connection to {self._connected_to} is back")

    def _stub(self) -> Any:
        # Any: the generated stub is typed for blocking and asyncio channels at once.
        if self._channel is None or self._must_resolve:
            address = self._address.resolve()
            if self._channel is None or address != self._connected_to:
                self.close()
                self._channel = grpc.insecure_channel(address, options=_OPTIONS)
                self._connected_to = address
            self._must_resolve = False
        return agent_pb2_grpc.AgentStub(self._channel)

    def _refused(self, error: grpc.RpcError) -> BoardfrontError:
        text = f"agent {self._connected_to}: {error.details()}"
        if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
            return ArtifactGoneError(text)
        return WrongInputError(text) if error.code() in _WRONG else BoardfrontError(text)

    def _unreachable(self, error: grpc.RpcError) -> BoardfrontError:
        if not _is_lost(error):
            return self._refused(error)
        return DeviceUnreachableError(
            f"no agent answers at {self._connected_to}: expected `boardfront-agent serve` to run "
            "there; start it, or check host and port"
        )


class JobCancelledError(BoardfrontError):
    """A job ended because somebody cancelled it."""


class ArtifactGoneError(BoardfrontError):
    """A job names an artifact that neither the agent has nor we do."""


class JobForgottenError(BoardfrontError):
    """A job's id belongs to a job whose results were fetched and forgotten."""


class _Follower:
    """What was seen of a job's events."""

    def __init__(self, on_event: EventSink) -> None:
        self._on_event = on_event
        self.restart()

    def restart(self) -> None:
        self.next_index = 0
        self.state: records.JobState | None = None
        self.answers: dict[str, records.Result | records.Failure] = {}

    @property
    def finished(self) -> bool:
        return self.state is not None

    def take(self, event: records.JobEvent) -> None:
        if event.index != self.next_index:
            return
        self.next_index += 1
        if isinstance(event.body, records.Result | records.Failure):
            self.answers[event.subject_id] = event.body
        if isinstance(event.body, records.Finished):
            self.state = event.body.state
        self._on_event(event)


def _is_lost(error: grpc.RpcError) -> bool:
    """Whether trying again may help; an exception inside the agent will only come again."""
    of_the_agent = (error.details() or "").startswith("Exception ")
    return error.code() in _LOST and not of_the_agent


def artifact_name(content: bytes) -> str:
    """Return the sha256 that names an artifact."""
    return hashlib.sha256(content).hexdigest()


def _chunks(sha256: str, content: bytes) -> Iterator[agent_pb2.ArtifactChunk]:
    for start in range(0, max(1, len(content)), _CHUNK_BYTES):
        data = content[start : start + _CHUNK_BYTES]
        if start == 0:
            yield agent_pb2.ArtifactChunk(sha256=sha256, size_bytes=len(content), data=data)
        else:
            yield agent_pb2.ArtifactChunk(data=data)
