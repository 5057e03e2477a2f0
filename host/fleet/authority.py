"""The private authority of a fleet: it signs the certificates of boards and of engineers.

Under a fleet file's folder, `authority/` (mode 0700) holds its key, its certificate, and a list
of what it issued and revoked. Whoever has that folder owns the fleet: the key is what a backup
must have and what nobody else may see. Hosts that were invited have no such folder.
"""

from __future__ import annotations

import contextlib
import platform
import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from boardfront.host.fleet.certificates import (
    begin_certificate,
    distinguished_name,
    key_pem,
    key_usage,
    requested_key,
)
from boardfront.host.fleet.credentials import (
    CredentialsError,
    Identity,
    Role,
    keep_out_of_git,
    now_utc,
    read_authority_pem,
)
from boardfront.host.fleet.issued import Certificate, locked, read_list, write_list
from boardfront.protos.enrolment import is_server_name, server_name
from boardfront.protos.errors import WrongInputError
from boardfront.protos.private_file import read_private, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

AUTHORITY_FOR = timedelta(days=3650)
LEAF_FOR = timedelta(days=825)
"""No certificate lives longer: what browsers' makers once allowed private authorities."""
_BACKDATED = timedelta(days=1)
"""Boards without a battery come up with a clock that is behind."""

_FOLDER = "authority"
_KEY_FILE = "authority.pem"
_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@+-]{0,63}")


class NotTheAuthorityError(WrongInputError):
    """This host does not hold the authority's key."""


class AlreadyEnrolledError(WrongInputError):
    """Another board was enrolled under the same identity."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Issued:
    """A certificate and what is written in it."""

    certificate_pem: bytes
    serial: str
    not_after: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedClient(Issued):
    """A client's certificate with its key, which this host made for it."""

    identity: Identity = field(repr=False)


