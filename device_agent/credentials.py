"""A board's credentials, on its disk and at its listeners.

They lie in `credentials/` in the agent's folder (0700): `identity.pem` (0600) with key,
certificate and authority in one file, so that they always fit together, and `revoked.json`. With
them every connection must show a certificate that the authority signed; without, the agent
listens on this machine only.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from boardfront.protos.enrolment import server_name
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.protos.private_file import read_private, write_private

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from boardfront.device_agent.certificates import Dates

_FOLDER = "credentials"
_IDENTITY_FILE = "identity.pem"
_REVOKED_FILE = "revoked.json"
_MAX_REVOKED = 10_000
_SERIAL = re.compile(r"[0-9a-f]{1,40}")
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----\n?", re.DOTALL)
_MAX_PEM_BYTES = 16_384
_WARN_DAYS = 60.0


class CredentialsError(BoardfrontError):
    """The credentials on the disk are damaged or do not belong to this board."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key, its certificate, and the authority's. Its text shows none of them."""

    key_pem: bytes = field(repr=False)
    certificate_pem: bytes = field(repr=False)
    authority_pem: bytes = field(repr=False)


class Credentials:
    """What a board proves itself with, and whom it refuses. Thread-safe.

    Args:
        folder: Where they are kept.
        device_id: Of this board.
        identity: What the folder holds.
        revoked: Serial numbers, in hexadecimal, of clients that are refused.
    """

    def __init__(
        self, folder: Path, device_id: str, identity: Identity, revoked: frozenset[str]
    ) -> None:
        self.folder = folder
        self._device_id = device_id
        self._identity = identity
        self._requested_key: bytes | None = None
        self._lock = threading.Lock()
        self.revoked = revoked

    @classmethod
    def load(cls, state: Path, device_id: str) -> Credentials | None:
        """Return the credentials in an agent's folder; None if it was never enrolled.

        Raises:
            CredentialsError: If they are damaged, or another board's. Nothing is served then.
            PrivateFileError: If others may read them.
        """
        folder = state / _FOLDER
        content = read_private(folder / _IDENTITY_FILE)
        if content is None:
            return None
        found = [(part.group(1), part.group(0)) for part in _PEM.finditer(content)]
        if [kind for kind, _ in found] != [b"PRIVATE KEY", b"CERTIFICATE", b"CERTIFICATE"]:
            raise CredentialsError(
                f"{folder / _IDENTITY_FILE} is damaged: `boardfront-agent enroll` again"
            )
        identity = Identity(*(text for _, text in found))
        loaded = cls(folder, device_id, identity, _read_revoked(folder / _REVOKED_FILE))
        try:
            loaded.dates()
        except WrongInputError as error:
            raise CredentialsError(
                f"the credentials in {folder} cannot be used: {error}, or `boardfront-agent "
                "enroll` again"
            ) from None
        return loaded

    @classmethod
    def install_first(
        cls, state: Path, device_id: str, identity: Identity, *, now_s: float
    ) -> Credentials:
        """Keep what an enrolment brought, in place of anything that was there.

        Raises:
            WrongInputError: If key, certificate, authority, board and time do not fit together.
            PrivateFileError: If they cannot be written.
        """
        from boardfront.device_agent.certificates import check_dates

        identity = Identity(
            identity.key_pem, _one_pem(identity.certificate_pem), _one_pem(identity.authority_pem)
        )
        made = cls(state / _FOLDER, device_id, identity, frozenset())
        check_dates(made.dates(), now_s)
        # In this order a crash between leaves no identity without the list that belongs to it.
        if not (made.folder / _REVOKED_FILE).exists():
            write_private(made.folder / _REVOKED_FILE, _revoked_json(()))
        made._write(identity)
        write_private(made.folder / _REVOKED_FILE, _revoked_json(()))
        return made

    def dates(self) -> Dates:
        """Return when the certificate is accepted.

        Raises:
            WrongInputError: If it does not fit key, authority or board.
        """
        return self._dates(self._identity)

    def warnings(self, now_s: float) -> tuple[str, ...]:
        """Return what will keep clients out now or soon, one line each.

        Args:
            now_s: The time, seconds since 1970.
        """
        from boardfront.device_agent.certificates import check_dates

        dates = self.dates()
        try:
            check_dates(dates, now_s)
        except WrongInputError as error:
            return (str(error),)
        days = (dates.end_s - now_s) / 86400.0
        if days > _WARN_DAYS:
            return ()
        return (f"this board's certificate ends in {days:.0f} days: `boardfront device rotate`",)

    def request(self) -> bytes:
        """Make a new key and return the request for its certificate, in PEM.

        The key is used from the moment on that its certificate comes; until then the old one is.
        """
        from boardfront.device_agent import certificates

        key_pem = certificates.new_key()
        with self._lock:
            self._requested_key = key_pem
        return certificates.request(key_pem, server_name(self._device_id))

    def install(self, certificate_pem: bytes, authority_pem: bytes) -> None:
        """Use the certificate that answers the last request, for connections from now on.

        Raises:
            WrongInputError: If nothing was requested, or it is not what was requested.
            PrivateFileError: If it cannot be written; the old one stays in use.
        """
        from boardfront.device_agent.certificates import check_dates

        with self._lock:
            if self._requested_key is None:
                raise WrongInputError("no certificate was requested since the start: request one")
            if authority_pem and authority_pem.strip() != self._identity.authority_pem.strip():
                raise WrongInputError(
                    "the certificate comes from another authority: `boardfront-agent enroll` on "
                    "the board moves it to another fleet"
                )
            new = Identity(
                self._requested_key, _one_pem(certificate_pem), self._identity.authority_pem
            )
            check_dates(self._dates(new), time.time())
            self._write(new)
            self._identity = new
            self._requested_key = None

    def set_revoked(self, serials: Iterable[str]) -> None:
        """Refuse these clients from now on, and no others.

        Raises:
            WrongInputError: If a serial is none, or there are too many.
            PrivateFileError: If the list cannot be written; the old one stays in force.
        """
        wanted = frozenset(serials)
        if len(wanted) > _MAX_REVOKED or not all(_SERIAL.fullmatch(one) for one in wanted):
            raise WrongInputError(
                f"expected up to {_MAX_REVOKED} serial numbers in lower-case hexadecimal"
            )
        with self._lock:
            write_private(self.folder / _REVOKED_FILE, _revoked_json(wanted))
            self.revoked = wanted

    def server_credentials(self, *, ask_clients: bool = True) -> grpc.ServerCredentials:
        """Return what a listener needs; it takes a renewed certificate by itself.

        Args:
            ask_clients: Refuse whoever shows no certificate of the authority.
        """
        used = self._identity

        def renewed() -> Any:
            nonlocal used
            now = self._identity
            if now is used:
                return None
            used = now
            return _configuration(now, ask_clients=ask_clients)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(used, ask_clients=ask_clients),
            renewed,
            require_client_authentication=ask_clients,
        )

    def _dates(self, identity: Identity) -> Dates:
        from boardfront.device_agent.certificates import check_usable

        return check_usable(
            identity.key_pem,
            identity.certificate_pem,
            identity.authority_pem,
            name=server_name(self._device_id),
        )

    def _write(self, identity: Identity) -> None:
        parts = (identity.key_pem, identity.certificate_pem, identity.authority_pem)
        content = b"".join(part.strip() + b"\n" for part in parts)
        write_private(self.folder / _IDENTITY_FILE, content)


def _configuration(identity: Identity, *, ask_clients: bool) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key_pem, identity.certificate_pem)],
        root_certificates=identity.authority_pem if ask_clients else None,
    )


def _one_pem(content: bytes) -> bytes:
    """Return the one certificate in some bytes from the wire."""
    found = [part.group(0) for part in _PEM.finditer(content[:_MAX_PEM_BYTES])]
    if len(found) != 1:
        raise WrongInputError(f"expected one certificate in PEM, got {len(found)}")
    return found[0]


def _read_revoked(path: Path) -> frozenset[str]:
    """Read the list; without a readable one nobody is served: a refusal must not be forgotten."""
    content = read_private(path)
    try:
        serials = frozenset(json.loads(content or b"")["revoked"])
    except (ValueError, KeyError, TypeError):
        raise CredentialsError(
            f"{path} is missing or damaged: `boardfront-agent enroll` again"
        ) from None
    return serials


def _revoked_json(serials: Iterable[str]) -> bytes:
    return json.dumps({"revoked": sorted(serials)}, indent=1).encode()
