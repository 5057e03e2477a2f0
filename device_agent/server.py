"""The agent on the wire: gRPC in, records out. No decisions here."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import threading
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from boardfront.device_agent import telemetry
from boardfront.device_agent.admission import Admission, AdmissionLimits, OverLimitError
from boardfront.device_agent.agent import Agent, MissingArtifactError
from boardfront.device_agent.artifacts import CHUNK_BYTES, ArtifactTooLargeError
from boardfront.device_agent.decoding import Decoding
from boardfront.device_agent.lease_desk import LeaseQueueFullError
from boardfront.device_agent.security import (
    Gate,
    NotPermittedError,
    agent_peer_name,
    require_admin,
)
from boardfront.protos import agent_pb2, agent_pb2_grpc, codec, records
from boardfront.protos.errors import (
    BoardfrontError,
    JobConflictError,
    LeaseLostError,
    UnknownJobError,
    WrongInputError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boardfront.device_agent.credentials import Credentials

_Reply = TypeVar("_Reply")

_log = logging.getLogger(__name__)

SERVICE = "boardfront.v1.Agent"
_THREADS = 40
"""All places for streams and uploads (admission.py), and some for short calls."""
_MOST_CALLS = 4 * _THREADS
_MESSAGE_LIMIT_BYTES = 4 * CHUNK_BYTES
_METADATA_LIMIT_BYTES = 16 << 10
_HANDSHAKE_WITHIN_MS = 10_000
"""Whoever connects and does not show a certificate by then is cut off."""
_HEALTH_THREADS = 4
_MOST_HEALTH_CALLS = 16
_HEALTH_MESSAGE_LIMIT_BYTES = 4096
_MIN_TELEMETRY_PERIOD_S = 0.2
_MAX_TELEMETRY_PERIOD_S = 3600.0

_CODES: tuple[tuple[type[BoardfrontError], grpc.StatusCode], ...] = (
    (MissingArtifactError, grpc.StatusCode.FAILED_PRECONDITION),
    (OverLimitError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (ArtifactTooLargeError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (JobConflictError, grpc.StatusCode.ALREADY_EXISTS),
    (UnknownJobError, grpc.StatusCode.NOT_FOUND),
    # Of a sequencer that is too old, as the code's definition has it.
    (LeaseLostError, grpc.StatusCode.ABORTED),
    (LeaseQueueFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (NotPermittedError, grpc.StatusCode.PERMISSION_DENIED),
    (WrongInputError, grpc.StatusCode.INVALID_ARGUMENT),
    (BoardfrontError, grpc.StatusCode.INTERNAL),
)


def _translated(method: Callable[..., _Reply]) -> Callable[..., _Reply]:
    """Turn our errors into gRPC status codes."""

    @functools.wraps(method)
    def wrapped(self: Service, request: Any, context: grpc.ServicerContext) -> _Reply:
        try:
            return method(self, request, context)
        except BoardfrontError as error:
            _abort(context, error)

    return wrapped


class Service(agent_pb2_grpc.AgentServicer):
    """The methods of `boardfront.v1.Agent`.

    Args:
        agent: What is served.
        credentials: Of this board; None: it has none.
        gate: Stands before all methods where there are credentials.
    """

    def __init__(
        self, agent: Agent, credentials: Credentials | None = None, gate: Gate | None = None
    ) -> None:
        self._agent = agent
        self._credentials = credentials
        self._gate = gate

    @_translated
    def Describe(
        self, request: agent_pb2.DescribeRequest, context: grpc.ServicerContext
    ) -> agent_pb2.DeviceDescription:
        """Describe the device."""
        del request, context
        message: agent_pb2.DeviceDescription = codec.to_message(self._agent.describe())
        return message

    @_translated
    def FindMissingArtifacts(
        self, request: agent_pb2.FindMissingArtifactsRequest, context: grpc.ServicerContext
    ) -> agent_pb2.FindMissingArtifactsReply:
        """Say which artifacts must be sent."""
        del context
        missing = self._agent.artifacts.missing(request.sha256)
        return agent_pb2.FindMissingArtifactsReply(missing_sha256=missing)

    @_translated
    def UploadArtifact(
        self, request_iterator: Iterator[agent_pb2.ArtifactChunk], context: grpc.ServicerContext
    ) -> agent_pb2.UploadArtifactReply:
        """Receive one artifact."""
        del context
        first = next(request_iterator, None)
        if first is None:
            raise WrongInputError("an upload without chunks: expected at least one")
        if self._agent.artifacts.path(first.sha256) is not None:
            return agent_pb2.UploadArtifactReply(sha256=first.sha256, already_present=True)
        self._agent.artifacts.receive(
            first.sha256, first.size_bytes, _data(first, request_iterator)
        )
        return agent_pb2.UploadArtifactReply(sha256=first.sha256)

    @_translated
    def Submit(
        self, request: agent_pb2.SubmitRequest, context: grpc.ServicerContext
    ) -> agent_pb2.SubmitReply:
        """Queue a job."""
        del context
        if request.protocol_version != records.PROTOCOL_VERSION:
            raise WrongInputError(
                f"the client speaks protocol version {request.protocol_version}, this agent "
                f"{records.PROTOCOL_VERSION}: install the same boardfront on both"
            )
        state, created = self._agent.submit(codec.from_message(request.job, records.Job))
        reply = agent_pb2.SubmitReply(created=created)
        reply.state = agent_pb2.JobState.Value(f"JOB_STATE_{state.name}")
        return reply

    def Watch(
        self, request: agent_pb2.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[agent_pb2.JobEvent]:
        """Stream a job's events."""
        try:
            for event in self._agent.jobs.watch(
                request.job_id, request.from_event, context.is_active
            ):
                yield codec.to_message(event)
        except BoardfrontError as error:
            _abort(context, error)

    @_translated
    def Cancel(
        self, request: agent_pb2.CancelRequest, context: grpc.ServicerContext
    ) -> agent_pb2.CancelReply:
        """End a job."""
        del context
        state = self._agent.jobs.cancel(request.job_id)
        reply = agent_pb2.CancelReply()
        reply.state = agent_pb2.JobState.Value(f"JOB_STATE_{state.name}")
        return reply

    @_translated
    def Acknowledge(
        self, request: agent_pb2.AcknowledgeRequest, context: grpc.ServicerContext
    ) -> agent_pb2.AcknowledgeReply:
        """Forget a finished job."""
        del context
        self._agent.jobs.acknowledge(request.job_id)
        return agent_pb2.AcknowledgeReply()

    @_translated
    def AcquireLease(
        self, request: agent_pb2.AcquireLeaseRequest, context: grpc.ServicerContext
    ) -> agent_pb2.AcquireLeaseReply:
        """Give the device out, queue for it, or renew."""
        asked = codec.from_message(request, records.AcquireLeaseRequest)
        certified = agent_peer_name(context)
        if certified:
            asked = dataclasses.replace(asked, holder=f"{certified}: {asked.holder}")
        message: agent_pb2.AcquireLeaseReply = codec.to_message(self._agent.acquire_lease(asked))
        return message

    @_translated
    def ReleaseLease(
        self, request: agent_pb2.ReleaseLeaseRequest, context: grpc.ServicerContext
    ) -> agent_pb2.ReleaseLeaseReply:
        """Take the device, or a place in its queue, back."""
        del context
        self._agent.release_lease(request.lease_id)
        return agent_pb2.ReleaseLeaseReply()

    @_translated
    def ShowLease(
        self, request: agent_pb2.ShowLeaseRequest, context: grpc.ServicerContext
    ) -> agent_pb2.LeaseStatus:
        """Tell who holds the device, and who waits."""
        del request, context
        message: agent_pb2.LeaseStatus = codec.to_message(self._agent.show_lease())
        return message

    @_translated
    def RequestCertificate(
        self, request: agent_pb2.RequestCertificateRequest, context: grpc.ServicerContext
    ) -> agent_pb2.RequestCertificateReply:
        """Make a new key and ask for its certificate."""
        del request
        credentials, _ = self._secured(context)
        return agent_pb2.RequestCertificateReply(request_pem=credentials.request())

    @_translated
    def InstallCertificate(
        self, request: agent_pb2.InstallCertificateRequest, context: grpc.ServicerContext
    ) -> agent_pb2.InstallCertificateReply:
        """Use the certificate that answers the last request."""
        credentials, _ = self._secured(context)
        credentials.install(request.certificate_pem, request.authority_pem)
        _log.info("%s renewed this board's certificate", agent_peer_name(context))
        return agent_pb2.InstallCertificateReply()

    @_translated
    def SetRevoked(
        self, request: agent_pb2.SetRevokedRequest, context: grpc.ServicerContext
    ) -> agent_pb2.SetRevokedReply:
        """Refuse these clients, and no others."""
        _, gate = self._secured(context)
        gate.set_revoked(request.serials, context)
        return agent_pb2.SetRevokedReply()

    def _secured(self, context: grpc.ServicerContext) -> tuple[Credentials, Gate]:
        """Let administrators at the credentials."""
        if self._credentials is None or self._gate is None:
            raise NotPermittedError(
                "this agent has no credentials: `boardfront-agent enroll` on the board gives it "
                "some"
            )
        require_admin(context)
        return self._credentials, self._gate

    def WatchTelemetry(
        self, request: agent_pb2.WatchTelemetryRequest, context: grpc.ServicerContext
    ) -> Iterator[agent_pb2.TelemetrySample]:
        """Stream the device's state."""
        gone = threading.Event()
        context.add_callback(gone.set)
        period_s = min(max(_MIN_TELEMETRY_PERIOD_S, request.period_s), _MAX_TELEMETRY_PERIOD_S)
        with contextlib.closing(telemetry.Watcher(self._agent.root)) as watcher:
            while not gone.is_set():
                yield codec.to_message(self._sample(watcher))
                gone.wait(period_s)

    def _sample(self, watcher: telemetry.Watcher) -> records.TelemetrySample:
        """Read the device's state, and what its queue and its lease are."""
        jobs = self._agent.jobs
        running = jobs.activity.running()
        sample = watcher.sample(
            running_job_id=None if running is None else running.job_id, queued_jobs=jobs.queued
        )
        return dataclasses.replace(
            sample,
            running=running,
            counts=jobs.activity.counts(),
            lease=self._agent.show_lease(),
        )


