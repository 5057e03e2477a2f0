"""An enrolled board lets in whom its fleet's authority knows, and nobody else."""

from __future__ import annotations

import functools
import socket
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.device_agent import harness, secured
from tests.device_agent.harness import make_job, programme, refusal
from tests.device_agent.secured import Board, agent_stub, ask, connected

from boardfront.device_agent import certificates
from boardfront.device_agent import server as server_module
from boardfront.device_agent.credentials import Credentials
from boardfront.device_agent.security import is_local
from boardfront.device_agent.server import start_health_server
from boardfront.host.fleet import authority as authority_module
from boardfront.host.fleet.authority import Authority
from boardfront.host.fleet.credentials import Identity, Role
from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.enrolment import server_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

_METHODS = tuple(agent_pb2.DESCRIPTOR.services_by_name["Agent"].methods)
_STREAMS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("fleet"), create=True)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Board]:
    with secured.secured(tmp_path_factory.mktemp("board"), authority) as running:
        yield running


@pytest.fixture(scope="module")
def admin(authority: Authority) -> Identity:
    return authority.issue_client("owner", role=Role.ADMIN).identity


@pytest.fixture
def admins(board: Board, admin: Identity) -> Iterator[Any]:
    """The methods, called with an administrator's certificate."""
    with connected(board.address, board.authority.certificate_pem, admin) as channel:
        yield agent_stub(channel)


def _try_every_method(channel: Any) -> dict[str, grpc.StatusCode]:
    """Call every method that there is with an empty request; return how each was refused."""
    found = {}
    for method in _METHODS:
        kind = _STREAMS[method.client_streaming, method.server_streaming]
        call = getattr(channel, kind)(f"/boardfront.v1.Agent/{method.name}")
        request: Any = iter([b""]) if method.client_streaming else b""
        found[method.name], _ = refusal(functools.partial(_whole, call, request))
    for path in (
        "/grpc.health.v1.Health/Check",
        "/boardfront.v1.Enrolment/BeginEnrolment",
    ):
        found[path], _ = refusal(functools.partial(_whole, channel.unary_unary(path), b""))
    reflection = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    found["reflection"], _ = refusal(functools.partial(_whole, reflection, iter([b""])))
    return found


def _whole(call: Any, request: object) -> object:
    """Make a call and take all that comes."""
    answer: Any = call(request, timeout=harness.WITHIN_S)
    return list(answer) if hasattr(answer, "initial_metadata") else answer


def _is_there(board: Board, identity: Identity) -> None:
    """Somebody with the right certificate is served: the others were refused for theirs."""
    with connected(board.address, board.authority.certificate_pem, identity) as channel:
        ask(channel)


def _self_signed(name: str) -> Identity:
    made = certificates.temporary(name)
    return Identity(made.key_pem, made.certificate_pem, made.certificate_pem)


def test_nobody_without_a_certificate_reaches_any_method(board: Board, admin: Identity) -> None:
    with connected(board.address, board.authority.certificate_pem) as channel:
        found = _try_every_method(channel)
    assert set(found.values()) == {grpc.StatusCode.UNAVAILABLE}, found
    assert {"Describe", "Submit", "UploadArtifact", "Watch", "SetRevoked"} <= set(found)
    _is_there(board, admin)


def test_nobody_without_tls_reaches_any_method(board: Board, admin: Identity) -> None:
    with grpc.insecure_channel(board.address) as channel:
        found = _try_every_method(channel)
    assert set(found.values()) == {grpc.StatusCode.UNAVAILABLE}, found
    _is_there(board, admin)


def test_another_authoritys_client_reaches_no_method(
    board: Board, admin: Identity, tmp_path: Path
) -> None:
    other = Authority.open(tmp_path, create=True)
    # Same name, same role: only the signature differs.
    stranger = other.issue_client("owner", role=Role.ADMIN).identity
    with connected(board.address, board.authority.certificate_pem, stranger) as channel:
        found = _try_every_method(channel)
    assert set(found.values()) == {grpc.StatusCode.UNAVAILABLE}, found
    _is_there(board, admin)


