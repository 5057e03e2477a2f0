"""A board that waits to be enrolled: who may give it a certificate, how often, and until when."""

from __future__ import annotations

import contextlib
import stat
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.device_agent import harness, secured
from tests.device_agent.harness import refusal, until

from boardfront.device_agent import certificates, cli, enrolment
from boardfront.device_agent.credentials import Credentials, CredentialsError, Identity
from boardfront.device_agent.enrolment import NotEnrolledError, Waiting
from boardfront.host.fleet.authority import Authority
from boardfront.protos import agent_pb2, agent_pb2_grpc
from boardfront.protos.enrolment import MAX_TRIES, TEMPORARY_NAME, server_name
from boardfront.protos.errors import WrongInputError
from boardfront.protos.private_file import PrivateFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

_ID = secured.DEVICE_ID
_DEAD = (
    grpc.StatusCode.PERMISSION_DENIED,
    # The door was shut before, or while, it was asked.
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
)


class _Waiter:
    """A board that waits, in a thread of this process."""

    def __init__(self, state: Path, within_s: float) -> None:
        self.state = state
        self.stop = threading.Event()
        self.error: Exception | None = None
        self._told: list[Waiting] = []
        self._thread = threading.Thread(target=self._run, args=(within_s,))
        self._thread.start()
        until(lambda: bool(self._told) or not self._thread.is_alive())
        self.waiting = self._told[0]

    def join(self) -> Exception | None:
        """Return how it ended."""
        self._thread.join(timeout=harness.WITHIN_S)
        assert not self._thread.is_alive()
        return self.error

    def _run(self, within_s: float) -> None:
        try:
            enrolment.enrol(
                self.state,
                "127.0.0.1:0",
                device=(_ID, "rock5b"),
                within_s=within_s,
                tell=self._told.append,
                stop=self.stop,
            )
        except Exception as error:  # noqa: BLE001 - handed to the test
            self.error = error


@contextlib.contextmanager
def _waiting(state: Path, within_s: float = 30.0) -> Iterator[tuple[_Waiter, Any]]:
    """A board that waits, and its methods over a connection that is not pinned to its token."""
    board = _Waiter(state, within_s)
    pem = _shown(board.waiting.address)
    try:
        with grpc.secure_channel(
            board.waiting.address,
            grpc.ssl_channel_credentials(pem),
            options=[("grpc.ssl_target_name_override", TEMPORARY_NAME)],
        ) as channel:
            yield board, agent_pb2_grpc.EnrolmentStub(channel)
    finally:
        board.stop.set()
        board.join()


def _shown(address: str) -> bytes:
    import ssl

    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port))).encode()


def _begin(stub: Any, secret: bytes) -> Any:
    return stub.BeginEnrolment(
        agent_pb2.BeginEnrolmentRequest(secret=secret), timeout=harness.WITHIN_S
    )


def _finish(stub: Any, secret: bytes, certificate_pem: bytes, authority: Authority) -> None:
    stub.FinishEnrolment(
        agent_pb2.FinishEnrolmentRequest(
            secret=secret,
            certificate_pem=certificate_pem,
            authority_pem=authority.certificate_pem,
        ),
        timeout=harness.WITHIN_S,
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "fleet", create=True)


def test_the_secret_buys_one_certificate(tmp_path: Path, authority: Authority) -> None:
    with _waiting(tmp_path / "board") as (board, stub):
        secret = board.waiting.token.secret
        begun = _begin(stub, secret)
        assert (begun.device_id, begun.name) == (_ID, "rock5b")
        assert b"PRIVATE" not in begun.request_pem
        # Asked again after a lost reply it is the same request.
        assert _begin(stub, secret).device_id == _ID
        issued = authority.issue_board(begun.request_pem, _ID)
        _finish(stub, secret, issued.certificate_pem, authority)
        code, _ = refusal(lambda: _finish(stub, secret, issued.certificate_pem, authority))
        assert code in _DEAD
        assert board.join() is None
    loaded = Credentials.load(tmp_path / "board", _ID)
    assert loaded is not None
    assert loaded.dates().end_s == issued.not_after.timestamp()


