"""Boards are enrolled, renewed and told who is revoked: real agents, real sockets."""

from __future__ import annotations

import io
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import grpc
import psutil
import pytest
from tests.device_agent import harness, secured
from tests.device_agent.harness import (
    AgentProcess,
    is_sampling,
    make_job,
    name_of,
    programme,
    refusal,
    result_of,
)
from tests.device_agent.secured import enrolling
from tests.device_agent.secured import secured as secured_board

from boardfront.host.fleet import enrolment
from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.authority import AlreadyEnrolledError, Authority
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.connection import DeviceUnreachableError
from boardfront.host.fleet.credentials import (
    CredentialsError,
    DeviceCredentials,
    Role,
    read_client,
)
from boardfront.host.fleet.enrolment import enrol, rotate, send_revoked
from boardfront.host.fleet.handshake import shown_certificate
from boardfront.protos import records
from boardfront.protos.enrolment import TokenError, parse_token
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

_SLOW = programme(sleep="on", time_s=0.002)
_SLOW_LOOK = records.Precision(relative_half_width=0.5, min_duration_s=0.8)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "fleet", create=True)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[secured.Board]:
    """A board whose fleet's owner is this process; shared by those that do not break it."""
    place = tmp_path_factory.mktemp("shared")
    authority = Authority.open(place / "fleet", create=True)
    enrolment.renew_own(authority)
    with secured_board(place / "board", authority) as running:
        yield running


def _address(board: secured.Board) -> RemoteAddress:
    return RemoteAddress(
        board.address, DeviceCredentials(board.authority.folder, secured.DEVICE_ID)
    )


def test_from_a_bare_board_to_a_measurement(tmp_path: Path, authority: Authority) -> None:
    state = tmp_path / "board"
    with enrolling(state) as process:
        token = process.token
        enrolled = enrol(process.address, token, authority, "")
        assert enrolled.name == "rock5b"
        assert enrolled.answers
        assert process.line() == "enrolled"
        assert process.line() == f"listening on {process.address}"
        address = RemoteAddress(
            process.address, DeviceCredentials(authority.folder, enrolled.device_id)
        )
        client = AgentClient(address)
        assert client.describe().device_id == enrolled.device_id
        content = programme()
        job = make_job(content)
        result_of(client.run(job, {name_of(content): content}, lambda _: None)["s0"])
        client.acknowledge(job.job_id)
        client.close()
        # Used once, the token is nothing any more.
        with pytest.raises(TokenError, match="used or ran out"):
            enrol(process.address, token, authority, "again", replace=True)
        arguments = " ".join(psutil.Process(process.process.pid).cmdline())
        assert process.end() == 0
        said = process.log()
    secret = parse_token(token).secret
    for text in (said, arguments):
        assert token not in text
        assert secret.hex() not in text
        assert "PRIVATE" not in text
    # After a restart it needs no token, and lets nobody else in.
    with AgentProcess(state, listen=process.address) as restarted:
        client = AgentClient(address)
        assert client.describe().device_id == enrolled.device_id
        client.close()
        with grpc.insecure_channel(restarted.address) as channel:
            code, _ = refusal(lambda: secured.ask(channel))
        assert code is grpc.StatusCode.UNAVAILABLE


def test_enrolled_and_not_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolment, "_SERVES_WITHIN_S", 0.5)
    authority = Authority.open(tmp_path / "fleet", create=True)
    with enrolling(tmp_path / "board", "--exit") as process:
        enrolled = enrol(process.address, process.token, authority, "lab-3")
        assert (enrolled.name, enrolled.answers) == ("lab-3", False)
        assert process.wait() == 0
    assert (tmp_path / "board" / "credentials" / "identity.pem").exists()


def test_a_token_is_good_for_its_own_board_alone(tmp_path: Path, authority: Authority) -> None:
    with enrolling(tmp_path / "a") as asked, enrolling(tmp_path / "b") as named:
        with pytest.raises(TokenError, match="not the one that printed this token"):
            enrol(asked.address, named.token, authority, "")
        # The secret was not given away: the board that answered heard nothing.
        assert enrol(named.address, named.token, authority, "").answers
        with pytest.raises(AlreadyEnrolledError, match="machine-id"):
            enrol(asked.address, asked.token, authority, "")
        # Said on the host alone: the token still lives.
        assert enrol(asked.address, asked.token, authority, "", replace=True).answers


