"""The agent on the wire: gRPC in, records out. No decisions here."""

from __future__ import annotations

import contextlib
import functools
import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from boardfront.device_agent import telemetry
from boardfront.device_agent.agent import Agent, MissingArtifactError
from boardfront.device_agent.artifacts import CHUNK_BYTES
from boardfront.protos import agent_pb2, agent_pb2_grpc, codec, records
from boardfront.protos.errors import (
    BoardfrontError,
    JobConflictError,
    UnknownJobError,
    WrongInputError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Reply = TypeVar("_Reply")

SERVICE = "boardfront.v1.Agent"
_THREADS = 32
_MAX_STREAMS = 24
_MESSAGE_LIMIT_BYTES = 4 * CHUNK_BYTES
_MIN_TELEMETRY_PERIOD_S = 0.2
_MAX_TELEMETRY_PERIOD_S = 3600.0

_CODES: tuple[tuple[type[BoardfrontError], grpc.StatusCode], ...] = (
    (MissingArtifactError, grpc.StatusCode.FAILED_PRECONDITION),
    (JobConflictError, grpc.StatusCode.ALREADY_EXISTS),
    (UnknownJobError, grpc.StatusCode.NOT_FOUND),
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
    """The methods of `boardfront.v1.Agent`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._streams = threading.BoundedSemaphore(_MAX_STREAMS)

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
        self._take_stream(context)
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

    def WatchTelemetry(
        self, request: agent_pb2.WatchTelemetryRequest, context: grpc.ServicerContext
    ) -> Iterator[agent_pb2.TelemetrySample]:
        """Stream the device's state."""
        self._take_stream(context)
        gone = threading.Event()
        context.add_callback(gone.set)
        period_s = min(max(_MIN_TELEMETRY_PERIOD_S, request.period_s), _MAX_TELEMETRY_PERIOD_S)
        with contextlib.closing(telemetry.Watcher(self._agent.root)) as watcher:
            while not gone.is_set():
                sample = watcher.sample(
                    running_job_id=self._agent.jobs.running_job_id,
                    queued_jobs=self._agent.jobs.queued,
                )
                yield codec.to_message(sample)
                gone.wait(period_s)

    def _take_stream(self, context: grpc.ServicerContext) -> None:
        """Reserve one of the places for streams, so that short calls always find a thread."""
        if not self._streams.acquire(blocking=False):
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{_MAX_STREAMS} streams are open on this agent: close one, then try again",
            )
        if not context.add_callback(self._streams.release):
            self._streams.release()


def start_server(agent: Agent, address: str) -> tuple[grpc.Server, int]:
    """Serve `agent` on `address` (host:port; port 0 takes a free one).

    Returns:
        The running server and its port.

    Raises:
        BoardfrontError: If the address cannot be bound.
    """
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="rpc"),
        options=[
            ("grpc.max_receive_message_length", _MESSAGE_LIMIT_BYTES),
            ("grpc.max_send_message_length", 16 * _MESSAGE_LIMIT_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    agent_pb2_grpc.add_AgentServicer_to_server(Service(agent), server)
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    for name in ("", SERVICE):
        healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if port == 0:
        raise WrongInputError(
            f"cannot listen on {address}: expected HOST:PORT of this machine with a free port"
        )
    server.start()
    return server, port


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
