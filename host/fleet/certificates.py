"""The parts of an X.509 certificate as this project writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec


def begin_certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """Begin a certificate with a random serial number; times, uses and signature come later."""
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def distinguished_name(name: str, unit: str) -> x509.Name:
    """Return the name in a certificate: whose it is, and what it is for."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return what a key may do: sign handshakes, or else certificates."""
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key in PEM (PKCS 8). Not encrypted: the file's mode protects it."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def requested_key(request_pem: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key of a certificate request, whose owner has proven to hold the other.

    Raises:
        WrongInputError: If the request is damaged, or its key is weak or of another kind.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        request = x509.load_pem_x509_csr(request_pem)
        key = request.public_key()
        proven = request.is_signature_valid
    # Bytes from the wire: cryptography raises several types without a common root.
    except Exception as error:  # noqa: BLE001
        raise WrongInputError(
            f"the board's certificate request cannot be read ({type(error).__name__}): install "
            "the same boardfront on both"
        ) from None
    if not proven or not isinstance(key, ec.EllipticCurvePublicKey) or key.key_size < 256:
        raise WrongInputError(
            "the board's certificate request has a weak or unproven key: expected an elliptic "
            "curve of 256 bits or more; install the same boardfront on both"
        )
    return key
