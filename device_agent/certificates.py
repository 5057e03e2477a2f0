"""Keys and certificates, as a board needs them. The only module here that uses `cryptography`."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from datetime import datetime, timezone

from boardfront.protos.errors import BoardfrontError, WrongInputError

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as error:
    raise BoardfrontError(
        f"certificates need the library cryptography ({error}): "
        "`pip install 'boardfront[secure]'` here"
    ) from None

_ROLES = ("admin", "user")
_LONG_AGO = datetime(2000, 1, 1, tzinfo=timezone.utc)
_FAR_AWAY = datetime(2999, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientCertificate:
    """What a client's certificate says.

    Args:
        name: Whose it is.
        role: `admin` or `user`.
        serial: In hexadecimal.
        not_after_s: Until when it is accepted, seconds since 1970.
    """

    name: str
    role: str
    serial: str
    not_after_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Dates:
    """When a certificate is accepted, seconds since 1970."""

    begin_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Temporary:
    """A key and a self-signed certificate that live no longer than an enrolment."""

    key_pem: bytes = field(repr=False)
    certificate_pem: bytes
    certificate_der: bytes


def new_key() -> bytes:
    """Return a new private key (NIST P-256), in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def request(key_pem: bytes, name: str) -> bytes:
    """Return the request for a key's certificate, in PEM."""
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(_named(name))
    signed = builder.add_extension(names, critical=False).sign(_load_key(key_pem), hashes.SHA256())
    return signed.public_bytes(Encoding.PEM)


def temporary(name: str) -> Temporary:
    """Return a key and a certificate that it signed itself.

    It has no dates to speak of: its fingerprint is what counts, and a board's clock may be wrong
    before it is enrolled.
    """
    key_pem = new_key()
    key = _load_key(key_pem)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_LONG_AGO)
        .not_valid_after(_FAR_AWAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Temporary(
        key_pem=key_pem,
        certificate_pem=certificate.public_bytes(Encoding.PEM),
        certificate_der=certificate.public_bytes(Encoding.DER),
    )


def check_usable(
    key_pem: bytes, certificate_pem: bytes, authority_pem: bytes, *, name: str
) -> Dates:
    """Check that a certificate is one to serve with, whatever the time is; return its dates.

    Args:
        key_pem: The key it must be of.
        certificate_pem: The certificate.
        authority_pem: Who must have signed it.
        name: Which it must be for.

    Raises:
        WrongInputError: If it is not; the text says why.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        authority = x509.load_pem_x509_certificate(authority_pem)
        certificate.verify_directly_issued_by(authority)
        is_authority = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        is_ours = certificate.public_key() == _load_key(key_pem).public_key()
    # Bytes from the wire: cryptography raises several types without a common root.
    except Exception as error:  # noqa: BLE001
        raise WrongInputError(
            f"the certificate cannot be used ({type(error).__name__}): expected one that the "
            "fleet's authority signed"
        ) from None
    if not is_ours:
        raise WrongInputError("the certificate is of another key than was asked for: ask again")
    if not is_authority or ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        raise WrongInputError("the certificate is not one for a board: expected serverAuth")
    if names.get_values_for_type(x509.DNSName) != [name]:
        raise WrongInputError(f"the certificate is not for {name}: it is another board's")
    return Dates(
        begin_s=certificate.not_valid_before_utc.timestamp(),
        end_s=certificate.not_valid_after_utc.timestamp(),
    )


def check_dates(dates: Dates, now_s: float) -> None:
    """Check that a certificate is accepted at a time, in seconds since 1970.

    Raises:
        WrongInputError: If it is not.
    """
    if dates.begin_s <= now_s < dates.end_s:
        return
    now = datetime.fromtimestamp(now_s, tz=timezone.utc)
    side = (
        "before its certificate begins" if now_s < dates.begin_s else "after its certificate ends"
    )
    raise WrongInputError(
        f"the board's clock says {now:%Y-%m-%d %H:%M} UTC, {side}: set it (`timedatectl`), and "
        "see that it is right after a reboot"
    )


@functools.lru_cache(maxsize=256)
def read_client(certificate_pem: bytes) -> ClientCertificate | None:
    """Return what a certificate says whose signature was checked; None if it is no client's."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usages or not names or not units:
        return None
    if units[0].value not in _ROLES:
        return None
    return ClientCertificate(
        name=str(names[0].value),
        role=str(units[0].value),
        serial=f"{certificate.serial_number:x}",
        not_after_s=certificate.not_valid_after_utc.timestamp(),
    )


def _load_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BoardfrontError("the board's key is of another kind than expected: enrol it again")
    return key


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