def test_a_wrong_secret_is_refused_by_the_board(tmp_path: Path, authority: Authority) -> None:
    with enrolling(tmp_path / "board") as process:
        right = parse_token(process.token)
        wrong = type(right)(secret=bytes(10), fingerprint=right.fingerprint)
        with pytest.raises(TokenError, match="wrong token, 4 tries are left"):
            enrol(process.address, wrong.text(), authority, "")
        assert enrol(process.address, process.token, authority, "").answers


def test_what_is_no_waiting_board_is_named(fleet: secured.Board, tmp_path: Path) -> None:
    token = parse_token("0" * 40 + _check("0" * 40)).text()
    with pytest.raises(TokenError, match="not the one that printed"):
        enrol(fleet.address, token, fleet.authority, "")
    with (
        harness.serving(tmp_path / "plain") as (_, wire),
        pytest.raises(TokenError, match="does not wait to be enrolled"),
    ):
        enrol(wire.address, token, fleet.authority, "")
    with pytest.raises(DeviceUnreachableError, match="nothing answers"):
        enrol("127.0.0.1:9", token, fleet.authority, "")
    with pytest.raises(TokenError, match="expected the 45"):
        enrol(fleet.address, "hello", fleet.authority, "")


def _check(letters: str) -> str:
    from boardfront.protos import enrolment as tokens

    return tokens._check(letters)


def test_a_certificate_is_renewed_under_a_running_job(fleet: secured.Board) -> None:
    before = shown_certificate(fleet.address, _address(fleet).credentials)
    job = make_job(_SLOW, precision=_SLOW_LOOK)
    renewed: list[enrolment.Enrolled] = []
    seen: list[records.JobEvent] = []
    lost: list[str] = []

    def watch(event: records.JobEvent) -> None:
        seen.append(event)
        if is_sampling(event) and not renewed:
            renewed.append(rotate(_address(fleet), fleet.authority, "rock5b"))

    client = AgentClient(_address(fleet), on_lost=lost.append)
    result_of(client.run(job, {name_of(_SLOW): _SLOW}, watch)["s0"])
    client.acknowledge(job.job_id)
    client.close()
    assert lost == []
    assert [event.index for event in seen] == list(range(len(seen)))
    assert not any(isinstance(event.body, records.Interrupted) for event in seen)
    after = shown_certificate(fleet.address, _address(fleet).credentials)
    assert after != before
    boards = [one for one in fleet.authority.issued() if one.kind == "board"]
    assert boards[-1].serial == renewed[0].serial
    assert boards[-1].name == "rock5b"
    # What was kept on the disk is what a restart will show.
    assert ssl.DER_cert_to_PEM_cert(after).strip().encode() in (
        fleet.credentials.folder / "identity.pem"
    ).read_bytes().replace(b"\r", b"")


def test_a_clients_certificate_is_renewed_under_a_running_program(fleet: secured.Board) -> None:
    client = AgentClient(_address(fleet))
    client.describe()
    old = read_client(fleet.authority.folder)
    new = enrolment.renew_own(fleet.authority)
    assert old is not None
    assert (new.name, new.role) == (old.name, Role.ADMIN)
    assert new.serial != old.serial
    fleet.authority.revoke(old.serial)
    send_revoked(_address(fleet), fleet.authority)
    # The old certificate is refused now, and the program goes on with the new one.
    client.describe()
    client.close()


def test_a_revoked_engineer_is_told_so(fleet: secured.Board, tmp_path: Path) -> None:
    from boardfront.host.fleet.invitation import invite, join

    invite(fleet.authority, "anna", tmp_path / "anna.invitation", fleet="")
    join(tmp_path / "anna.invitation", tmp_path / "annas")
    address = RemoteAddress(
        fleet.address, DeviceCredentials(tmp_path / "annas", secured.DEVICE_ID)
    )
    client = AgentClient(address)
    client.describe()
    assert len(fleet.authority.revoke("anna")) == 1
    send_revoked(_address(fleet), fleet.authority)
    with pytest.raises(BoardfrontError, match=r"anna was revoked.*new invitation"):
        client.describe()
    client.close()
    # And may not speak for the fleet in any case.
    with pytest.raises(WrongInputError, match="only the owner"):
        Authority.open(tmp_path / "annas")


def test_a_board_that_is_enrolled_later_knows_who_is_revoked(
    tmp_path: Path, authority: Authority
) -> None:
    ben = authority.issue_client("ben")
    authority.revoke("ben")
    with enrolling(tmp_path / "board") as process:
        enrol(process.address, process.token, authority, "")
        kept = (tmp_path / "board" / "credentials" / "revoked.json").read_text()
    assert ben.serial in kept


