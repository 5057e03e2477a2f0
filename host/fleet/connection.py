"""A gRPC connection to one agent that may come and go."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from boardfront.host.fleet.credentials import open_channel
from boardfront.host.fleet.handshake import why_refused
from boardfront.protos import agent_pb2_grpc
from boardfront.protos.errors import (
    BoardfrontError,
    JobConflictError,
    LeaseLostError,
    WrongInputError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boardfront.host.fleet.address import AgentAddress

_T = TypeVar("_T")

_RETRY_AFTER_S = (0.1, 0.2, 0.5, 1.0, 2.0)

_LOST = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
)
_WRONG: Mapping[grpc.StatusCode, type[BoardfrontError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: WrongInputError,
    grpc.StatusCode.ALREADY_EXISTS: JobConflictError,
}

_OPTIONS = [
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 64 << 20),
]


class DeviceUnreachableError(BoardfrontError):
    """No agent answers at the address, or it stopped answering for too long."""


class AbandonedError(BoardfrontError):
    """Another thread gave up the connection."""


class ArtifactGoneError(BoardfrontError):
    """A job names an artifact that neither the agent has nor we do."""


class Connection:
    """Makes calls; opens its channel again after a loss.

    Args:
        address: Where the agent is; asked again after every loss, because a local agent that died
            comes back at another port.
        lost_after_s: How long each loss may last before giving up, in seconds.
        on_lost: Told in a few words when the connection is lost, and when it is back.
        keepalive_s: After so long without a word the other side is asked whether it is there,
            and after as long again without an answer the connection counts as lost, in seconds.

    Every wait has a deadline. Used from one thread, `abandon` apart.
    """

    def __init__(
        self,
        address: AgentAddress,
        *,
        lost_after_s: float,
        on_lost: Callable[[str], None],
        keepalive_s: float,
    ) -> None:
        self._address = address
        self._lost_after_s = lost_after_s
        self._on_lost = on_lost
        self._options = [
            *_OPTIONS,
            ("grpc.keepalive_time_ms", round(1e3 * keepalive_s)),
            ("grpc.keepalive_timeout_ms", round(1e3 * keepalive_s)),
            # gRPC sends no keepalive while a ping by which it measures the bandwidth is under
            # way, and gives that one a minute.
            ("grpc.http2.ping_timeout_ms", round(2e3 * keepalive_s)),
            # Of one attempt to connect.
            ("grpc.min_reconnect_backoff_ms", round(2e3 * keepalive_s)),
        ]
        self._channel: grpc.Channel | None = None
        self.connected_to = ""
        """The address that was spoken to last."""
        self._credentials_version = 0
        self._must_resolve = True
        self._lost_since_s: float | None = None
        self._abandoned = threading.Event()

    def abandon(self) -> None:
        """End whatever call is under way, from another thread; no other will be made.

        Every call of the client's own thread raises AbandonedError from then on. Jobs go on.
        """
        self._abandoned.set()
        channel = self._channel
        if channel is not None:
            channel.close()

    def close(self) -> None:
        """Close the connection; jobs go on."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def stub(self) -> Any:
        """Return the generated stub, over a channel to where the agent is now.

        Any: it is typed for blocking and asyncio channels at once.

        Raises:
            AbandonedError: See `abandon`.
        """
        self._check_abandoned()
        if self._channel is None or self._must_resolve:
            address = self._address.resolve()
            credentials = self._address.credentials
            version = 0 if credentials is None else credentials.version()
            if (
                self._channel is None
                or address != self.connected_to
                or version != self._credentials_version
            ):
                self.close()
                self._channel = open_channel(address, credentials, self._options)
                self.connected_to = address
                self._credentials_version = version
            self._must_resolve = False
        return agent_pb2_grpc.AgentStub(self._channel)

    def forget(self) -> None:
        """Ask anew where the agent is, before the next call."""
        self._must_resolve = True

    def is_connected(self) -> bool:
        """Whether somebody speaks gRPC there, within a tenth of a second."""
        if self._channel is None:
            return False
        ready = grpc.channel_ready_future(self._channel)
        try:
            ready.result(timeout=0.1)
        except grpc.FutureTimeoutError:
            return False
        finally:
            ready.cancel()
        return True

    def asked_once(self, call: Callable[[Any], _T]) -> _T:
        """Call with the stub, once.

        Raises:
            DeviceUnreachableError: If the agent does not answer.
            WrongInputError: If it refuses.
        """
        try:
            return call(self.stub())
        except grpc.RpcError as error:
            # A local agent that died comes back elsewhere.
            self.forget()
            raise self.unreachable(error) from None

    def retried(self, call: Callable[[], _T]) -> _T:
        """Call again after a lost connection, until it is away for `lost_after_s`.

        Raises:
            DeviceUnreachableError: If it stays away for longer.
            WrongInputError: If the agent refuses.
        """
        attempt = 0
        while True:
            try:
                answer = call()
            except grpc.RpcError as error:
                self._check_abandoned()
                if not _is_lost(error):
                    raise self._refused(error) from None
                attempt = 0 if self._lost_since_s is None else attempt + 1
                self._lost(error)
                self._abandoned.wait(_RETRY_AFTER_S[min(attempt, len(_RETRY_AFTER_S) - 1)])
                continue
            self.heard()
            return answer

    def heard(self) -> None:
        """Take note that the agent answered."""
        if self._lost_since_s is not None:
            self._lost_since_s = None
            self._on_lost(f"connection to {self.connected_to} is back")

    def unreachable(self, error: grpc.RpcError) -> BoardfrontError:
        """Return what a failed call means to a person, with what to do about it."""
        if not _is_lost(error):
            return self._refused(error)
        reason = why_refused(self.connected_to, self._address.credentials)
        if reason is not None:
            return DeviceUnreachableError(reason)
        return DeviceUnreachableError(
            f"no agent answers at {self.connected_to}: expected `boardfront-agent serve` to run "
            "there; start it, or check host and port"
        )

    def _lost(self, error: grpc.RpcError) -> None:
        self.forget()
        now_s = time.monotonic()
        if self._lost_since_s is None:
            self._lost_since_s = now_s
            self._on_lost(f"connection to {self.connected_to} lost, trying again")
        elif now_s - self._lost_since_s > self._lost_after_s:
            self._lost_since_s = None
            raise self.unreachable(error) from None

    def _check_abandoned(self) -> None:
        if self._abandoned.is_set():
            raise AbandonedError(f"the connection to {self.connected_to} was given up")

    def _refused(self, error: grpc.RpcError) -> BoardfrontError:
        text = f"agent {self.connected_to}: {error.details()}"
        if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
            return ArtifactGoneError(text)
        if error.code() is grpc.StatusCode.ABORTED:
            return LeaseLostError(text)
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return WrongInputError(f"{text}: install the same boardfront on both")
        return _WRONG.get(error.code(), BoardfrontError)(text)


def _is_lost(error: grpc.RpcError) -> bool:
    """Whether trying again may help; an exception inside the agent will only come again."""
    of_the_agent = (error.details() or "").startswith("Exception ")
    return error.code() in _LOST and not of_the_agent
