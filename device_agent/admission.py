"""Who may ask how much of the agent: calls a second, streams, uploads, jobs.

A device is there to measure: a client that runs wild must neither take the processor from what is
being timed, nor the threads and the disk from other clients. Whoever is over a limit is refused at
once, in one line, with RESOURCE_EXHAUSTED.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc

from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Continuation = Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None]

_REMEMBERED_PEERS = 1024


class OverLimitError(BoardfrontError):
    """Somebody asks for more than the agent gives to one, or to all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdmissionLimits:
    """How much the agent gives.

    Args:
        calls_per_s: Calls of one peer a second, for long.
        burst: Calls of one peer at once.
        streams: Watched jobs, telemetry and the like, of all peers.
        streams_per_peer: Of one peer.
        uploads: Artifacts that are being received, of all peers.
        upload_idle_s: An upload that is silent for so long is ended, in seconds.
        spare_local: Whether a peer on the device itself, which may be an SSH tunnel of several
            people, is spared what holds for one peer.
    """

    calls_per_s: float = 50.0
    burst: int = 500
    streams: int = 24
    streams_per_peer: int = 12
    uploads: int = 4
    upload_idle_s: float = 60.0
    spare_local: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueLimits:
    """How many jobs the agent keeps.

    Args:
        waiting: That wait or run.
        kept: In all: those too that are finished and were not acknowledged.
    """

    waiting: int = 1000
    kept: int = 10_000

    def check(self, *, waiting: int, kept: int) -> None:
        """Refuse one more job if there are as many already.

        Raises:
            OverLimitError: If there are.
        """
        if waiting >= self.waiting:
            raise OverLimitError(
                f"{waiting} jobs wait on this agent, as many as it takes: submit this one when "
                "some of them are done"
            )
        if kept >= self.kept:
            raise OverLimitError(
                f"{kept} jobs are kept on this agent, as many as it takes: acknowledge those "
                "whose results were fetched"
            )


class CallRate:
    """Counts each peer's calls: a bucket of `burst` calls that `calls_per_s` fill up again.

    Not thread-safe. The peers heard of last are remembered; one that was forgotten has a full
    bucket again.
    """

    def __init__(self, calls_per_s: float, burst: int) -> None:
        self._calls_per_s = calls_per_s
        self._burst = burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, peer: str, now_s: float) -> bool:
        """Return whether `peer` may make one more call at `now_s`, a monotonic time."""
        left, then_s = self._left.pop(peer, (float(self._burst), now_s))
        left = min(float(self._burst), left + (now_s - then_s) * self._calls_per_s)
        allowed = left >= 1.0
        self._left[peer] = (left - allowed, now_s)
        if len(self._left) > _REMEMBERED_PEERS:
            self._left.popitem(last=False)
        return allowed


class Places:
    """A number of places, of which one peer gets so many. Thread-safe."""

    def __init__(self, total: int, of_one: int) -> None:
        self._total = total
        self._of_one = of_one
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, peer: str, *, spared: bool) -> bool:
        """Return whether `peer` has one more place now; `spared` peers share the total alone."""
        with self._lock:
            if self._taken.total() >= self._total:
                return False
            if not spared and self._taken[peer] >= self._of_one:
                return False
            self._taken[peer] += 1
            return True

    def give_back(self, peer: str) -> None:
        """Free one place of `peer`."""
        with self._lock:
            self._taken[peer] -= 1
            if self._taken[peer] <= 0:
                del self._taken[peer]