def start_server(
    agent: Agent,
    address: str,
    credentials: Credentials | None = None,
    *,
    limits: AdmissionLimits | None = None,
) -> tuple[grpc.Server, int]:
    """Serve `agent`.

    Args:
        agent: What is served.
        address: HOST:PORT, where port 0 takes a free one, or unix:PATH.
        credentials: Let only those in who show a certificate of the fleet; None: everybody who
            reaches the address, which had better be this machine's own (`security.is_local`).
        limits: What clients get; None: the defaults.

    Returns:
        The running server and its port.

    Raises:
        BoardfrontError: If the address cannot be bound.
    """
    gate = None if credentials is None else Gate(credentials)
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="rpc"),
        interceptors=[*([] if gate is None else [gate]), Admission(limits), Decoding()],
        # What is over it is refused by gRPC itself, with RESOURCE_EXHAUSTED, as are long messages.
        maximum_concurrent_rpcs=_MOST_CALLS,
        options=[
            ("grpc.max_concurrent_streams", _MOST_CALLS),
            ("grpc.max_metadata_size", _METADATA_LIMIT_BYTES),
            ("grpc.absolute_max_metadata_size", _METADATA_LIMIT_BYTES),
            ("grpc.max_receive_message_length", _MESSAGE_LIMIT_BYTES),
            ("grpc.max_send_message_length", 16 * _MESSAGE_LIMIT_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_WITHIN_MS),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # Of gRPC's own pings, during which it sends no keepalive.
            ("grpc.http2.ping_timeout_ms", 30_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    agent_pb2_grpc.add_AgentServicer_to_server(Service(agent, credentials, gate), server)
    _add_health(server)
    # Where there are credentials, the gate stands before this too.
    reflection.enable_server_reflection(
        (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    port = _bind(server, address, credentials)
    if address.startswith("unix:"):
        Path(address.removeprefix("unix:")).chmod(0o600)
    server.start()
    return server, port


def start_health_server(credentials: Credentials, address: str) -> tuple[grpc.Server, int]:
    """Serve grpc.health and nothing else, to everybody, over TLS with the board's certificate.

    gRPC either demands a certificate of every client of a port or of none, so that monitors
    without one need a port of their own.

    Returns:
        The running server and its port.

    Raises:
        WrongInputError: If the address cannot be bound.
    """
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=_HEALTH_THREADS, thread_name_prefix="health"),
        interceptors=[Admission(), Decoding()],
        maximum_concurrent_rpcs=_MOST_HEALTH_CALLS,
        options=[
            ("grpc.max_concurrent_streams", _MOST_HEALTH_CALLS),
            ("grpc.max_metadata_size", _METADATA_LIMIT_BYTES),
            ("grpc.absolute_max_metadata_size", _METADATA_LIMIT_BYTES),
            ("grpc.max_receive_message_length", _HEALTH_MESSAGE_LIMIT_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_WITHIN_MS),
        ],
    )
    _add_health(server)
    port = _bind(server, address, credentials, ask_clients=False)
    server.start()
    return server, port


def _add_health(server: grpc.Server) -> None:
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    for name in ("", SERVICE):
        healthy.set(name, health_pb2.HealthCheckResponse.SERVING)


def _bind(
    server: grpc.Server, address: str, credentials: Credentials | None, *, ask_clients: bool = True
) -> int:
    """Listen on an address; return its port."""
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(
                address, credentials.server_credentials(ask_clients=ask_clients)
            )
    except RuntimeError:
        port = 0
    if port == 0:
        raise WrongInputError(
            f"cannot listen on {address}: expected HOST:PORT of this machine with a free port, or "
            "unix:PATH in a folder that is there"
        )
    return port


def _data(
    first: agent_pb2.ArtifactChunk, rest: Iterator[agent_pb2.ArtifactChunk]
) -> Iterator[bytes]:
    yield first.data
    for chunk in rest:
        yield chunk.data


def _abort(context: grpc.ServicerContext, error: BoardfrontError) -> NoReturn:
    code = next(code for kind, code in _CODES if isinstance(error, kind))
    context.abort(code, str(error))
    raise AssertionError("abort raises")