def test_what_lies_on_the_disk_is_the_owners_alone(tmp_path: Path, authority: Authority) -> None:
    state = tmp_path / "board"
    secured.give_credentials(state, authority, _ID)
    folder = state / "credentials"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"identity.pem": 0o600, "revoked.json": 0o600}


def test_five_wrong_secrets_kill_the_token(tmp_path: Path) -> None:
    with _waiting(tmp_path / "board") as (board, stub):
        secret = board.waiting.token.secret
        _begin(stub, secret)
        for left in range(MAX_TRIES - 1, -1, -1):
            code, text = refusal(lambda: _begin(stub, b"\x00" * len(secret)))
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert f"{left} tries are left" in text
        code, _ = refusal(lambda: _begin(stub, secret))
        assert code in _DEAD
        error = board.join()
    assert isinstance(error, NotEnrolledError)
    assert "wrong tokens" in str(error)
    assert not (tmp_path / "board" / "credentials").exists()


def test_the_time_kills_the_token(tmp_path: Path) -> None:
    with _waiting(tmp_path / "board", within_s=0.7) as (board, stub):
        _begin(stub, board.waiting.token.secret)
        error = board.join()
        assert isinstance(error, NotEnrolledError)
        assert "in time" in str(error)
        code, _ = refusal(lambda: _begin(stub, board.waiting.token.secret))
        assert code is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_that_does_not_fit_leaves_the_token_alive(
    tmp_path: Path, authority: Authority
) -> None:
    with _waiting(tmp_path / "board") as (board, stub):
        secret = board.waiting.token.secret
        request = _begin(stub, secret).request_pem
        anothers = authority.issue_board(request, "f00d").certificate_pem
        person = authority.issue_client("eve").certificate_pem
        for wrong in (b"", b"junk", anothers, person):
            code, _ = refusal(lambda wrong=wrong: _finish(stub, secret, wrong, authority))  # type: ignore[misc]
            assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert not (tmp_path / "board" / "credentials").exists()
        good = authority.issue_board(request, _ID)
        _finish(stub, secret, good.certificate_pem, authority)
        assert board.join() is None


def test_a_board_that_waits_does_nothing_else(tmp_path: Path) -> None:
    with (
        _waiting(tmp_path / "board") as (board, _),
        grpc.insecure_channel(board.waiting.address) as plain,
    ):
        code, _ = refusal(
            lambda: secured.agent_stub(plain).Describe(
                agent_pb2.DescribeRequest(), timeout=harness.WITHIN_S
            )
        )
    assert code is grpc.StatusCode.UNAVAILABLE


def test_a_token_shows_its_secret_to_nobody(tmp_path: Path) -> None:
    with _waiting(tmp_path / "board") as (board, _):
        secret = board.waiting.token.secret
        assert repr(secret) not in repr(board.waiting)
        assert secret.hex() not in repr(board.waiting)


def test_two_fleets_one_after_the_other(tmp_path: Path, authority: Authority) -> None:
    state = tmp_path / "board"
    first = secured.give_credentials(state, authority, _ID)
    first.set_revoked(["abc"])
    other = Authority.open(tmp_path / "other", create=True)
    secured.give_credentials(state, other, _ID)
    loaded = Credentials.load(state, _ID)
    assert loaded is not None
    # Who was refused in the old fleet says nothing about the new one.
    assert loaded.revoked == frozenset()


def _damage(folder: Path, what: str) -> None:
    identity, revoked = folder / "identity.pem", folder / "revoked.json"
    if what == "others may read":
        identity.chmod(0o640)
    elif what == "half a file":
        identity.write_bytes(identity.read_bytes()[:300])
    elif what == "no list":
        revoked.unlink()
    else:
        revoked.write_text("{")


