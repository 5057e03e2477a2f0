"""The token a person carries from board to host, and the names in boards' certificates."""

from __future__ import annotations

import random

import pytest

from boardfront.protos.enrolment import (
    Token,
    TokenError,
    is_server_name,
    new_token,
    parse_token,
    server_name,
)


def _token(seed: int) -> Token:
    chosen = random.Random(seed)  # noqa: S311 - not a secret here
    return Token(secret=chosen.randbytes(10), fingerprint=chosen.randbytes(15))


@pytest.mark.parametrize("seed", range(20))
def test_what_is_printed_is_read_again(seed: int) -> None:
    token = _token(seed)
    text = token.text()
    assert [len(group) for group in text.split("-")] == [5] * 9
    assert parse_token(text) == token
    # As people type: small letters, blanks, O for 0 and l for 1.
    assert parse_token(f" {text.lower().replace('-', ' ')}\n") == token
    assert parse_token(text.replace("0", "O").replace("1", "l")) == token


def test_all_zeros_keep_their_length() -> None:
    token = Token(secret=bytes(10), fingerprint=bytes(15))
    assert parse_token(token.text()) == token


def test_a_slip_of_the_finger_is_noticed_here() -> None:
    text = _token(7).text()
    noticed = 0
    for at, letter in enumerate(text):
        if letter == "-":
            continue
        other = "7" if letter != "7" else "8"
        with pytest.raises(TokenError, match="typing error") as caught:
            parse_token(text[:at] + other + text[at + 1 :])
        assert text[:5] not in str(caught.value)
        noticed += 1
    assert noticed == 45


@pytest.mark.parametrize("text", ["", "ABC", "U" * 45, "A" * 46, "ä" * 45, "A" * 100_000])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError, match="expected the 45"):
        parse_token(text)


def test_a_token_knows_its_certificate() -> None:
    token = new_token(b"certificate")
    assert token.is_of(b"certificate")
    assert not token.is_of(b"certificatf")
    assert new_token(b"certificate").secret != token.secret


def test_every_identity_has_a_name_of_its_own() -> None:
    assert server_name("0123456789abcdef") == "0123456789abcdef.boardfront.internal"
    odd = ["Rock 5B", "a.b", "-a", "a-", "a" * 64, "", "ä", "*", server_name("ä").split(".")[0]]
    names = [server_name(one) for one in odd]
    assert len(set(names)) == len(odd)
    assert all(name.startswith("h-") and len(name.split(".")[0]) <= 63 for name in names)


def test_names_of_boards_are_reserved() -> None:
    assert is_server_name(server_name("0123456789abcdef"))
    assert is_server_name("X.BOARDFRONT.INTERNAL.")
    assert not is_server_name("anna@workstation")
