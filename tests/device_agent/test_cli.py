"""The command `boardfront-agent`: what it says and how it ends."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.device_agent import harness, secured
from tests.device_agent.harness import Wire

from boardfront.device_agent import cli, environment
from boardfront.host.fleet.authority import Authority
from boardfront.protos import records

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


def _agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "boardfront.device_agent.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=harness.WITHIN_S,
        check=False,
    )


def test_describe_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["describe", "--name", "rock5b"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^name +rock5b$", printed, re.MULTILINE)
    assert re.search(r"^fingerprint +[0-9a-f]{16}$", printed, re.MULTILINE)
    assert re.search(r"^backend +fake 1$", printed, re.MULTILINE)
    assert re.search(r"^backend +onnxruntime \d", printed, re.MULTILINE)


def test_describe_for_programs() -> None:
    done = _agent("describe", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["protocol_version"] == records.PROTOCOL_VERSION
    assert found["hardware"]["logical_cores"] >= 1
    assert found["queued_jobs"] == 0
    assert {backend["name"] for backend in found["backends"]} >= {"fake", "onnxruntime"}


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "board.example:50051", ":0"])
def test_serving_beyond_loopback_needs_credentials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    assert cli.main(["serve", "--listen", address, "--state", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert f"`boardfront-agent enroll --listen {address}` gives it some" in said.err


def test_health_has_a_port_of_its_own_with_credentials_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listen = ("--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0")
    assert cli.main(["serve", *listen, "--state", str(tmp_path / "plain")]) == 2
    assert "--health-listen is for agents with credentials" in capsys.readouterr().err
    state = tmp_path / "board"
    state.mkdir()
    authority = Authority.open(tmp_path / "fleet", create=True)
    secured.give_credentials(state, authority, environment.read_device_id(state))
    with harness.AgentProcess(state, options=("--health-listen", "127.0.0.1:0")) as agent:
        address = agent.line().removeprefix("health on ")
        with secured.connected(
            address, authority.certificate_pem, device_id=environment.read_device_id(state)
        ) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=harness.WITHIN_S)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        assert agent.terminate() == 0


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = _agent("serve", "--listen", address, "--state", str(tmp_path))
    assert done.returncode == 2
    ours = [line for line in done.stderr.splitlines() if line.startswith("boardfront-agent:")]
    assert len(ours) == 1
    assert f"cannot listen on {address}" in ours[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "address").exists()


def test_an_agent_with_its_owners_input_ends_when_the_owner_does(tmp_path: Path) -> None:
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "boardfront.device_agent.cli", "serve", "--exit-with-stdin"),
            *("--listen", "127.0.0.1:0", "--state", str(tmp_path), "--name", "bench"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        address = process.stdout.readline().split()[-1]
        assert (tmp_path / "address").read_text() == address
        wire = Wire(address)
        assert wire.describe().name == "bench"
        wire.close()
        process.stdin.close()
        assert process.wait(timeout=harness.WITHIN_S) == 0
    assert not (tmp_path / "address").exists()


def test_a_signal_ends_it_whichever_thread_it_falls_on() -> None:
    # Python's own handlers would wait for the main thread, which sleeps here.
    script = (
        "import signal, threading, time\n"
        "from boardfront.device_agent import cli\n"
        "stop = cli._stop_at_signals()\n"
        "def knock():\n"
        "    time.sleep(0.3)\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n"
        "threading.Thread(target=knock).start()\n"
        "print(stop.wait(10.0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=harness.WITHIN_S,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


def test_an_unknown_command_is_refused() -> None:
    done = _agent("dance")
    assert done.returncode == 2
    assert "invalid choice" in done.stderr
