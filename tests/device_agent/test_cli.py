"""The command `boardfront-agent`: what it says and how it ends."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.device_agent import harness
from tests.device_agent.harness import Wire

from boardfront.device_agent import cli
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
def test_serving_beyond_loopback_needs_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    assert cli.main(["serve", "--listen", address, "--state", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "SSH tunnel, or add --insecure" in said.err


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


def test_an_unknown_command_is_refused() -> None:
    done = _agent("dance")
    assert done.returncode == 2
    assert "invalid choice" in done.stderr
