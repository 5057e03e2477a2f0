"""This host's client certificate, and connections that show it.

Under a fleet file's folder, `credentials/identity.pem` (mode 0600) holds the private key, the
certificate, and the certificate of the authority that boards must come from.
"""

from __future__ import annotations

import contextlib
import enum
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import grpc

from boardfront.protos.enrolment import server_name
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.private_file import make_private_folder, read_private, write_private

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509

    Options = Sequence[tuple[str, int | str]]

_FOLDER = "credentials"
_FILE = "identity.pem"
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----\n?", re.DOTALL)


class CredentialsError(BoardfrontError):
    """This host has no usable certificate, or the other side's is not what it must be."""


class Role(enum.Enum):
    """What a client certificate allows; its organisational unit says which."""

    ADMIN = "admin"
    """Everything, and: renewing boards' certificates, telling them who is revoked."""
    USER = "user"
    """To measure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientInfo:
    """What a client certificate says.

    Args:
        name: Whose it is; boards show it beside a lease.
        role: What it allows.
        serial: In hexadecimal, as boards are told when it is revoked.
        not_after: Until when it is accepted, UTC.
    """

    name: str
    role: Role
    serial: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class DeviceCredentials:
    """How to reach an enrolled board: with which certificate, and what it must be called.

    The files are read at each connection, so that a renewed certificate is used by programs that
    run. Holds no secret itself.

    Args:
        folder: Of the fleet file.
        device_id: Of the board; no other can answer in its place.
    """

    folder: Path
    device_id: str

    def version(self) -> int:
        """Return a number that changes when this host's certificate is renewed."""
        try:
            return identity_file(self.folder).stat().st_mtime_ns
        except OSError:
            return 0

    def channel(self, address: str, options: Options = ()) -> grpc.Channel:
        """Open a connection to HOST:PORT on which both sides show certificates.

        Raises:
            CredentialsError: If this host has none.
            PrivateFileError: If others may read the key.
        """
        identity = _read(self.folder)
        if identity is None:
            raise CredentialsError(
                f"this host has no certificate in {self.folder / _FOLDER}: `boardfront device "
                "add` a board that you enrol, or `boardfront device join` with an invitation"
            )
        return grpc.secure_channel(
            address,
            grpc.ssl_channel_credentials(
                identity.authority_pem, identity.key_pem, identity.certificate_pem
            ),
            options=[
                *options,
                ("grpc.ssl_target_name_override", server_name(self.device_id)),
            ],
        )


def open_channel(
    address: str, credentials: DeviceCredentials | None, options: Options
) -> grpc.Channel:
    """Open a connection with the credentials that belong to the address, or a plain one."""
    if credentials is None:
        return grpc.insecure_channel(address, options=list(options))
    return credentials.channel(address, options)


def identity_file(folder: Path) -> Path:
    """Return where key and certificate lie under a fleet file's folder."""
    return folder / _FOLDER / _FILE


def read_client(folder: Path) -> ClientInfo | None:
    """Return what this host's certificate says; None if it has none.

    Raises:
        CredentialsError: If the file is damaged.
        PrivateFileError: If others may read it.
    """
    identity = _read(folder)
    return None if identity is None else identity.info()


def read_authority_pem(folder: Path) -> bytes | None:
    """Return the certificate of the authority this host belongs to; None without one."""
    identity = _read(folder)
    return None if identity is None else identity.authority_pem


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key, its certificate, and the authority's. Its text shows none of them."""

    key_pem: bytes = field(repr=False)
    certificate_pem: bytes = field(repr=False)
    authority_pem: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """Return all three as one PEM file: read and written whole, they always fit together."""
        return b"".join(
            part.strip() + b"\n"
            for part in (self.key_pem, self.certificate_pem, self.authority_pem)
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Identity:
        """Return what `to_bytes` wrote.

        Raises:
            CredentialsError: If it is something else.
        """
        parts = [(found.group(1), found.group(0)) for found in _PEM.finditer(content)]
        if [kind for kind, _ in parts] != [b"PRIVATE KEY", b"CERTIFICATE", b"CERTIFICATE"]:
            raise CredentialsError(
                "expected a private key and two certificates in PEM: ask for a new invitation"
            )
        return cls(*(text for _, text in parts))

    def info(self) -> ClientInfo:
        """Return what the certificate says.

        Raises:
            CredentialsError: If it is no client certificate of ours, or not the key's.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            certificate = x509.load_pem_x509_certificate(self.certificate_pem)
            authority = x509.load_pem_x509_certificate(self.authority_pem)
            key = load_pem_private_key(self.key_pem, password=None)
            certificate.verify_directly_issued_by(authority)
            info = client_info(certificate)
        # cryptography raises ValueError, TypeError and InvalidSignature, without a common root.
        except Exception as error:  # noqa: BLE001
            raise CredentialsError(
                f"the key or certificate is damaged ({type(error).__name__}): ask for a new "
                "invitation"
            ) from None
        if key.public_key() != certificate.public_key():
            raise CredentialsError(
                "key and certificate do not belong together: ask for a new invitation"
            )
        return info


def client_info(certificate: x509.Certificate) -> ClientInfo:
    """Return what a client certificate says.

    Raises:
        ValueError: If it has no name or no role.
    """
    from cryptography.x509.oid import NameOID

    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    if not names or not units:
        raise ValueError("no name or no role in it")
    return ClientInfo(
        name=str(names[0].value),
        role=Role(str(units[0].value)),
        serial=f"{certificate.serial_number:x}",
        not_after=certificate.not_valid_after_utc,
    )


def write_identity(folder: Path, identity: Identity) -> ClientInfo:
    """Use this certificate from now on; return what it says.

    Raises:
        CredentialsError: If key, certificate and authority do not belong together.
        PrivateFileError: If it cannot be written.
    """
    info = identity.info()
    keep_out_of_git(folder / _FOLDER)
    write_private(identity_file(folder), identity.to_bytes())
    return info


def keep_out_of_git(folder: Path) -> None:
    """Make a private folder that git does not see: a fleet file may lie in a repository."""
    make_private_folder(folder)
    ignored = folder / ".gitignore"
    if not ignored.exists():
        with contextlib.suppress(OSError):
            ignored.write_text("*\n")


def now_utc() -> datetime:
    """Return the time now, UTC."""
    return datetime.now(timezone.utc)


def _read(folder: Path) -> Identity | None:
    content = read_private(identity_file(folder))
    return None if content is None else Identity.from_bytes(content)
