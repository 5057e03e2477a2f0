"""One agent as the host sees it: records in and out over a connection that may come and go."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import grpc

from boardfront.host.fleet.connection import Connection
from boardfront.host.fleet.follower import JobFollower
from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.errors import (
    BoardfrontError,
    InvalidRecordError,
    WrongInputError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from boardfront.host.fleet.address import AgentAddress

    EventSink = Callable[[records.JobEvent], None]

_CHUNK_BYTES = 1 << 20
_CALL_WITHIN_S = 20.0
_FIRST_CONTACT_WITHIN_S = 5.0
_DESCRIBE_WITHIN_S = 90.0
"""An agent's first description probes its backends, whose imports take long on a slow card."""
_WATCH_WITHIN_S = 60.0
"""So often the agent is asked for the job and its events anew: the network part of a process may
answer keepalives long after the rest of it has stopped."""

_ACKNOWLEDGED = records.JobState.ACKNOWLEDGED


class Lease(Protocol):
    """Holds the device for the jobs of a client."""

    def token(self, *, refused: int = 0) -> int:
        """Return what goes into jobs; wait for the device if there is nothing newer.

        Raises:
            BoardfrontError: If the device cannot be had.
        """


class AgentClient:
    """Speaks to one agent.

    Args:
        address: Where it is; asked again after every loss, because a local agent that died comes
            back at another port.
        lost_after_s: How long each loss of the connection may last before giving up, in seconds.
        on_lost: Told in a few words when the connection is lost, and when it is back.
        keepalive_s: After so long without a word the other side is asked whether it is there,
            and after as long again without an answer the connection counts as lost, in seconds.
        lease: Under which jobs are submitted; None: under the token that they bring.

    Every wait has a deadline. Used from one thread.
    """

    def __init__(
        self,
        address: AgentAddress,
        *,
        lost_after_s: float = 120.0,
        on_lost: Callable[[str], None] = lambda _: None,
        keepalive_s: float = 10.0,
        lease: Lease | None = None,
    ) -> None:
        self._address = address
        self._lease = lease
        self._link = Connection(
            address, lost_after_s=lost_after_s, on_lost=on_lost, keepalive_s=keepalive_s
        )

    def abandon(self) -> None:
        """End whatever call is under way, from another thread; no other will be made.

        Every call of the client's own thread raises AbandonedError from then on. Jobs go on.
        """
        self._link.abandon()

    def close(self) -> None:
        """Close the connection; jobs go on."""
        self._link.close()

    def describe(self, *, patient: bool = False) -> records.DeviceDescription:
        """Ask the device what it is.

        Args:
            patient: Try again for `lost_after_s`, as one does in the middle of a search.

        Raises:
            DeviceUnreachableError: If nothing answers within five seconds, or for so long.
            WrongInputError: If the agent speaks another protocol version.
        """
        if patient:
            reply = self._link.retried(self._ask_description)
        else:
            try:
                reply = self._ask_description()
            except grpc.RpcError as error:
                raise self._link.unreachable(error) from None
        if reply.protocol_version != records.PROTOCOL_VERSION:
            raise WrongInputError(
                f"the agent at {self._link.connected_to} speaks protocol version "
                f"{reply.protocol_version}, this host {records.PROTOCOL_VERSION}: install the "
                "same boardfront on both"
            )
        return codec.from_message(reply, records.DeviceDescription)

    def run(
        self, job: records.Job, artifacts: Mapping[str, bytes], on_event: EventSink
    ) -> dict[str, records.Result | records.Failure]:
        """Submit a job (or find it again) and watch it to its end.

        A lost connection is re-attached; an agent that forgot the job gets it again under the
        same id. If the lease was lost, the device is waited for and the job then goes on where it
        was interrupted. The results stay on the agent until `acknowledge`.

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
            LeaseLostError: If the device is held by another, and `lease` does not wait for it.
        """
        follower = JobFollower(on_event)
        state, _ = self._link.retried(lambda: self._submit(job, artifacts))
        if state is records.JobState.CANCELLED:
            # Cancelled in an earlier life of ours, which did not come to acknowledge it.
            self.acknowledge(job.job_id)
        while not follower.finished:
            self._link.retried(lambda: self._attach(job, artifacts, follower))
        if follower.state is not records.JobState.COMPLETED:
            raise JobCancelledError(
                f"job {job.job_id} was cancelled on its agent", follower.answers
            )
        return follower.answers

    def send(self, job: records.Job, artifacts: Mapping[str, bytes]) -> None:
        """Put a job into the agent's queue and return; `run` fetches its answers.

        Args:
            job: What to measure.
            artifacts: See `run`.

        Raises:
            DeviceUnreachableError: If the agent stays away for longer than `lost_after_s`.
            WrongInputError: If the agent refuses the job.
        """
        self._link.retried(lambda: self._submit(job, artifacts))

    def missing(self, names: Collection[str]) -> frozenset[str]:
        """Return which of these artifacts, named by sha256, the agent does not have."""
        request = agent_pb2.FindMissingArtifactsRequest(sha256=list(names))
        reply = self._link.retried(
            lambda: self._link.stub().FindMissingArtifacts(request, timeout=_CALL_WITHIN_S)
        )
        return frozenset(reply.missing_sha256)

    def cancel(self, job_id: str) -> None:
        """End a job and let the agent forget it; an unknown one is as good as ended."""
        try:
            self._link.stub().Cancel(
                agent_pb2.CancelRequest(job_id=job_id), timeout=_CALL_WITHIN_S
            )
            self._link.stub().Acknowledge(
                agent_pb2.AcknowledgeRequest(job_id=job_id), timeout=_CALL_WITHIN_S
            )
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise self._link.unreachable(error) from None

    def cancel_from_outside(self, job_id: str) -> None:
        """End a job that `run` waits for, which then raises JobCancelledError.

        For any thread: it is asked over a connection of its own.

        Raises:
            BoardfrontError: If the agent does not answer, or does not know the job.
        """
        client = AgentClient(self._address)
        try:
            request = agent_pb2.CancelRequest(job_id=job_id)
            client._link.asked_once(lambda stub: stub.Cancel(request, timeout=_CALL_WITHIN_S))
        finally:
            client.close()

    def acknowledge(self, job_id: str) -> None:
        """Let the agent forget a finished job."""

        def call() -> None:
            request = agent_pb2.AcknowledgeRequest(job_id=job_id)
            try:
                self._link.stub().Acknowledge(request, timeout=_CALL_WITHIN_S)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise

        self._link.retried(call)

    def acquire_lease(self, request: records.AcquireLeaseRequest) -> records.AcquireLeaseReply:
        """Ask once for the device, wait in its queue, or renew: all three are this call.

        Raises:
            DeviceUnreachableError: If nothing answers within five seconds.
            WrongInputError: If the agent refuses the request, or knows no leases.
        """
        reply = self._link.asked_once(
            lambda stub: stub.AcquireLease(
                codec.to_message(request), timeout=_FIRST_CONTACT_WITHIN_S, wait_for_ready=True
            )
        )
        return codec.from_message(reply, records.AcquireLeaseReply)

    def release_lease(self, lease_id: str) -> None:
        """Give the device, or the place in its queue, back; an unknown lease is as good as that.

        Raises:
            DeviceUnreachableError: If nothing answers within five seconds.
        """
        request = agent_pb2.ReleaseLeaseRequest(lease_id=lease_id)
        self._link.asked_once(
            lambda stub: stub.ReleaseLease(
                request, timeout=_FIRST_CONTACT_WITHIN_S, wait_for_ready=True
            )
        )

    def show_lease(self) -> records.LeaseStatus:
        """Ask who holds the device, and who waits.

        Raises:
            DeviceUnreachableError: If nothing answers within five seconds.
        """
        reply = self._link.asked_once(
            lambda stub: stub.ShowLease(
                agent_pb2.ShowLeaseRequest(), timeout=_FIRST_CONTACT_WITHIN_S, wait_for_ready=True
            )
        )
        return codec.from_message(reply, records.LeaseStatus)

    def telemetry(self, period_s: float) -> Iterator[records.TelemetrySample]:
        """Yield the device's state every `period_s` seconds until the caller stops."""
        request = agent_pb2.WatchTelemetryRequest(period_s=period_s)
        stream = self._link.stub().WatchTelemetry(request)
        try:
            for message in stream:
                yield codec.from_message(message, records.TelemetrySample)
        except grpc.RpcError as error:
            raise self._link.unreachable(error) from None
        finally:
            stream.cancel()

    def _ask_description(self) -> agent_pb2.DeviceDescription:
        self._link.forget()
        stub = self._link.stub()
        # Asks for nothing, so that silence tells an agent that is away from one that is slow.
        nothing = agent_pb2.FindMissingArtifactsRequest()
        try:
            stub.FindMissingArtifacts(
                nothing, timeout=_FIRST_CONTACT_WITHIN_S, wait_for_ready=True
            )
        except grpc.RpcError as error:
            if (
                error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
                or not self._link.is_connected()
            ):
                raise
            # Somebody speaks our protocol there: it is far away, or busy.
            stub.FindMissingArtifacts(nothing, timeout=_CALL_WITHIN_S)
        reply: agent_pb2.DeviceDescription = stub.Describe(
            agent_pb2.DescribeRequest(), timeout=_DESCRIBE_WITHIN_S
        )
        return reply

    def _attach(
        self, job: records.Job, artifacts: Mapping[str, bytes], follower: JobFollower
    ) -> None:
        """Follow a job to its end or to the next loss, from the last event seen."""
        state, created = self._submit(job, artifacts)
        if state is _ACKNOWLEDGED:
            raise JobForgottenError(f"job {job.job_id} was acknowledged before")
        if created:
            # The agent had lost its state: the events begin anew.
            follower.restart()
        self._link.heard()
        request = agent_pb2.WatchRequest(job_id=job.job_id, from_event=follower.from_event)
        is_first_look = follower.last is None
        stream = self._link.stub().Watch(request, timeout=_WATCH_WITHIN_S)
        try:
            for message in stream:
                if not follower.take(codec.from_message(message, records.JobEvent)):
                    break
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return
            if error.code() is grpc.StatusCode.ABORTED and self._lease is not None:
                # Suspended: it is submitted anew, under the next lease.
                return
            raise
        finally:
            stream.cancel()
        if follower.finished:
            return
        if is_first_look:
            raise BoardfrontError(
                f"agent {self._link.connected_to}: the events of job {job.job_id} have a gap or "
                "no end: expected all of them; see the agent's log, then run again"
            )
        # The agent lost events that were seen.
        follower.restart()

    def _submit(
        self, job: records.Job, artifacts: Mapping[str, bytes]
    ) -> tuple[records.JobState, bool]:
        """Return the job's state and whether the agent did not have it."""
        if self._lease is None:
            return self._submit_once(job, artifacts)
        token = self._lease.token()
        while True:
            try:
                return self._submit_once(replace(job, fencing_token=token), artifacts)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.ABORTED:
                    raise
            self._link.heard()
            token = self._lease.token(refused=token)

    def _submit_once(
        self, job: records.Job, artifacts: Mapping[str, bytes]
    ) -> tuple[records.JobState, bool]:
        request = agent_pb2.SubmitRequest(
            job=codec.to_message(job), protocol_version=records.PROTOCOL_VERSION
        )
        try:
            reply = self._link.stub().Submit(request, timeout=_CALL_WITHIN_S)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            self._upload(artifacts)
            reply = self._link.stub().Submit(request, timeout=_CALL_WITHIN_S)
        return _state(reply), reply.created

    def _upload(self, artifacts: Mapping[str, bytes]) -> None:
        asked = agent_pb2.FindMissingArtifactsRequest(sha256=list(artifacts))
        reply = self._link.stub().FindMissingArtifacts(asked, timeout=_CALL_WITHIN_S)
        for sha256 in artifacts.keys() & set(reply.missing_sha256):
            content = artifacts[sha256]
            # Slow links: a deadline that grows with the size, at 100 kB/s.
            within_s = _CALL_WITHIN_S + len(content) / 1e5
            self._link.stub().UploadArtifact(_chunks(sha256, content), timeout=within_s)


class JobCancelledError(BoardfrontError):
    """A job ended because somebody cancelled it.

    Args:
        message: Which.
        answers: What it had answered by then, by subject id.
    """

    def __init__(
        self, message: str, answers: Mapping[str, records.Result | records.Failure]
    ) -> None:
        self.answers = answers
        super().__init__(message)


class JobForgottenError(BoardfrontError):
    """A job's id belongs to a job whose results were fetched and forgotten."""


def _state(reply: agent_pb2.SubmitReply) -> records.JobState:
    for state in records.JobState:
        if agent_pb2.JobState.Value(f"JOB_STATE_{state.name}") == reply.state:
            return state
    raise InvalidRecordError(
        f"SubmitReply.state is {reply.state}: expected a job's state: install the same boardfront "
        "on both sides"
    )


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