@pytest.mark.parametrize("kind", ["self-signed", "a board's own"])
def test_other_certificates_are_no_clients(board: Board, kind: str) -> None:
    identity = _self_signed("owner")
    if kind == "a board's own":
        key_pem = certificates.new_key()
        request = certificates.request(key_pem, server_name("f00d"))
        issued = board.authority.issue_board(request, "f00d", replace=True)
        identity = Identity(key_pem, issued.certificate_pem, b"")
    with connected(board.address, board.authority.certificate_pem, identity) as channel:
        code, _ = refusal(lambda: ask(channel))
    assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)


def test_a_client_is_no_board(board: Board, admin: Identity) -> None:
    """A certificate that was given to a person cannot be served with."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    served = grpc.ssl_server_credentials([(admin.key_pem, admin.certificate_pem)])
    port = server.add_secure_port("127.0.0.1:0", served)
    server.start()
    with connected(f"127.0.0.1:{port}", board.authority.certificate_pem, admin) as channel:
        code, _ = refusal(lambda: ask(channel))
    server.stop(grace=None).wait()
    assert code is grpc.StatusCode.UNAVAILABLE


def test_one_board_cannot_pose_as_another(board: Board, admin: Identity) -> None:
    pem = board.authority.certificate_pem
    with connected(board.address, pem, admin, device_id="fedcba9876543210") as channel:
        code, _ = refusal(lambda: ask(channel))
    assert code is grpc.StatusCode.UNAVAILABLE
    with connected(board.address, pem, admin) as channel:
        ask(channel)


def test_a_user_measures_and_an_administrator_administrates(board: Board, admins: Any) -> None:
    user = board.authority.issue_client("anna").identity
    with connected(board.address, board.authority.certificate_pem, user) as channel:
        stub = agent_stub(channel)
        lease = records.AcquireLeaseRequest(lease_id="anna-1", holder="run spos-3")
        reply = stub.AcquireLease(codec.to_message(lease), timeout=harness.WITHIN_S)
        assert reply.status.holder.name == "anna: run spos-3"
        stub.ReleaseLease(
            agent_pb2.ReleaseLeaseRequest(lease_id="anna-1"), timeout=harness.WITHIN_S
        )
        for call, request in (
            (stub.RequestCertificate, agent_pb2.RequestCertificateRequest()),
            (stub.InstallCertificate, agent_pb2.InstallCertificateRequest()),
            (stub.SetRevoked, agent_pb2.SetRevokedRequest()),
        ):
            code, text = refusal(functools.partial(_whole, call, request))
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert "anna is not an administrator" in text
    reply = admins.RequestCertificate(
        agent_pb2.RequestCertificateRequest(), timeout=harness.WITHIN_S
    )
    assert b"PRIVATE" not in reply.request_pem


def test_an_agent_without_credentials_has_none_to_change(tmp_path: Path) -> None:
    with harness.serving(tmp_path / "plain") as (_, wire):
        for call, request in (
            (wire.stub.RequestCertificate, agent_pb2.RequestCertificateRequest()),
            (wire.stub.InstallCertificate, agent_pb2.InstallCertificateRequest()),
            (wire.stub.SetRevoked, agent_pb2.SetRevokedRequest()),
        ):
            code, text = refusal(functools.partial(_whole, call, request))
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert "boardfront-agent enroll" in text
    assert not (tmp_path / "plain" / "credentials").exists()


def _revoke(admins: Any, *serials: str) -> None:
    admins.SetRevoked(agent_pb2.SetRevokedRequest(serials=serials), timeout=harness.WITHIN_S)


def test_a_revoked_client_is_out_at_once(board: Board, admins: Any) -> None:
    anna = board.authority.issue_client("anna")
    ben = board.authority.issue_client("ben")
    pem = board.authority.certificate_pem
    with (
        connected(board.address, pem, anna.identity) as annas,
        connected(board.address, pem, ben.identity) as bens,
    ):
        streams: list[Any] = [
            agent_stub(channel).WatchTelemetry(agent_pb2.WatchTelemetryRequest(period_s=0.2))
            for channel in (annas, bens)
        ]
        for stream in streams:
            next(stream)
        _revoke(admins, anna.serial)
        # On the connection that was open before, and on the stream that ran.
        code, text = refusal(lambda: ask(annas))
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert "of anna was revoked" in text
        assert anna.serial in text
        code, _ = refusal(lambda: list(streams[0]))
        assert code is grpc.StatusCode.CANCELLED
        ask(bens)
        next(streams[1])
        streams[1].cancel()
    with connected(board.address, pem, anna.identity) as again:
        found = _try_every_method(again)
    # Every method there is refuses for that reason; what there is not, is unknown to all.
    assert found.pop("/boardfront.v1.Enrolment/BeginEnrolment") is grpc.StatusCode.UNIMPLEMENTED
    assert set(found.values()) == {grpc.StatusCode.UNAUTHENTICATED}, found
    _revoke(admins)
    with connected(board.address, pem, anna.identity) as forgiven:
        ask(forgiven)


def test_a_revocation_outlives_the_agent(tmp_path: Path, authority: Authority) -> None:
    state = tmp_path / "board"
    anna = authority.issue_client("anna")
    owner = authority.issue_client("owner", role=Role.ADMIN)
    with (
        secured.secured(state, authority) as running,
        connected(running.address, authority.certificate_pem, owner.identity) as channel,
    ):
        _revoke(agent_stub(channel), anna.serial)
    loaded = Credentials.load(state, secured.DEVICE_ID)
    assert loaded is not None
    assert loaded.revoked == {anna.serial}


@pytest.mark.parametrize("serials", [["xyz"], ["A1"], [""], ["1" * 41]])
def test_serials_that_are_none_change_nothing(
    board: Board, admins: Any, serials: list[str]
) -> None:
    _revoke(admins, "abc")
    code, _ = refusal(lambda: _revoke(admins, *serials))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert board.credentials.revoked == {"abc"}
    _revoke(admins)


def test_nobody_locks_himself_out(board: Board, admin: Identity, admins: Any) -> None:
    code, text = refusal(lambda: _revoke(admins, admin.info().serial))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "your own certificate" in text
    assert board.credentials.revoked == frozenset()


def test_a_certificate_that_runs_out_ends_open_connections(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    backdated: timedelta = authority_module._BACKDATED
    second = backdated / 86400
    monkeypatch.setattr(authority_module, "LEAF_FOR", backdated + 2 * second)
    brief = board.authority.issue_client("brief")
    with connected(board.address, board.authority.certificate_pem, brief.identity) as channel:
        ask(channel)
        time.sleep(max(0.0, brief.not_after.timestamp() - time.time()) + 0.1)
        code, text = refusal(lambda: ask(channel))
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "has run out" in text
    with connected(board.address, board.authority.certificate_pem, brief.identity) as channel:
        code, _ = refusal(lambda: ask(channel))
    assert code is grpc.StatusCode.UNAVAILABLE


def _install(admins: Any, certificate_pem: bytes, authority_pem: bytes = b"") -> None:
    admins.InstallCertificate(
        agent_pb2.InstallCertificateRequest(
            certificate_pem=certificate_pem, authority_pem=authority_pem
        ),
        timeout=harness.WITHIN_S,
    )


def _request(admins: Any) -> bytes:
    reply = admins.RequestCertificate(
        agent_pb2.RequestCertificateRequest(), timeout=harness.WITHIN_S
    )
    content: bytes = reply.request_pem
    return content


def test_a_board_takes_its_own_certificate_only(board: Board, admins: Any, tmp_path: Path) -> None:
    stored = (board.credentials.folder / "identity.pem").read_bytes()
    authority, device_id = board.authority, secured.DEVICE_ID
    other = Authority.open(tmp_path, create=True)
    request = _request(admins)
    of_another_key = authority.issue_board(
        certificates.request(certificates.new_key(), server_name(device_id)),
        device_id,
        replace=True,
    )
    ours = authority.issue_board(request, device_id, replace=True)
    wrong = {
        "": "expected one certificate in PEM, got 0",
        "junk": "expected one certificate in PEM, got 0",
        "two": "got 2",
        "another key": "of another key",
        "another board": "another board's",
        "another authority": "cannot be used",
        "a person": "cannot be used|not one for a board|of another key",
    }
    given = {
        "": b"",
        "junk": b"\x00" * 5000,
        "two": ours.certificate_pem * 2,
        "another key": of_another_key.certificate_pem,
        "another board": authority.issue_board(request, "f00d", replace=True).certificate_pem,
        "another authority": other.issue_board(request, device_id).certificate_pem,
        "a person": authority.issue_client("eve").certificate_pem,
    }
    for what, content in given.items():
        code, text = refusal(functools.partial(_install, admins, content))
        assert code is grpc.StatusCode.INVALID_ARGUMENT, what
        assert any(part in text for part in wrong[what].split("|")), (what, text)
    code, text = refusal(lambda: _install(admins, ours.certificate_pem, other.certificate_pem))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "another authority" in text
    assert (board.credentials.folder / "identity.pem").read_bytes() == stored
    _install(admins, ours.certificate_pem, authority.certificate_pem)
    code, text = refusal(lambda: _install(admins, ours.certificate_pem))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "no certificate was requested" in text


def test_monitors_without_a_certificate_have_a_port_of_health_alone(board: Board) -> None:
    server, port = start_health_server(board.credentials, "127.0.0.1:0")
    pem = board.authority.certificate_pem
    with connected(f"127.0.0.1:{port}", pem) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=harness.WITHIN_S)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        found = _try_every_method_but_health(channel)
    assert set(found) == {grpc.StatusCode.UNIMPLEMENTED}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        plain: Any = health_pb2_grpc.HealthStub(channel)
        code, _ = refusal(
            lambda: plain.Check(health_pb2.HealthCheckRequest(), timeout=harness.WITHIN_S)
        )
    assert code is grpc.StatusCode.UNAVAILABLE
    server.stop(grace=None).wait()


def _try_every_method_but_health(channel: Any) -> list[grpc.StatusCode]:
    found = []
    for method in _METHODS:
        call = channel.unary_unary(f"/boardfront.v1.Agent/{method.name}")
        found.append(refusal(functools.partial(_whole, call, b""))[0])
    reflection = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    found.append(refusal(functools.partial(_whole, reflection, iter([b""])))[0])
    return found


def test_certified_clients_have_reflection_and_health(board: Board, admin: Identity) -> None:
    with connected(board.address, board.authority.certificate_pem, admin) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=harness.WITHIN_S)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        stock: Any = channel
        reflection = stock.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        )
        (answer,) = list(reflection(iter([b""]), timeout=harness.WITHIN_S))
    assert answer


def test_a_whole_measurement_over_certificates(board: Board) -> None:
    user = board.authority.issue_client("anna").identity
    content = programme()
    job = make_job(content)
    with connected(board.address, board.authority.certificate_pem, user) as channel:
        wire = harness.Wire.__new__(harness.Wire)
        wire.address, wire.channel, wire.stub = board.address, channel, agent_stub(channel)
        harness.result_of(harness.answers(wire.run(job, content))["s0"])
        wire.acknowledge(job.job_id)


@pytest.mark.parametrize(
    ("listen", "local"),
    [
        ("127.0.0.1:50051", True),
        ("127.3.2.1:0", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("unix:/run/agent.sock", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        (":1", False),
        ("192.168.1.20:1", False),
        ("127.0.0.1.example.org:1", False),
        ("127.example.org:1", False),
        ("localhost.example.org:1", False),
    ],
)
def test_what_counts_as_this_machine_alone(listen: str, *, local: bool) -> None:
    assert is_local(listen) is local


def test_who_connects_and_says_nothing_is_cut_off(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_HANDSHAKE_WITHIN_MS", 300)
    with secured.secured(tmp_path / "board", authority) as running:
        host, _, port = running.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=harness.WITHIN_S) as silent:
            assert silent.recv(1) == b""
