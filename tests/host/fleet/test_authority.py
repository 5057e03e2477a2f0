"""The fleet's private authority: what it signs, for how long, and what it remembers."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.device_agent import harness

from boardfront.device_agent import certificates
from boardfront.host.fleet import authority as authority_module
from boardfront.host.fleet import issued as issued_module
from boardfront.host.fleet.authority import (
    AlreadyEnrolledError,
    Authority,
    NotTheAuthorityError,
)
from boardfront.host.fleet.credentials import CredentialsError, Role, now_utc
from boardfront.host.fleet.invitation import invite, join
from boardfront.protos.enrolment import server_name
from boardfront.protos.errors import WrongInputError
from boardfront.protos.private_file import PrivateFileError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import (
        CertificateIssuerPrivateKeyTypes,
    )

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path, create=True)


def _request(name: str = "any") -> bytes:
    return certificates.request(certificates.new_key(), name)


def _usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_it_is_made_once_and_found_again(tmp_path: Path) -> None:
    with pytest.raises(NotTheAuthorityError, match="device add"):
        Authority.open(tmp_path)
    assert list(tmp_path.iterdir()) == []
    made = Authority.open(tmp_path, create=True)
    assert Authority.open(tmp_path).certificate_pem == made.certificate_pem
    assert Authority.open(tmp_path, create=True).certificate_pem == made.certificate_pem
    lives = made.not_after - now_utc()
    assert timedelta(days=3640) < lives <= timedelta(days=3650)


def test_its_files_are_the_owners_alone(authority: Authority) -> None:
    authority.issue_client("anna")
    folder = authority.folder / "authority"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes["authority.pem"] == modes["issued.json"] == modes["lock"] == 0o600
    # Fleet files may lie in a repository; keys may not.
    assert (folder / ".gitignore").read_text() == "*\n"
    (folder / "authority.pem").chmod(0o644)
    with pytest.raises(PrivateFileError, match="chmod 600"):
        Authority.open(authority.folder)


def test_its_list_holds_no_key(authority: Authority) -> None:
    made = authority.issue_client("anna")
    assert b"PRIVATE KEY" in made.identity.key_pem
    assert "PRIVATE" not in (authority.folder / "authority" / "issued.json").read_text()
    for shown in (repr(made), repr(made.identity), repr(authority)):
        assert "PRIVATE" not in shown
        assert made.identity.key_pem.decode().splitlines()[1] not in shown


def test_a_boards_certificate_names_the_board_and_nothing_else(authority: Authority) -> None:
    # What a request says of itself is not believed.
    issued = authority.issue_board(_request("other.boardfront.internal"), "f00d", name="rock5b")
    certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [server_name("f00d")]
    assert len(list(names)) == 1
    assert _usages(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    certificate.verify_directly_issued_by(
        x509.load_pem_x509_certificate(authority.certificate_pem)
    )
    assert f"{certificate.serial_number:x}" == issued.serial
    assert certificate.not_valid_after_utc == issued.not_after
    (listed,) = authority.issued()
    assert (listed.kind, listed.name, listed.device_id) == ("board", "rock5b", "f00d")


def test_a_clients_certificate_says_who_and_what_for(authority: Authority) -> None:
    issued = authority.issue_client("anna@workstation", role=Role.ADMIN)
    certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    (unit,) = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert (name.value, unit.value) == ("anna@workstation", "admin")
    assert _usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    info = issued.identity.info()
    assert (info.name, info.role, info.serial) == ("anna@workstation", Role.ADMIN, issued.serial)


def test_no_leaf_lives_longer_than_825_days_or_than_its_authority(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pem in (
        authority.issue_client("anna").certificate_pem,
        authority.issue_board(_request(), "f00d").certificate_pem,
    ):
        certificate = x509.load_pem_x509_certificate(pem)
        lives = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert timedelta(days=800) < lives <= timedelta(days=825)
        assert certificate.not_valid_before_utc < now_utc()
    late = now_utc() + timedelta(days=3500)
    monkeypatch.setattr(authority_module, "now_utc", lambda: late)
    assert authority.issue_client("ben").not_after == authority.not_after


def test_one_identity_is_one_board(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.issue_board(_request(), "f00d", name="rock5b")
    with pytest.raises(AlreadyEnrolledError, match=r"'rock5b'.*--replace.*machine-id"):
        authority.issue_board(_request(), "f00d")
    assert len(authority.issued()) == 1
    authority.issue_board(_request(), "f00d", replace=True)
    authority.issue_board(_request(), "beef")
    authority.retire("f00d")
    authority.issue_board(_request(), "f00d")
    # One whose certificate has run out stands in nobody's way.
    late = now_utc() + timedelta(days=900)
    monkeypatch.setattr(authority_module, "now_utc", lambda: late)
    authority.issue_board(_request(), "beef")


def _signed_by(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _broken(request: bytes) -> bytes:
    """Change a letter of the signature."""
    at = len(request) - 60
    return request[:at] + (b"A" if request[at : at + 1] != b"A" else b"B") + request[at + 1 :]


@pytest.mark.parametrize(
    "request_pem",
    [
        b"",
        b"junk",
        b"\xff" * 4096,
        _signed_by(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        _signed_by(ec.generate_private_key(ec.SECP192R1())),
        _broken(_request()),
    ],
    ids=["empty", "junk", "bytes", "rsa", "short", "unproven"],
)
def test_a_request_that_proves_nothing_is_not_signed(
    authority: Authority, request_pem: bytes
) -> None:
    with pytest.raises(WrongInputError, match="certificate request"):
        authority.issue_board(request_pem, "f00d")
    assert authority.issued() == ()


@pytest.mark.parametrize(
    "name",
    ["", " anna", "a" * 65, "anna\n", "an/na", "änna", "\x1b[31m", "f00d.boardfront.internal"],
)
def test_names_that_could_mislead_are_refused(authority: Authority, name: str) -> None:
    with pytest.raises(WrongInputError, match="cannot stand in a certificate"):
        authority.issue_client(name)
    assert authority.issued() == ()


def test_revoking_by_name_and_by_serial(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = [authority.issue_client("anna").serial for _ in range(2)]
    ben = authority.issue_client("ben").serial
    board = authority.issue_board(_request(), "f00d", name="anna").serial
    assert authority.revoke(ben) == (ben,)
    assert authority.revoke(ben) == ()
    assert authority.revoke("anna") == tuple(anna)
    assert set(authority.revoked()) == {*anna, ben}
    assert set(Authority.open(authority.folder).revoked()) == {*anna, ben}
    for unknown in ("eve", board, ""):
        with pytest.raises(WrongInputError, match="one of anna, ben"):
            authority.revoke(unknown)
    # What has run out is refused anyhow: boards need not remember it.
    late = now_utc() + timedelta(days=900)
    monkeypatch.setattr(authority_module, "now_utc", lambda: late)
    assert authority.revoked() == ()


def test_several_processes_at_once(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from boardfront.host.fleet.authority import Authority\n"
        "made = Authority.open(Path(sys.argv[1]), create=True)\n"
        "for number in range(5):\n    made.issue_client(f'{sys.argv[2]}-{number}')\n"
        "print(made.certificate_pem.decode())\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), name],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b", "c")
    ]
    said = {process.communicate(timeout=harness.WITHIN_S)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(said) == 1
    names = {one.name for one in Authority.open(tmp_path).issued()}
    assert names == {f"{name}-{number}" for name in "abc" for number in range(5)}


def test_a_hanging_process_is_named(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issued_module, "_LOCK_WITHIN_S", 0.1)
    with (
        issued_module.locked(authority.folder / "authority"),
        pytest.raises(CredentialsError, match="another process has held"),
    ):
        authority.issue_client("anna")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": 2, "certificates": []}'])
def test_a_damaged_list_is_not_overwritten(authority: Authority, content: str) -> None:
    path = authority.folder / "authority" / "issued.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(CredentialsError, match=r"issued\.json"):
        authority.issue_client("anna")
    assert path.read_text() == content


def test_the_list_is_json_that_people_can_read(authority: Authority) -> None:
    authority.issue_client("anna")
    document = json.loads((authority.folder / "authority" / "issued.json").read_text())
    assert document["version"] == 1
    assert document["certificates"][0]["name"] == "anna"


@pytest.mark.parametrize("what", ["half", "key of another", "of another kind"])
def test_a_damaged_authority_signs_nothing(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory, what: str
) -> None:
    path = authority.folder / "authority" / "authority.pem"
    content = path.read_bytes()
    other = Authority.open(tmp_path_factory.mktemp("other"), create=True)
    cut = content.index(b"-----BEGIN CERTIFICATE")
    path.write_bytes(
        {
            "half": content[:-100],
            "key of another": content[:cut] + other.certificate_pem,
            "of another kind": content[cut:],
        }[what]
    )
    with pytest.raises(CredentialsError, match="is damaged"):
        Authority.open(authority.folder)


def test_an_invited_host_is_no_authority(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("annas")
    invite(authority, "anna", place / "file", fleet="")
    join(place / "file", place / "fleet")
    for create in (False, True):
        with pytest.raises(NotTheAuthorityError, match="only the owner's host"):
            Authority.open(place / "fleet", create=create)
