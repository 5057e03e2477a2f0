"""Taking boards into the fleet, and renewing what they were given.

An enrolment is a conversation with a board that waits for it (`boardfront-agent enroll`): its
owner carried a token from its screen to here. The token's fingerprint proves the board to us
before anything secret is said; the token's secret proves us to the board. The board makes its key
itself and never shows it.
"""

from __future__ import annotations

import contextlib
import getpass
import platform
import re
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Any

import grpc

from boardfront.host.fleet.connection import DeviceUnreachableError
from boardfront.host.fleet.credentials import (
    ClientInfo,
    CredentialsError,
    DeviceCredentials,
    Role,
    now_utc,
    read_authority_pem,
    read_client,
    write_identity,
)
from boardfront.host.fleet.handshake import shown_certificate, why_refused
from boardfront.protos import agent_pb2, agent_pb2_grpc
from boardfront.protos.enrolment import TEMPORARY_NAME, Token, TokenError, parse_token
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boardfront.host.fleet.address import AgentAddress
    from boardfront.host.fleet.authority import Authority, Issued

_CALL_WITHIN_S = 20.0
_SERVES_WITHIN_S = 30.0
"""From the last word of an enrolment to the agent's first, on a slow card."""
_IMPATIENT = (("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 1000))
_RENEW_BEFORE = timedelta(days=60)
_DEVICE_ID = re.compile(r"[!-~]{1,128}")
_LOST = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Enrolled:
    """A board and the certificate it has now.

    Args:
        name: What people call it.
        address: HOST:PORT.
        device_id: Its identity, from which the name in its certificate follows.
        serial: Of its certificate, in hexadecimal.
        not_after: Until when the certificate is accepted, UTC.
        answers: Whether it was heard to serve with it; `boardfront-agent enroll --exit` does not
            serve, and has not been told who is revoked then.
    """

    name: str
    address: str
    device_id: str
    serial: str
    not_after: datetime
    answers: bool = True


def enrol(
    address: str, token: str, authority: Authority, name: str, *, replace: bool = False
) -> Enrolled:
    """Take a board that waits for it into the fleet.

    Args:
        address: HOST:PORT, as the board printed it or as it is reached from here.
        token: What the board printed.
        authority: Signs the board's certificate.
        name: What people will call the board; empty: what it calls itself.
        replace: Whether a board of this identity may be in the fleet already.

    Raises:
        TokenError: If the token is mistyped, wrong, used or ran out, or another device answers.
        AlreadyEnrolledError: If the identity is another board's.
        DeviceUnreachableError: If nothing answers.
        BoardfrontError: If the board cannot use its certificate; it says why.
    """
    typed = parse_token(token)
    _own_certificate(authority)
    certificate_pem = _pinned(address, typed)
    with _temporary(address, certificate_pem) as stub:
        begun = stub.BeginEnrolment(
            agent_pb2.BeginEnrolmentRequest(secret=typed.secret), timeout=_CALL_WITHIN_S
        )
        if not _DEVICE_ID.fullmatch(begun.device_id):
            raise WrongInputError(f"the board at {address} has no usable identity: update it")
        called = name or _printable(begun.name)
        issued = authority.issue_board(
            begun.request_pem, begun.device_id, name=called, replace=replace
        )
        confirmed = _finish(stub, typed, issued, authority)
    credentials = DeviceCredentials(authority.folder, begun.device_id)
    answers = _tell_revoked(address, credentials, authority)
    if not (confirmed or answers):
        raise DeviceUnreachableError(
            f"the connection to {address} was lost at the last step: run `boardfront-agent "
            "enroll` there again, and add it with its new token and --replace"
        )
    return Enrolled(
        name=called,
        address=address,
        device_id=begun.device_id,
        serial=issued.serial,
        not_after=issued.not_after,
        answers=answers,
    )


def rotate(address: AgentAddress, authority: Authority, name: str = "") -> Enrolled:
    """Give a board a new key and certificate, while it works.

    Connections that are open stay as they are; new ones see the new certificate.

    Args:
        address: Of an enrolled board.
        authority: Signs the new certificate.
        name: What people call the board, for the authority's list.

    Raises:
        DeviceUnreachableError: If it does not answer.
        CredentialsError: If it still shows the old certificate afterwards.
        BoardfrontError: If it refuses; it says why.
    """
    credentials = _credentials(address)
    _own_certificate(authority)
    with _calling(address) as stub:
        reply = stub.RequestCertificate(
            agent_pb2.RequestCertificateRequest(), timeout=_CALL_WITHIN_S
        )
        issued = authority.issue_board(
            reply.request_pem, credentials.device_id, name=name, replace=True
        )
        stub.InstallCertificate(
            agent_pb2.InstallCertificateRequest(
                certificate_pem=issued.certificate_pem, authority_pem=authority.certificate_pem
            ),
            timeout=_CALL_WITHIN_S,
        )
    where = address.resolve()
    if _serial_shown(where, credentials) != issued.serial:
        raise CredentialsError(
            f"the agent at {where} still shows its old certificate: restart it, then look again"
        )
    return Enrolled(
        name=name,
        address=where,
        device_id=credentials.device_id,
        serial=issued.serial,
        not_after=issued.not_after,
    )


def send_revoked(address: AgentAddress, authority: Authority) -> None:
    """Tell one board whose certificates it must refuse: the whole list.

    Raises:
        DeviceUnreachableError: If it does not answer: tell it later.
        BoardfrontError: If it refuses; it says why.
    """
    _own_certificate(authority)
    with _calling(address) as stub:
        stub.SetRevoked(
            agent_pb2.SetRevokedRequest(serials=authority.revoked()), timeout=_CALL_WITHIN_S
        )


def renew_own(authority: Authority) -> ClientInfo:
    """Give this host, which holds the authority, a new administrator's certificate.

    Programs that run use it from their next connection on.
    """
    before = read_client(authority.folder)
    made = authority.issue_client(before.name if before else _own_name(), role=Role.ADMIN)
    return write_identity(authority.folder, made.identity)


def read_token(text: str, stream: IO[str]) -> str:
    """Return the token that was given as an option, or for `-` the next line of a stream.

    On a command line a token can be seen by other users of the machine and lands in the shell's
    history. That is bearable, because it is worth nothing once it was used or minutes later, and
    whoever takes it in between makes the owner's own attempt fail; `-` avoids it altogether.
    """
    return stream.readline() if text == "-" else text


def _own_certificate(authority: Authority) -> None:
    """See to it that this host has a certificate of its authority that lasts."""
    if read_authority_pem(authority.folder) == authority.certificate_pem:
        info = read_client(authority.folder)
        if info is not None and info.not_after - now_utc() > _RENEW_BEFORE:
            return
    renew_own(authority)


def _own_name() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "owner"
    text = re.sub(r"[^A-Za-z0-9._@+-]", "-", f"{user}@{platform.node() or 'host'}")
    return text.lstrip("._@+-")[:64] or "owner"


def _pinned(address: str, token: Token) -> bytes:
    """Return the certificate, in PEM, of the board that the token is of; nothing is sent to it."""
    try:
        shown = shown_certificate(address, None)
    except (OSError, ValueError) as error:
        if isinstance(error, ssl.SSLError):
            raise TokenError(
                f"the device at {address} does not wait to be enrolled: run `boardfront-agent "
                "enroll` there, and give its new token"
            ) from None
        raise DeviceUnreachableError(
            f"nothing answers at {address}: expected `boardfront-agent enroll` to wait there; "
            "check host, port and firewall"
        ) from None
    if not token.is_of(shown):
        raise TokenError(
            f"the device at {address} is not the one that printed this token, or the token was "
            "used or ran out: run `boardfront-agent enroll` there again, and give its new token"
        )
    return ssl.DER_cert_to_PEM_cert(shown).encode("ascii")


@contextlib.contextmanager
def _temporary(address: str, certificate_pem: bytes) -> Iterator[Any]:
    """Speak to a board that waits, over a connection that accepts this one certificate only."""
    channel = grpc.secure_channel(
        address,
        grpc.ssl_channel_credentials(certificate_pem),
        options=[("grpc.ssl_target_name_override", TEMPORARY_NAME)],
    )
    try:
        yield agent_pb2_grpc.EnrolmentStub(channel)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.PERMISSION_DENIED:
            raise TokenError(f"the board at {address}: {error.details()}") from None
        raise _failed(address, None, error) from None
    finally:
        channel.close()


def _finish(stub: Any, token: Token, issued: Issued, authority: Authority) -> bool:
    """Hand the certificate over; False: the connection broke, so nobody knows."""
    request = agent_pb2.FinishEnrolmentRequest(
        secret=token.secret,
        certificate_pem=issued.certificate_pem,
        authority_pem=authority.certificate_pem,
    )
    try:
        stub.FinishEnrolment(request, timeout=_CALL_WITHIN_S)
    except grpc.RpcError as error:
        if error.code() not in _LOST:
            raise
        return False
    return True


def _tell_revoked(address: str, credentials: DeviceCredentials, authority: Authority) -> bool:
    """Tell a new board who is revoked, once it serves; False if it does not.

    Told also where nobody is revoked: it proves that both certificates are accepted.
    """
    request = agent_pb2.SetRevokedRequest(serials=authority.revoked())
    channel = credentials.channel(address, _IMPATIENT)
    stub: Any = agent_pb2_grpc.AgentStub(channel)
    try:
        stub.SetRevoked(request, timeout=_SERVES_WITHIN_S, wait_for_ready=True)
    except grpc.RpcError as error:
        if error.code() in _LOST:
            return False
        raise _failed(address, credentials, error) from None
    finally:
        channel.close()
    return True


@contextlib.contextmanager
def _calling(address: AgentAddress) -> Iterator[Any]:
    # Any: the generated stub is typed for blocking and asyncio channels at once.
    credentials = _credentials(address)
    where = address.resolve()
    channel = credentials.channel(where)
    try:
        yield agent_pb2_grpc.AgentStub(channel)
    except grpc.RpcError as error:
        raise _failed(where, credentials, error) from None
    finally:
        channel.close()


def _credentials(address: AgentAddress) -> DeviceCredentials:
    if address.credentials is None:
        raise WrongInputError(
            f"the agent at {address.resolve()} is not enrolled: `boardfront-agent enroll` there, "
            "then `boardfront device add`"
        )
    return address.credentials


def _serial_shown(address: str, credentials: DeviceCredentials) -> str:
    from cryptography import x509

    try:
        shown = shown_certificate(address, credentials)
    except OSError as error:
        raise CredentialsError(
            f"the agent at {address} cannot be reached with its new certificate "
            f"({type(error).__name__}): restart it, then look again"
        ) from None
    return f"{x509.load_der_x509_certificate(shown).serial_number:x}"


def _failed(
    address: str, credentials: DeviceCredentials | None, error: grpc.RpcError
) -> BoardfrontError:
    if error.code() not in _LOST:
        return BoardfrontError(f"the agent at {address}: {error.details()}")
    reason = None if credentials is None else why_refused(address, credentials)
    if reason is not None:
        return CredentialsError(reason)
    return DeviceUnreachableError(
        f"the agent at {address} does not answer: look whether it runs, and try again"
    )


def _printable(text: str) -> str:
    """Return a name that is safe on a terminal and in a file."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:64] or "board"
