"""One file gives another engineer the boards, and can be taken back."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from boardfront.host.fleet.authority import Authority
from boardfront.host.fleet.credentials import Role, read_client
from boardfront.host.fleet.invitation import invite, join
from boardfront.protos.errors import WrongInputError
from boardfront.protos.private_file import PrivateFileError

if TYPE_CHECKING:
    from pathlib import Path

_FLEET = '[devices.rock5b]\naddress = "192.168.1.20:50051"  # on the shelf\n'


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "owners", create=True)


@pytest.fixture
def file(tmp_path: Path, authority: Authority) -> Path:
    invite(authority, "anna", tmp_path / "anna.invitation", fleet=_FLEET)
    return tmp_path / "anna.invitation"


def test_what_is_invited_joins(tmp_path: Path, authority: Authority, file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    joined = join(file, tmp_path / "annas")
    assert (joined.name, joined.fleet) == ("anna", _FLEET)
    info = read_client(tmp_path / "annas")
    assert info is not None
    assert (info.name, info.role, info.not_after) == ("anna", Role.USER, joined.not_after)
    (listed,) = authority.issued()
    assert listed.serial == info.serial
    kept = tmp_path / "annas" / "credentials" / "identity.pem"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_a_renewed_invitation_takes_the_olds_place(
    tmp_path: Path, authority: Authority, file: Path
) -> None:
    join(file, tmp_path / "annas")
    second = invite(authority, "anna", tmp_path / "second", fleet=_FLEET, role=Role.ADMIN)
    join(tmp_path / "second", tmp_path / "annas")
    info = read_client(tmp_path / "annas")
    assert info is not None
    assert (info.serial, info.role) == (second.serial, Role.ADMIN)


def test_an_invitation_overwrites_nothing(
    tmp_path: Path, authority: Authority, file: Path
) -> None:
    before = file.read_bytes()
    with pytest.raises(WrongInputError, match="there already"):
        invite(authority, "ben", file, fleet="")
    assert file.read_bytes() == before
    # Nothing was signed for it either.
    assert [one.name for one in authority.issued()] == ["anna"]
    with pytest.raises(WrongInputError, match="cannot stand"):
        invite(authority, "b/n", tmp_path / "ben", fleet="")
    assert not (tmp_path / "ben").exists()


def test_a_folder_belongs_to_one_fleet(tmp_path: Path, file: Path) -> None:
    other = Authority.open(tmp_path / "other", create=True)
    invite(other, "anna", tmp_path / "second", fleet="")
    join(file, tmp_path / "annas")
    with pytest.raises(WrongInputError, match="another fleet"):
        join(tmp_path / "second", tmp_path / "annas")
    with pytest.raises(WrongInputError, match="needs no invitation"):
        join(file, tmp_path / "owners")


def test_what_others_may_read_is_not_used(tmp_path: Path, file: Path) -> None:
    file.chmod(0o644)
    with pytest.raises(PrivateFileError, match="chmod 600"):
        join(file, tmp_path / "annas")
    assert not (tmp_path / "annas").exists()


def _damaged(document: dict[str, object], what: str) -> dict[str, object]:
    identity = str(document["identity"])
    changed: dict[str, dict[str, object]] = {
        "other version": {"boardfront_invitation": 2},
        "no key": {"identity": identity[identity.index("-----BEGIN CERTIFICATE") :]},
        "half a key": {"identity": identity[:150]},
        "bent": {"identity": identity.replace("A", "B")},
        "no text": {"identity": 7},
        "fleet of another kind": {"fleet": 7},
    }
    return {**document, **changed[what]}


@pytest.mark.parametrize(
    "what",
    ["other version", "no key", "half a key", "bent", "no text", "fleet of another kind"],
)
def test_a_damaged_invitation_changes_nothing(tmp_path: Path, file: Path, what: str) -> None:
    document = json.loads(file.read_text())
    file.write_text(json.dumps(_damaged(document, what)))
    with pytest.raises(WrongInputError) as caught:
        join(file, tmp_path / "annas")
    assert str(document["identity"]).splitlines()[1] not in str(caught.value)
    assert not (tmp_path / "annas").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"[]", b"\xff\xfe", b"null"])
def test_what_is_no_invitation_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(WrongInputError, match="no invitation"):
        join(path, tmp_path / "annas")
    with pytest.raises(WrongInputError, match="there is no file"):
        join(tmp_path / "nothing", tmp_path / "annas")
