"""Whom an agent lets in, and what they may do."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import logging
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.device_agent.certificates import ClientCertificate
    from boardfront.device_agent.credentials import Credentials


_log = logging.getLogger(__name__)


class NotPermittedError(BoardfrontError):
    """A call needs a certificate of another kind, or one at all."""


class Gate(grpc.ServerInterceptor):  # type: ignore[misc, type-arg, unused-ignore]
    """Refuses calls of clients whose certificate was revoked or has run out since it connected.

    gRPC checks a certificate when a connection is opened; this checks it at each call, and ends
    the streams of who is revoked while they run.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()
        self._calls: dict[str, set[grpc.ServicerContext]] = defaultdict(set)

    def intercept_service(  # type: ignore[explicit-override, unused-ignore]
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> Any:
        """Put the check before a method."""
        handler = continuation(handler_call_details)
        return None if handler is None else _before(handler, self._admit)

    def set_revoked(self, serials: Sequence[str], context: grpc.ServicerContext) -> None:
        """Refuse these clients from now on, and end the calls of theirs that run.

        Raises:
            WrongInputError: If the caller is among them, or a serial is none.
        """
        caller = _client(context)
        if caller is not None and caller.serial in serials:
            raise WrongInputError(
                "your own certificate is among the revoked: use another administrator's for that"
            )
        self._credentials.set_revoked(serials)
        _log.info("%s set the list of revoked clients: %d", agent_peer_name(context), len(serials))
        with self._lock:
            ended = [one for serial in serials for one in self._calls.get(serial, ())]
        for one in ended:
            one.cancel()  # type: ignore[no-untyped-call]

    def _admit(self, context: grpc.ServicerContext) -> None:
        client = _client(context)
        if client is None:
            _refuse(context, "this agent needs a client certificate: expected one of its fleet")
        with self._lock:
            self._calls[client.serial].add(context)
        # First remembered, then judged: whoever is revoked in between is caught by one of both.
        if not context.add_callback(functools.partial(self._forget, client.serial, context)):
            self._forget(client.serial, context)
        if client.serial in self._credentials.revoked:
            _refuse(
                context,
                f"the certificate {client.serial} of {client.name} was revoked: ask the fleet's "
                "owner for a new invitation",
            )
        if time.time() > client.not_after_s:
            _refuse(
                context,
                f"the certificate {client.serial} of {client.name} has run out: ask the fleet's "
                "owner for a new invitation",
            )

    def _forget(self, serial: str, context: grpc.ServicerContext) -> None:
        with self._lock:
            calls = self._calls.get(serial)
            if calls is not None:
                calls.discard(context)
                if not calls:
                    del self._calls[serial]


def agent_peer_name(context: grpc.ServicerContext) -> str:
    """Return whose certificate a call shows; empty on a plain connection."""
    client = _client(context)
    return "" if client is None else client.name


def require_admin(context: grpc.ServicerContext) -> None:
    """Let administrators pass.

    Raises:
        NotPermittedError: For anybody else, and on a plain connection.
    """
    client = _client(context)
    if client is None:
        raise NotPermittedError(
            "this agent has no credentials: `boardfront-agent enroll` on the board gives it some"
        )
    if client.role != "admin":
        raise NotPermittedError(
            f"the certificate of {client.name} is not an administrator's: ask the fleet's owner"
        )


def is_local(listen: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if listen.startswith("unix:"):
        return True
    host = listen.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _client(context: grpc.ServicerContext) -> ClientCertificate | None:
    found = context.auth_context().get("x509_pem_cert")
    if not found:
        return None
    from boardfront.device_agent.certificates import read_client

    return read_client(bytes(found[0]))


def _refuse(context: grpc.ServicerContext, text: str) -> NoReturn:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, text)
    raise AssertionError("abort raises")


def _before(handler: Any, admit: Callable[[grpc.ServicerContext], None]) -> Any:
    """Return a method's handler that asks `admit` first."""
    kind = f"{_arity(handler.request_streaming)}_{_arity(handler.response_streaming)}"
    method = getattr(handler, kind)

    # What gRPC reads off a method (health's Watch is marked as non-blocking) must stay readable.
    @functools.wraps(method)
    def guarded(request: Any, context: grpc.ServicerContext, *rest: Any) -> Any:
        admit(context)
        return method(request, context, *rest)

    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(guarded, handler.request_deserializer, handler.response_serializer)


def _arity(streaming: bool) -> str:  # noqa: FBT001 - as gRPC's handlers say it
    return "stream" if streaming else "unary"
