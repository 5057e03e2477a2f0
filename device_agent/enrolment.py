"""A board that waits to be taken into a fleet.

It serves `boardfront.v1.Enrolment` over TLS with a key of the moment, and prints a token whose
fingerprint names that key. Whoever brings the token's secret may give the board a certificate;
once that was done, or the time or the tries are used up, nobody may.
"""

from __future__ import annotations

import enum
import hmac
import ipaddress
import logging
import socket
import threading
import time
from concurrent import futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import grpc

from boardfront.device_agent import certificates
from boardfront.device_agent.credentials import Credentials, Identity
from boardfront.protos import agent_pb2, agent_pb2_grpc
from boardfront.protos.enrolment import (
    MAX_TRIES,
    TEMPORARY_NAME,
    Token,
    new_token,
    server_name,
)
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_log = logging.getLogger(__name__)

_THREADS = 4
_MESSAGE_LIMIT_BYTES = 1 << 16
_HANDSHAKE_WITHIN_MS = 10_000
_REPLY_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.5


class NotEnrolledError(BoardfrontError):
    """Nobody came with the token in time, or somebody guessed."""


class _State(enum.Enum):
    WAITING = enum.auto()
    ENROLLED = enum.auto()
    GUESSED = enum.auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """What a person needs to finish an enrolment.

    Args:
        address: Where the board listens, HOST:PORT.
        token: What proves each side to the other.
    """

    address: str
    token: Token


class Desk(agent_pb2_grpc.EnrolmentServicer):
    """Takes one certificate from whoever has the secret. Thread-safe.

    Args:
        state: The agent's folder.
        device_id: Of this board.
        name: What people call it.
        secret: Of the token.
    """

    def __init__(self, state: Path, *, device_id: str, name: str, secret: bytes) -> None:
        self._folder = state
        self._device_id = device_id
        self._name = name
        self._secret = secret
        self._key_pem = certificates.new_key()
        self._tries_left = MAX_TRIES
        self._state = _State.WAITING
        self._lock = threading.Lock()
        self._over = threading.Event()

    def BeginEnrolment(
        self, request: agent_pb2.BeginEnrolmentRequest, context: grpc.ServicerContext
    ) -> agent_pb2.BeginEnrolmentReply:
        """Tell who the board is, and ask for a certificate. May be repeated until the end."""
        with self._lock:
            self._admit(request.secret, context)
        return agent_pb2.BeginEnrolmentReply(
            device_id=self._device_id,
            name=self._name,
            request_pem=certificates.request(self._key_pem, server_name(self._device_id)),
        )

    def FinishEnrolment(
        self, request: agent_pb2.FinishEnrolmentRequest, context: grpc.ServicerContext
    ) -> agent_pb2.FinishEnrolmentReply:
        """Take the certificate; the token is used up then."""
        with self._lock:
            self._admit(request.secret, context)
            identity = Identity(self._key_pem, request.certificate_pem, request.authority_pem)
            try:
                Credentials.install_first(
                    self._folder, self._device_id, identity, now_s=time.time()
                )
            except WrongInputError as error:
                _refuse(context, str(error), grpc.StatusCode.INVALID_ARGUMENT)
            except BoardfrontError as error:
                _refuse(context, str(error), grpc.StatusCode.INTERNAL)
            _log.info("enrolled by %s", context.peer())
            self._end(_State.ENROLLED)
        return agent_pb2.FinishEnrolmentReply()

    def wait(self, deadline_s: float, stop: threading.Event) -> None:
        """Wait for the end.

        Args:
            deadline_s: On the monotonic clock.
            stop: Ends it early.

        Raises:
            NotEnrolledError: If it did not end with a certificate.
        """
        while not self._over.wait(min(_LOOK_EVERY_S, max(0.0, deadline_s - time.monotonic()))):
            if stop.is_set():
                raise NotEnrolledError("stopped before anybody came with the token")
            if time.monotonic() >= deadline_s and self._expire():
                raise NotEnrolledError(
                    "nobody came with the token in time: run `boardfront-agent enroll` again"
                )
        if self._state is _State.GUESSED:
            raise NotEnrolledError(
                f"{MAX_TRIES} wrong tokens came, so this one is dead: look who is on the network, "
                "then run `boardfront-agent enroll` again"
            )

    def _admit(self, secret: bytes, context: grpc.ServicerContext) -> None:
        """Let who has the secret pass, as long as it lives."""
        if self._over.is_set():
            _refuse(context, "the token was used or ran out: `boardfront-agent enroll` again")
        if hmac.compare_digest(secret, self._secret):
            return
        self._tries_left -= 1
        _log.warning("a wrong token came from %s", context.peer())
        if self._tries_left == 0:
            self._end(_State.GUESSED)
        _refuse(context, f"wrong token, {self._tries_left} tries are left: compare it")

    def _expire(self) -> bool:
        """End the time; False if the end came just before."""
        with self._lock:
            if self._over.is_set():
                return False
            self._over.set()
            return True

    def _end(self, state: _State) -> None:
        self._state = state
        self._over.set()