class Authority:
    """Signs certificates. Several processes may use one folder at a time.

    Made by `open`.
    """

    def __init__(
        self, folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
    ) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding
        from cryptography.x509.oid import NameOID

        self.folder = folder
        self._key = key
        self._certificate = certificate
        self.certificate_pem = certificate.public_bytes(Encoding.PEM)
        self.not_after = certificate.not_valid_after_utc
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        self.name = str(name.value)

    @classmethod
    def open(cls, folder: Path, *, create: bool = False) -> Authority:
        """Return the authority of a fleet file's folder.

        Args:
            folder: Where the fleet file lies.
            create: Make one if this host belongs to no fleet yet.

        Raises:
            NotTheAuthorityError: If there is none, or this host belongs to somebody else's fleet.
            CredentialsError: If it is damaged.
            PrivateFileError: If others may read its key.
        """
        content = read_private(folder / _FOLDER / _KEY_FILE)
        if content is None and read_authority_pem(folder) is not None:
            raise NotTheAuthorityError(
                f"{folder} belongs to a fleet whose owner invited you: only the owner's host can "
                "do this"
            )
        if content is None and not create:
            raise NotTheAuthorityError(
                f"there is no authority in {folder}: `boardfront device add` makes one with the "
                "first board that is enrolled"
            )
        if content is None:
            content = _create(folder)
        return cls(folder, *_parse(folder, content))

    def issue_board(
        self, request_pem: bytes, device_id: str, *, name: str = "", replace: bool = False
    ) -> Issued:
        """Sign a board's request. What it says about itself is not believed, only its key is.

        Args:
            request_pem: The board's certificate request.
            device_id: The board's identity: the name in the certificate follows from it.
            name: What people call the board, for the list.
            replace: Whether a certificate of the same identity may be there already.

        Raises:
            WrongInputError: If the request is damaged or its key is weak.
            AlreadyEnrolledError: If the identity is another board's.
        """
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        key = requested_key(request_pem)
        with self._issuing() as listed:
            if not replace:
                _refuse_second(listed, device_id)
            names = x509.SubjectAlternativeName([x509.DNSName(server_name(device_id))])
            certificate = self._sign(
                key,
                distinguished_name(server_name(device_id), "board"),
                ExtendedKeyUsageOID.SERVER_AUTH,
                names,
            )
            listed.append(_entry(certificate, kind="board", name=name, device_id=device_id))
        return _issued(certificate)

    def issue_client(self, name: str, *, role: Role = Role.USER) -> IssuedClient:
        """Make a key and a certificate for somebody.

        Raises:
            WrongInputError: If the name cannot be one.
        """
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID

        if not _CLIENT_NAME.fullmatch(name) or is_server_name(name):
            raise WrongInputError(
                f"the name {name[:80]!r} cannot stand in a certificate: expected up to 64 "
                "letters, digits, blanks and ._@+-, e.g. anna@workstation"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        with self._issuing() as listed:
            certificate = self._sign(
                key.public_key(),
                distinguished_name(name, role.value),
                ExtendedKeyUsageOID.CLIENT_AUTH,
            )
            listed.append(_entry(certificate, kind="client", name=name, role=role))
        issued = _issued(certificate)
        return IssuedClient(
            certificate_pem=issued.certificate_pem,
            serial=issued.serial,
            not_after=issued.not_after,
            identity=Identity(key_pem(key), issued.certificate_pem, self.certificate_pem),
        )

    def revoke(self, who: str) -> tuple[str, ...]:
        """Mark a client's certificates as revoked; boards must then be told.

        Args:
            who: The client's name, for all of its certificates, or one serial in hexadecimal.

        Returns:
            The serials that were not revoked before.

        Raises:
            WrongInputError: If no client is called so.
        """
        with self._issuing() as listed:
            clients = [one for one in listed if one.kind == "client"]
            meant = {one.serial for one in clients if who in (one.name, one.serial)}
            if not meant:
                known = ", ".join(sorted({one.name for one in clients})) or "none"
                raise WrongInputError(f"no client {who!r}: expected a serial, or one of {known}")
            new = tuple(one.serial for one in clients if one.serial in meant and not one.revoked)
            listed[:] = [
                replace(one, revoked=one.revoked or one.serial in meant) for one in listed
            ]
        return new

    def retire(self, device_id: str) -> None:
        """Forget that a board of this identity was enrolled, so that another may be."""
        with self._issuing() as listed:
            listed[:] = [
                replace(one, retired=one.retired or one.device_id == device_id)
                if one.kind == "board"
                else one
                for one in listed
            ]

    def revoked(self) -> tuple[str, ...]:
        """Return the serials that boards must refuse; those that ended by themselves left out."""
        now = now_utc()
        return tuple(one.serial for one in self.issued() if one.revoked and one.not_after > now)

    def issued(self) -> tuple[Certificate, ...]:
        """Return all certificates that were issued, the oldest first."""
        return tuple(read_list(self.folder / _FOLDER))

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None = None,
    ) -> x509.Certificate:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        now = now_utc()
        builder = (
            begin_certificate(subject, self._certificate.subject, key)
            .not_valid_before(max(now - _BACKDATED, self._certificate.not_valid_before_utc))
            .not_valid_after(min(now - _BACKDATED + LEAF_FOR, self.not_after))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    @contextlib.contextmanager
    def _issuing(self) -> Iterator[list[Certificate]]:
        """Hold the list alone, and write it when the block ends well.

        What was signed is known here before anybody can use it.
        """
        with locked(self.folder / _FOLDER):
            listed = read_list(self.folder / _FOLDER)
            yield listed
            write_list(self.folder / _FOLDER, listed)


def _create(folder: Path) -> bytes:
    """Make an authority; return its file. If another process was faster, that one's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    keep_out_of_git(folder / _FOLDER)
    with locked(folder / _FOLDER):
        made = read_private(folder / _FOLDER / _KEY_FILE)
        if made is not None:
            return made
        key = ec.generate_private_key(ec.SECP256R1())
        name = f"boardfront fleet of {platform.node() or 'this host'}"[:64]
        subject = distinguished_name(name, "authority")
        begin = now_utc() - _BACKDATED
        certificate = (
            begin_certificate(subject, subject, key.public_key())
            .not_valid_before(begin)
            .not_valid_after(begin + AUTHORITY_FOR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        made = key_pem(key) + certificate.public_bytes(Encoding.PEM)
        write_private(folder / _FOLDER / _KEY_FILE, made)
        return made


def _parse(folder: Path, content: bytes) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(content, password=None)
        certificate = x509.load_pem_x509_certificate(content)
    except (ValueError, TypeError) as error:
        raise _damaged(folder, type(error).__name__) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _damaged(folder, "the key is of another kind")
    if key.public_key() != certificate.public_key():
        raise _damaged(folder, "key and certificate do not belong together")
    return key, certificate


def _damaged(folder: Path, what: str) -> CredentialsError:
    return CredentialsError(
        f"{folder / _FOLDER / _KEY_FILE} is damaged ({what}): put its backup there, or remove "
        f"{folder / _FOLDER} and enrol all boards again"
    )


def _refuse_second(listed: list[Certificate], device_id: str) -> None:
    now = now_utc()
    for one in listed:
        if one.device_id == device_id and not one.retired and one.not_after > now:
            raise AlreadyEnrolledError(
                f"a board with the identity {device_id} was enrolled as {one.name!r}: if this is "
                "that board, add it with --replace; if it runs a copy of that board's card, give "
                "it its own /etc/machine-id first"
            )


def _issued(certificate: x509.Certificate) -> Issued:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Issued(
        certificate_pem=certificate.public_bytes(Encoding.PEM),
        serial=f"{certificate.serial_number:x}",
        not_after=certificate.not_valid_after_utc,
    )


def _entry(
    certificate: x509.Certificate,
    *,
    kind: str,
    name: str,
    device_id: str = "",
    role: Role | None = None,
) -> Certificate:
    return Certificate(
        kind=kind,
        name=name,
        serial=f"{certificate.serial_number:x}",
        not_after=certificate.not_valid_after_utc,
        device_id=device_id,
        role=role,
    )