@pytest.mark.parametrize("kind", ["no certificate", "another board", "another fleet"])
def test_a_refusal_names_its_reason(fleet: secured.Board, tmp_path: Path, kind: str) -> None:
    given = {
        "no certificate": None,
        "another board": DeviceCredentials(fleet.authority.folder, "f00d"),
        "another fleet": DeviceCredentials(tmp_path, secured.DEVICE_ID),
    }
    said = {
        "no certificate": "asks for a certificate: enrol it",
        "another board": "is not the board f00d of this fleet",
        "another fleet": "is not the board .* of this fleet",
    }
    enrolment.renew_own(Authority.open(tmp_path, create=True))
    client = AgentClient(RemoteAddress(fleet.address, given[kind]))
    with pytest.raises(DeviceUnreachableError, match=said[kind]):
        client.cancel("no-such-job")
    client.close()


def test_a_stranger_is_told_that_it_is_refused(fleet: secured.Board, tmp_path: Path) -> None:
    """A host that knows the authority, with a certificate that another one signed."""
    from boardfront.host.fleet.credentials import Identity
    from boardfront.protos.private_file import write_private

    stranger = Authority.open(tmp_path / "other", create=True).issue_client("eve").identity
    mixed = Identity(stranger.key_pem, stranger.certificate_pem, fleet.authority.certificate_pem)
    write_private(tmp_path / "eve" / "credentials" / "identity.pem", mixed.to_bytes())
    client = AgentClient(
        RemoteAddress(fleet.address, DeviceCredentials(tmp_path / "eve", secured.DEVICE_ID))
    )
    with pytest.raises(DeviceUnreachableError, match="refuses this host's certificate"):
        client.cancel("no-such-job")
    client.close()


def test_a_host_without_a_certificate_says_where_to_get_one(
    fleet: secured.Board, tmp_path: Path
) -> None:
    address = RemoteAddress(fleet.address, DeviceCredentials(tmp_path, secured.DEVICE_ID))
    client = AgentClient(address)
    with pytest.raises(CredentialsError, match="device join"):
        client.describe()
    client.close()


def test_a_board_that_is_not_enrolled_cannot_be_renewed(authority: Authority) -> None:
    for call in (rotate, send_revoked):
        with pytest.raises(WrongInputError, match="is not enrolled"):
            call(RemoteAddress("127.0.0.1:9"), authority)


def test_a_board_that_is_away_is_told_later(authority: Authority) -> None:
    address = RemoteAddress("127.0.0.1:9", DeviceCredentials(authority.folder, "f00d"))
    with pytest.raises(DeviceUnreachableError, match="does not answer"):
        send_revoked(address, authority)


def test_a_board_that_became_plain_again_is_named(tmp_path: Path, authority: Authority) -> None:
    """Its card was written anew, or somebody else has its address."""
    enrolment.renew_own(authority)
    with harness.serving(tmp_path / "plain") as (_, wire):
        address = RemoteAddress(wire.address, DeviceCredentials(authority.folder, "f00d"))
        client = AgentClient(address)
        with pytest.raises(DeviceUnreachableError, match="speaks without certificates"):
            client.cancel("no-such-job")
        client.close()


def test_a_token_may_come_by_the_standard_input() -> None:
    assert enrolment.read_token("-", io.StringIO("ABC\nDEF\n")) == "ABC\n"
    assert enrolment.read_token("XYZ", io.StringIO("")) == "XYZ"


def test_an_impostor_hears_no_secret(tmp_path: Path, authority: Authority) -> None:
    """Somebody who answers in the board's place gets nothing to replay."""
    from boardfront.device_agent import certificates

    impostor = certificates.temporary("enrolment.boardfront.internal")
    pem = tmp_path / "impostor.pem"
    pem.write_bytes(impostor.key_pem + impostor.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    heard: list[bytes] = []
    with (
        enrolling(tmp_path / "board") as process,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        address = f"127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=_listen_once, args=(server, context, heard))
        thread.start()
        with pytest.raises(TokenError, match="not the one that printed"):
            enrol(address, process.token, authority, "")
        thread.join(timeout=harness.WITHIN_S)
    assert heard == [b""]


def _listen_once(server: socket.socket, context: ssl.SSLContext, heard: list[bytes]) -> None:
    """Shake hands with one client, and keep what it says until it hangs up."""
    connection, _ = server.accept()
    connection.settimeout(harness.WITHIN_S)
    with connection, context.wrap_socket(connection, server_side=True) as wrapped:
        heard.append(wrapped.recv(1 << 16))