def enrol(
    state: Path,
    listen: str,
    *,
    device: tuple[str, str],
    within_s: float,
    tell: Callable[[Waiting], None],
    stop: threading.Event,
) -> str:
    """Wait until this board was taken into a fleet; return the address it listened on.

    Args:
        state: The agent's folder, which nobody else uses meanwhile.
        listen: HOST:PORT; port 0 takes a free one.
        device: The board's identity and name.
        within_s: How long the token lives.
        tell: Told once what a person has to carry to the host.
        stop: Ends the waiting early.

    Raises:
        NotEnrolledError: If nobody came in time, or somebody guessed.
        WrongInputError: If the address cannot be bound.
    """
    temporary = certificates.temporary(TEMPORARY_NAME)
    token = new_token(temporary.certificate_der)
    desk = Desk(state, device_id=device[0], name=device[1], secret=token.secret)
    deadline_s = time.monotonic() + within_s
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="enrol"),
        options=[
            ("grpc.max_receive_message_length", _MESSAGE_LIMIT_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_WITHIN_MS),
        ],
        maximum_concurrent_rpcs=2 * _THREADS,
    )
    agent_pb2_grpc.add_EnrolmentServicer_to_server(desk, server)
    credentials = grpc.ssl_server_credentials([(temporary.key_pem, temporary.certificate_pem)])
    try:
        port = server.add_secure_port(listen, credentials)
    except RuntimeError:
        port = 0
    if port == 0:
        raise WrongInputError(
            f"cannot listen on {listen}: expected HOST:PORT of this machine with a free port"
        )
    server.start()
    address = f"{listen.rpartition(':')[0]}:{port}"
    try:
        tell(Waiting(address=address, token=token))
        desk.wait(deadline_s, stop)
    finally:
        # The last reply must reach the host before the door is shut.
        server.stop(grace=_REPLY_WITHIN_S).wait()
    return address


def address_for_people(listen: str) -> str:
    """Return what to type on another machine to reach an address that is listened on here."""
    host, _, port = listen.rpartition(":")
    try:
        everywhere = ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        everywhere = not host
    return f"{_own_address() if everywhere else host}:{port}"


def _own_address() -> str:
    """Return this machine's address in the network; its name where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Chooses a route and sends nothing; the address is one kept for documentation.
            probe.connect(("192.0.2.1", 9))
            found: str = probe.getsockname()[0]
        except OSError:
            return socket.gethostname()
    return found


def _refuse(
    context: grpc.ServicerContext,
    text: str,
    code: grpc.StatusCode = grpc.StatusCode.PERMISSION_DENIED,
) -> NoReturn:
    context.abort(code, text)
    raise AssertionError("abort raises")