@pytest.mark.parametrize("what", ["others may read", "half a file", "no list", "half a list"])
def test_damaged_credentials_stop_the_agent(
    tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    state = tmp_path / "board"
    device_id = enrolment_id(state)
    secured.give_credentials(state, authority, device_id)
    _damage(state / "credentials", what)
    with pytest.raises((CredentialsError, PrivateFileError)):
        Credentials.load(state, device_id)
    # Nothing is served then, on loopback neither: an enrolled board does not fall back to plain.
    assert cli.main(["serve", "--listen", "127.0.0.1:0", "--state", str(state)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "BEGIN" not in said.err
    assert ("boardfront-agent enroll" in said.err) or ("chmod 600" in said.err)


def enrolment_id(state: Path) -> str:
    """Return the identity that an agent on this folder has."""
    from boardfront.device_agent import environment

    state.mkdir(parents=True, exist_ok=True)
    return environment.read_device_id(state)


def test_anothers_credentials_stop_the_agent(tmp_path: Path, authority: Authority) -> None:
    secured.give_credentials(tmp_path / "board", authority, "f00d")
    with pytest.raises(CredentialsError, match="another board's"):
        Credentials.load(tmp_path / "board", _ID)


@pytest.mark.parametrize(
    ("now_s", "said"), [(86400.0, "1970-01-02 00:00 UTC, before"), (4e9, "2096-10-02 .*, after")]
)
def test_a_clock_that_is_wrong_is_named(
    tmp_path: Path, authority: Authority, now_s: float, said: str
) -> None:
    key_pem = certificates.new_key()
    request = certificates.request(key_pem, server_name(_ID))
    issued = authority.issue_board(request, _ID)
    identity = Identity(key_pem, issued.certificate_pem, authority.certificate_pem)
    with pytest.raises(WrongInputError, match=f"clock says {said}"):
        Credentials.install_first(tmp_path / "board", _ID, identity, now_s=now_s)
    assert not (tmp_path / "board" / "credentials").exists()


def test_a_certificate_that_ends_soon_is_told(tmp_path: Path, authority: Authority) -> None:
    credentials = secured.give_credentials(tmp_path / "board", authority, _ID)
    end_s = credentials.dates().end_s
    assert credentials.warnings(end_s - 100 * 86400.0) == ()
    (line,) = credentials.warnings(end_s - 30 * 86400.0)
    assert "30 days" in line
    (line,) = credentials.warnings(end_s + 1.0)
    assert "after its certificate ends" in line


def test_a_taken_address_is_one_line(tmp_path: Path) -> None:
    with (
        _waiting(tmp_path / "board") as (board, _),
        pytest.raises(WrongInputError, match="cannot listen on"),
    ):
        enrolment.enrol(
            tmp_path / "other",
            board.waiting.address,
            device=("f00d", "second"),
            within_s=1.0,
            tell=lambda _: None,
            stop=threading.Event(),
        )


def test_the_address_to_type_is_one_that_others_reach() -> None:
    assert enrolment.address_for_people("192.168.1.20:50051") == "192.168.1.20:50051"
    for everywhere in ("0.0.0.0:50051", "[::]:50051"):
        host, _, port = enrolment.address_for_people(everywhere).rpartition(":")
        assert port == "50051"
        assert host not in ("", "0.0.0.0", "[::]")  # noqa: S104 - what must not be printed


@pytest.mark.parametrize(
    "arguments", [["--wait", "0"], ["--wait", "-1"], ["--wait", "nan"], ["--wait", "inf"]]
)
def test_a_time_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code = cli.main(["enroll", "--listen", "127.0.0.1:0", "--state", str(tmp_path), *arguments])
    assert code == 2
    assert "--wait" in capsys.readouterr().err


def test_names_follow_from_identities() -> None:
    assert server_name(_ID) == f"{_ID}.boardfront.internal"


def test_nobody_came(tmp_path: Path) -> None:
    with secured.enrolling(tmp_path / "board", "--wait", "0.01") as process:
        assert process.wait() == 1
        lines = [line for line in process.log().splitlines() if "boardfront-agent:" in line]
    assert len(lines) == 1
    assert "in time" in lines[0]
    assert process.token not in process.log()
