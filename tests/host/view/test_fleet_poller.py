"""Real agents are watched: one that hangs, that is killed, that is held, and this machine's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import AgentProcess, Wire, make_job, programme, until

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.ledger import Ledger
from boardfront.host.view.fleet_poller import FleetPoller, watched
from boardfront.host.view.fleet_view import BoardState, BoardView
from boardfront.protos.records import AcquireLeaseRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    with AgentProcess(tmp_path_factory.mktemp("agent")) as made:
        yield made


def _fleet(path: Path, **addresses: str) -> Path:
    file = path / "fleet.toml"
    file.write_text(
        "".join(f'[device.{name}]\naddress = "{where}"\n' for name, where in addresses.items())
    )
    return file


def _until(poller: FleetPoller, name: str, *states: BoardState) -> BoardView:
    def found() -> BoardView | None:
        board = poller.view().board(name)
        assert board is not None
        return board if board.state in states else None

    board = until(found, within_s=60.0)
    assert board is not None
    return board


def test_each_board_is_told_as_it_is_and_none_waits_for_another(
    tmp_path: Path, agent: AgentProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    fleet = _fleet(tmp_path, good=agent.address, dead="127.0.0.1:1")
    ledger = Ledger(tmp_path / "boards.jsonl")
    lease = AcquireLeaseRequest(lease_id="l" * 32, holder="anna, run x")
    client = AgentClient(RemoteAddress(agent.address))
    with (
        contextlib.closing(client),
        contextlib.closing(Wire(agent.address)) as wire,
        FleetPoller(watched((), fleet), ledger=tmp_path / "boards.jsonl", period_s=0.2) as poller,
    ):
        assert [board.name for board in poller.view().boards] == ["local", "good", "dead"]
        assert "no agent answers" in _until(poller, "dead", BoardState.AWAY).why
        # Looking on starts no agent.
        assert "no agent runs" in _until(poller, "local", BoardState.OFF).why
        assert not (tmp_path / "state").exists()
        _until(poller, "good", BoardState.FREE)

        client.acquire_lease(lease)
        assert _until(poller, "good", BoardState.HELD).holder == "anna, run x"
        client.release_lease(lease.lease_id)
        _until(poller, "good", BoardState.FREE)

        content = programme(fault="hang-compile")
        job = make_job(content)
        wire.submit(job, content)
        busy = _until(poller, "good", BoardState.BUSY)
        assert busy.job is not None
        assert (busy.job.job_id, busy.job.owner, busy.queued) == (job.job_id, "", 1)
        wire.cancel(job.job_id)
        wire.run(make_job(programme()), programme())
        until(lambda: _until(poller, "good", BoardState.FREE).jobs == 1)

        ledger.note("work", "good")
        ledger.note_left_out("good", "it is slow")
        assert _until(poller, "good", BoardState.LEFT_OUT).why == "it is slow"
        # The run's next life begins with all boards.
        Ledger(tmp_path / "boards.jsonl")
        _until(poller, "good", BoardState.FREE)


@pytest.mark.slow
def test_a_board_that_hangs_or_dies_is_away_and_comes_back(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "agent") as mine:
        fleet = _fleet(tmp_path, mine=mine.address)
        with FleetPoller(watched(["mine"], fleet), period_s=0.2) as poller:
            _until(poller, "mine", BoardState.FREE)
            mine.kill()
            gone = _until(poller, "mine", BoardState.AWAY)
            mine.start()
            back = _until(poller, "mine", BoardState.FREE)
            assert gone.since_unix_s is not None
            assert back.since_unix_s is not None
            assert gone.since_unix_s < back.since_unix_s

            os.kill(mine.pid, signal.SIGSTOP)
            assert _until(poller, "mine", BoardState.AWAY).why.startswith("no word for")
            os.kill(mine.pid, signal.SIGCONT)
            _until(poller, "mine", BoardState.FREE)


def test_without_a_terminal_a_change_is_a_line(tmp_path: Path, agent: AgentProcess) -> None:
    fleet = _fleet(tmp_path, good=agent.address)
    command = [sys.executable, "-m", "boardfront.host.cli", "devices", "--watch"]
    command += ["--device", "good", "--fleet", str(fleet), "--json"]
    client = AgentClient(RemoteAddress(agent.address))
    lease = AcquireLeaseRequest(lease_id="m" * 32, holder="anna, run x")
    with (
        contextlib.closing(client),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            first = json.loads(process.stdout.readline())
            assert (first["name"], first["state"], first["holder"]) == ("good", "free", "")
            client.acquire_lease(lease)
            second = json.loads(process.stdout.readline())
            assert (second["state"], second["holder"]) == ("held", "anna, run x")
            assert second["time_unix_s"] > first["time_unix_s"]
        finally:
            client.release_lease(lease.lease_id)
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
