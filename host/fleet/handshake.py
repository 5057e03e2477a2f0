"""One handshake by hand, where gRPC only says that it could not connect."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

from boardfront.host.fleet.credentials import identity_file, read_authority_pem, read_client
from boardfront.protos.enrolment import server_name
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from boardfront.host.fleet.credentials import DeviceCredentials

_ASK_WITHIN_S = 3.0


class HungUpError(OSError):
    """The other side hung up as soon as it saw our certificate."""


def why_refused(address: str, credentials: DeviceCredentials | None) -> str | None:
    """Say why a board that is there could not be spoken to; None if it is not about certificates.

    gRPC says no more than that it could not connect: this asks once more by hand, for at most a
    few seconds.

    Args:
        address: HOST:PORT.
        credentials: With which it was tried.
    """
    try:
        shown_certificate(address, credentials)
    except HungUpError:
        return _refuses_ours(address, credentials, "it hung up")
    except ssl.SSLError as error:
        return _as_text(address, credentials, error)
    except (OSError, ValueError, BoardfrontError):
        return None
    if credentials is None:
        return (
            f"the agent at {address} asks for a certificate: enrol it (`boardfront-agent enroll` "
            "there, `boardfront device add` here), then call it by its name in the fleet file"
        )
    return None


def shown_certificate(address: str, credentials: DeviceCredentials | None) -> bytes:
    """Shake hands once and return the certificate that the other side shows, in DER.

    Args:
        address: HOST:PORT.
        credentials: What both sides must show; None: nothing is checked, nothing is shown.

    Raises:
        HungUpError: If the other side shook hands, saw our certificate, and hung up.
        ssl.SSLError: If the handshake fails.
        OSError: If nothing answers within three seconds.
        ValueError: If the address is none.
    """
    host, _, port = address.rpartition(":")
    name = None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if credentials is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        authority = read_authority_pem(credentials.folder) or b""
        context.load_verify_locations(cadata=authority.decode("ascii"))
        context.load_cert_chain(identity_file(credentials.folder))
        name = server_name(credentials.device_id)
    plain = socket.create_connection((host.strip("[]"), int(port)), timeout=_ASK_WITHIN_S)
    with plain, context.wrap_socket(plain, server_hostname=name) as wrapped:
        if credentials is not None:
            # In TLS 1.3 the server judges our certificate after our handshake is over.
            _hear(wrapped)
        return wrapped.getpeercert(binary_form=True) or b""


def _hear(wrapped: ssl.SSLSocket) -> None:
    """Wait for the first byte that a gRPC server says by itself once it accepts us."""
    try:
        heard = wrapped.recv(1)
    except (ConnectionResetError, BrokenPipeError):
        heard = b""
    if not heard:
        raise HungUpError("the other side hung up when it saw our certificate")


def _as_text(
    address: str, credentials: DeviceCredentials | None, error: ssl.SSLError
) -> str | None:
    if credentials is None:
        return None
    said = (getattr(error, "verify_message", "") or error.reason or "").lower().replace("_", " ")
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the agent at {address} is not the board {credentials.device_id} of this fleet "
            f"({said}): look whether another device has its address, or enrol it again"
        )
    if "alert" in said:
        return _refuses_ours(address, credentials, said)
    if "wrong version number" in said or "record layer" in said:
        return (
            f"the agent at {address} speaks without certificates: expected the enrolled board "
            f"{credentials.device_id}; enrol it again"
        )
    return None


def _refuses_ours(address: str, credentials: DeviceCredentials | None, said: str) -> str | None:
    if credentials is None:
        return None
    until = ""
    with contextlib.suppress(BoardfrontError):
        info = read_client(credentials.folder)
        until = "" if info is None else f", valid until {info.not_after:%Y-%m-%d},"
    return (
        f"the agent at {address} refuses this host's certificate{until} ({said}): compare the "
        "clocks of both, or ask the fleet's owner for a new invitation"
    )