class Admission(grpc.ServerInterceptor):  # type: ignore[misc, type-arg, unused-ignore]
    """Stands before every method of a server, also before those that are not ours."""

    def __init__(self, limits: AdmissionLimits | None = None) -> None:
        self._limits = limits or AdmissionLimits()
        self._rate = CallRate(self._limits.calls_per_s, self._limits.burst)
        self._rate_lock = threading.Lock()
        self._streams = Places(self._limits.streams, self._limits.streams_per_peer)
        self._uploads = Places(self._limits.uploads, self._limits.uploads)

    def intercept_service(  # type: ignore[explicit-override, unused-ignore]
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the method behind our checks."""
        handler: Any = continuation(handler_call_details)
        if handler is None:
            return None
        if handler.response_streaming:
            method = handler.stream_stream or handler.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            non_blocking = getattr(method, "experimental_non_blocking", False)
            wrapped: Any = self._starting(method) if non_blocking else self._streaming(method)
        elif handler.request_streaming:
            make = grpc.stream_unary_rpc_method_handler
            wrapped = self._uploading(handler.stream_unary)
        else:
            make = grpc.unary_unary_rpc_method_handler
            wrapped = self._calling(handler.unary_unary)
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def _calling(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            self._count(context)
            return method(request, context)

        return call

    def _streaming(self, method: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            self._take_stream(context)
            yield from method(request, context)

        return stream

    def _starting(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a streaming method that keeps no thread, as health's Watch, which gRPC marks."""

        # With the marks.
        @functools.wraps(method)
        def start(request: Any, context: grpc.ServicerContext, *rest: Any) -> Any:
            self._take_stream(context)
            return method(request, context, *rest)

        return start

    def _take_stream(self, context: grpc.ServicerContext) -> None:
        peer = self._count(context)
        if not self._streams.take(peer, spared=self._spares(peer)):
            _refuse(
                context,
                f"{self._limits.streams} streams are open on this agent, or "
                f"{self._limits.streams_per_peer} of yours: close one, then try again",
            )
        if not context.add_callback(lambda: self._streams.give_back(peer)):
            self._streams.give_back(peer)

    def _uploading(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def upload(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
            peer = self._count(context)
            if not self._uploads.take(peer, spared=True):
                _refuse(
                    context,
                    f"{self._limits.uploads} artifacts are being sent to this agent: send this "
                    "one when another is through",
                )
            try:
                with _hurried(requests, context, self._limits.upload_idle_s) as watched:
                    return method(watched, context)
            finally:
                self._uploads.give_back(peer)

        return upload

    def _count(self, context: grpc.ServicerContext) -> str:
        """Count a call; return whose it is."""
        peer = peer_name(context)
        if self._spares(peer):
            return peer
        with self._rate_lock:
            allowed = self._rate.take(peer, time.monotonic())
        if not allowed:
            _refuse(
                context,
                f"more than {self._limits.calls_per_s:g} calls a second from {peer}: wait a "
                "second, then go on",
            )
        return peer

    def _spares(self, peer: str) -> bool:
        return self._limits.spare_local and is_local(peer)


def peer_name(context: grpc.ServicerContext) -> str:
    """Return who calls: the name in the certificate, else the address without its port."""
    names = context.auth_context().get("x509_common_name")
    if names:
        return f"certificate {bytes(names[0]).decode('utf-8', 'replace')}"
    kind, _, address = unquote(context.peer() or "").partition(":")
    return "unix" if kind == "unix" else address.rpartition(":")[0].strip("[]")


def is_local(peer: str) -> bool:
    """Return whether a peer without a certificate is on this machine."""
    return peer in ("unix", "::1") or peer.startswith(("127.", "::ffff:127."))


@contextlib.contextmanager
def _hurried(
    requests: Iterator[Any], context: grpc.ServicerContext, idle_s: float
) -> Iterator[Iterator[Any]]:
    """End the call if nothing comes for `idle_s` while it is waited for."""
    over = threading.Event()
    waiting_since_s: list[float] = [time.monotonic()]

    def watched() -> Iterator[Any]:
        for request in requests:
            # While it is worked on, the client is not the one that is slow.
            waiting_since_s.clear()
            yield request
            waiting_since_s.append(time.monotonic())
        # All is here: what the agent does with it now is no silence of the client's.
        waiting_since_s.clear()

    def watch() -> None:
        while not over.wait(idle_s / 4):
            since_s = waiting_since_s[:1]
            if since_s and time.monotonic() - since_s[0] > idle_s:
                context.cancel()  # type: ignore[no-untyped-call]
                return

    thread = threading.Thread(target=watch, name="upload-watch", daemon=True)
    thread.start()
    try:
        yield watched()
    finally:
        over.set()


def _refuse(context: grpc.ServicerContext, text: str) -> None:
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
