"""What both sides of an enrolment must agree on: the token a person carries, and boards' names."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from boardfront.protos.errors import WrongInputError

SECRET_BYTES = 10
FINGERPRINT_BYTES = 15
MAX_TRIES = 5
"""Wrong secrets after which a token is dead: 80 bits guessed five times are never hit."""

TEMPORARY_NAME = "enrolment.boardfront.internal"
"""The name in the certificate of a board that waits to be enrolled."""
_DOMAIN = "boardfront.internal"

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS = str.maketrans("OIL", "011")
_CHECK_CHARACTERS = 5
_GROUP = 5
_SECRET_CHARACTERS = SECRET_BYTES * 8 // 5
_FINGERPRINT_CHARACTERS = FINGERPRINT_BYTES * 8 // 5
_TOKEN_CHARACTERS = _SECRET_CHARACTERS + _FINGERPRINT_CHARACTERS + _CHECK_CHARACTERS
_LABEL = re.compile(r"(?!h-)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class TokenError(WrongInputError):
    """An enrolment token is mistyped, dead, or not the board's that was asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """What a board prints and a person types once on the host.

    Args:
        secret: Proves to the board that it is asked by whom its owner told, 10 bytes.
        fingerprint: Begin of the sha256 of the board's temporary certificate, 15 bytes: proves to
            the host that it speaks to the board that printed it. 120 bits are far more than can
            be forged in the minutes that a token lives.
    """

    secret: bytes = field(repr=False)
    fingerprint: bytes

    def text(self) -> str:
        """Return it as typed: 45 letters and digits in groups of five.

        The alphabet is Crockford's base 32, without letters that look like digits; the last
        group is a check, so that a slip of the finger costs no try.
        """
        letters = _encode(self.secret + self.fingerprint)
        letters += _check(letters)
        return "-".join(letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP))

    def is_of(self, certificate_der: bytes) -> bool:
        """Whether a certificate is the one that the token names."""
        return hmac.compare_digest(fingerprint_of(certificate_der), self.fingerprint)


def new_token(certificate_der: bytes) -> Token:
    """Return a token with a fresh secret for a temporary certificate."""
    return Token(
        secret=secrets.token_bytes(SECRET_BYTES), fingerprint=fingerprint_of(certificate_der)
    )


def parse_token(text: str) -> Token:
    """Return the token that a person typed; case, spaces and dashes do not matter.

    Raises:
        TokenError: If it is none. The message does not repeat it.
    """
    letters = re.sub(r"[\s-]", "", text).upper().translate(_READ_AS)
    if len(letters) != _TOKEN_CHARACTERS or not set(letters) <= set(_ALPHABET):
        raise TokenError(
            f"the token has {len(letters)} letters and digits, or strange ones among them: "
            f"expected the {_TOKEN_CHARACTERS} that `boardfront-agent enroll` printed"
        )
    content, check = letters[:-_CHECK_CHARACTERS], letters[-_CHECK_CHARACTERS:]
    if check != _check(content):
        raise TokenError("the token has a typing error: compare it with what the board printed")
    raw = _decode(content)
    return Token(secret=raw[:SECRET_BYTES], fingerprint=raw[SECRET_BYTES:])


def fingerprint_of(certificate_der: bytes) -> bytes:
    """Return what a token holds of a certificate."""
    return hashlib.sha256(certificate_der).digest()[:FINGERPRINT_BYTES]


def server_name(device_id: str) -> str:
    """Return the name in a board's certificate.

    It follows from the device's identity alone, so addresses may change, and no board can pose as
    another. An identity that DNS does not allow is replaced by its hash.
    """
    if _LABEL.fullmatch(device_id):
        return f"{device_id}.{_DOMAIN}"
    return f"h-{hashlib.sha256(device_id.encode()).hexdigest()[:40]}.{_DOMAIN}"


def is_server_name(name: str) -> bool:
    """Whether a name is reserved for boards: no client may be called so."""
    return name.lower().rstrip(".").endswith(f".{_DOMAIN}")


def _check(letters: str) -> str:
    return _encode(hashlib.sha256(letters.encode()).digest()[:10])[:_CHECK_CHARACTERS]


def _encode(raw: bytes) -> str:
    """Write bytes, whose bits must be a multiple of five, in base 32."""
    number = int.from_bytes(raw, "big")
    count = len(raw) * 8 // 5
    return "".join(_ALPHABET[number >> 5 * (count - 1 - at) & 31] for at in range(count))


def _decode(letters: str) -> bytes:
    number = 0
    for letter in letters:
        number = number << 5 | _ALPHABET.index(letter)
    return number.to_bytes(len(letters) * 5 // 8, "big")
