"""The agent that this machine runs for itself: started, shared, replaced, never left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.device_agent import harness
from tests.device_agent.harness import is_gone, is_sampling, make_job, name_of, programme, until

from boardfront.host.fleet import address as address_module
from boardfront.host.fleet.address import LocalAgent
from boardfront.host.fleet.client import AgentClient
from boardfront.protos import records
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalAgent]:
    made = LocalAgent(tmp_path / "state")
    yield made
    made.close()


def _agents(state: Path, parent: int | None = None) -> list[psutil.Process]:
    """The living agents that a process started on a folder."""
    return [
        child
        for child in psutil.Process(parent).children()
        if child.status() != psutil.STATUS_ZOMBIE and f"--state={state}" in child.cmdline()
    ]


def test_it_starts_once_and_stops(local: LocalAgent, tmp_path: Path) -> None:
    address = local.resolve()
    # For this user alone: the socket and each folder above it that is ours.
    path = Path(address.removeprefix("unix:"))
    assert path == tmp_path / "state" / "sockets" / "agent.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert local.resolve() == address
    (agent,) = _agents(tmp_path / "state")
    client = AgentClient(local)
    assert client.describe().backend("fake") is not None
    client.close()
    local.close()
    assert is_gone(agent.pid)
    local.close()


def test_a_job_survives_its_local_agent(local: LocalAgent, tmp_path: Path) -> None:
    content = programme(sleep="on", time_s=0.002)
    precision = records.Precision(relative_half_width=0.5, min_duration_s=0.6)
    job = make_job(content, precision=precision)
    client = AgentClient(local, lost_after_s=20.0)
    seen: list[records.JobEvent] = []
    killed: list[int] = []

    def watch(event: records.JobEvent) -> None:
        seen.append(event)
        if is_sampling(event) and not killed:
            (agent,) = _agents(tmp_path / "state")
            agent.kill()
            killed.append(agent.pid)

    harness.result_of(client.run(job, {name_of(content): content}, watch)["s0"])
    client.close()
    assert [event.index for event in seen] == list(range(len(seen)))
    assert any(isinstance(event.body, records.Interrupted) for event in seen)
    assert [agent.pid for agent in _agents(tmp_path / "state")] != killed


def test_a_second_one_uses_the_first_and_takes_over(local: LocalAgent, tmp_path: Path) -> None:
    address = local.resolve()
    second = LocalAgent(tmp_path / "state")
    assert second.resolve() == address
    assert len(_agents(tmp_path / "state")) == 1
    # Asked again it need not try to start one: that would disturb what is being timed.
    log = (tmp_path / "state" / "agent.log").stat().st_size
    assert second.resolve() == address
    assert (tmp_path / "state" / "agent.log").stat().st_size == log
    second.close()
    assert len(_agents(tmp_path / "state")) == 1
    local.close()
    second.resolve()
    assert len(_agents(tmp_path / "state")) == 1
    second.close()
    assert _agents(tmp_path / "state") == []


def test_what_a_killed_agent_wrote_down_misleads_nobody(local: LocalAgent, tmp_path: Path) -> None:
    first = local.resolve()
    (agent,) = _agents(tmp_path / "state")
    agent.kill()
    until(lambda: is_gone(agent.pid))
    assert (tmp_path / "state" / "address").read_text() == first
    second = LocalAgent(tmp_path / "state")
    client = AgentClient(second)
    client.describe()
    client.close()
    second.close()


def test_a_folder_too_deep_for_a_socket_gets_one_elsewhere(tmp_path: Path) -> None:
    local = LocalAgent(tmp_path / ("deep" * 40))
    path = Path(local.resolve().removeprefix("unix:"))
    assert not path.is_relative_to(tmp_path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    client = AgentClient(local)
    assert client.describe().backend("fake") is not None
    client.close()
    other = LocalAgent(tmp_path / ("deep" * 40))
    assert other.resolve() == local.resolve()
    other.close()
    local.close()
    assert not path.parent.exists()


def test_a_folder_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    local = LocalAgent(tmp_path / "state")
    local.resolve()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    local.close()


def test_it_dies_with_its_owner(tmp_path: Path) -> None:
    state = tmp_path / "state"
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from boardfront.host.fleet.address import LocalAgent\n"
        "agent = LocalAgent(Path(sys.argv[1]))\n"
        "print(agent.resolve(), flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(state)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        address = owner.stdout.readline().strip()
        (agent,) = _agents(state, owner.pid)
        wire = harness.Wire(address)
        content = programme(fault="hang-compile")
        job = make_job(content)
        wire.submit(job, content)
        (worker,) = until(lambda: harness.workers(agent.pid))
        wire.close()
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait(timeout=harness.WITHIN_S)
        for pid in (agent.pid, worker.pid):
            until(lambda pid=pid: is_gone(pid), within_s=10.0)  # type: ignore[misc]


def test_one_that_cannot_start_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address_module, "_START_WITHIN_S", 0.5)
    (tmp_path / "lock").mkdir()
    local = LocalAgent(tmp_path)
    with pytest.raises(BoardfrontError, match=r"did not start.*agent\.log"):
        local.resolve()
    assert "lock" in (tmp_path / "agent.log").read_text()


def test_its_folder_follows_the_users_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert address_module.default_state() == tmp_path / "boardfront" / "local"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert address_module.default_state().is_relative_to(Path.home())
