"""Several hosts that want one board, and hosts and networks that fail while they hold it."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.device_agent.harness import name_of, until
from tests.faults.host_run import run_at
from tests.faults.hosts import HostProcess, HostThread
from tests.faults.link import Link
from tests.faults.site import Site, request

from boardfront.latency_models.store import MeasurementStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.host_run import HostRun

pytestmark = pytest.mark.timeout(60)

_LEASE_S = 2.0
_COUNT = 2


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as running:
        yield running


def _run(site: Site, folder: Path, first: int, **arguments: Any) -> HostRun:
    """Return a host's run over `_COUNT` networks from number `first` on, in its own store."""
    store = folder / f"store-{first}.db"
    return run_at(site, store, first=first, count=_COUNT, lease_s=_LEASE_S, **arguments)


def _assert_whole(site: Site, folder: Path, *, firsts: tuple[int, ...], begun: int = 1) -> None:
    """Every host has each of its times once, and the agent answered each once."""
    asked = [number for first in firsts for number in range(first, first + _COUNT)]
    device_id = site.client.describe().device_id
    for first in firsts:
        with MeasurementStore(folder / f"store-{first}.db") as store:
            found = [int(one.key.structure_hash) for one in store.recent(device_id=device_id)]
        assert sorted(found) == list(range(first, first + _COUNT))
    artifacts = {name_of(request(number).model) for number in asked}
    assert site.book.answered() == dict.fromkeys(artifacts, 1)
    assert set(site.book.begun()) == artifacts
    assert max(site.book.begun().values()) <= begun
    assert list((site.agent_folder / "jobs").glob("*/job.json")) == []


def _runs(folder: Path) -> list[tuple[float, float]]:
    """Return when each job began and ended on the agent's clock, in this order."""
    runs = []
    for path in (folder / "book").glob("*.jsonl"):
        events = [json.loads(line) for line in path.read_text().splitlines()]
        working = [event["timeUnixS"] for event in events if "working" in event]
        runs.append((min(working), events[-1]["timeUnixS"]))
    return sorted(runs)


def _assert_in_turn(folder: Path) -> None:
    runs = _runs(folder)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(runs))


def test_two_hosts_that_want_one_board_take_turns(site: Site, tmp_path: Path) -> None:
    with HostThread(_run(site, tmp_path, 0), step=True) as one:
        assert one.read_line() == "stored 0 as 1"
        with HostThread(_run(site, tmp_path, 100)) as other:
            line = other.read_line()
            assert line.startswith("waiting for board: held by ")
            assert line.endswith(", run 0, position 1")
            one.go_on()
            one.wait()
            assert other.read_line() == "board is free: going on"
            other.wait()
    _assert_whole(site, tmp_path, firsts=(0, 100))
    _assert_in_turn(tmp_path)


@pytest.mark.slow
def test_a_host_that_dies_holding_the_board_frees_it(site: Site, tmp_path: Path) -> None:
    with HostProcess(_run(site, tmp_path, 0, look_s=0.6)) as one:
        assert one.read_line() == "stored 0 as 1"
        until(lambda: list((site.agent_folder / "jobs").glob("*/job.json")))
        one.kill()
    with HostThread(_run(site, tmp_path, 100)) as other:
        other.wait()
    with HostThread(_run(site, tmp_path, 0, look_s=0.6)) as again:
        again.wait()
    _assert_whole(site, tmp_path, firsts=(0, 100), begun=2)


@pytest.mark.slow
def test_a_cable_pulled_longer_than_a_lease_while_another_waits(
    site: Site, tmp_path: Path
) -> None:
    with (
        Link(site.agent.address) as link,
        HostThread(_run(site, tmp_path, 0, address=link.address, look_s=1.5), step=True) as one,
    ):
        assert one.read_line() == "stored 0 as 1"
        with HostThread(_run(site, tmp_path, 100)) as other:
            assert other.read_line().startswith("waiting for board")
            one.go_on()
            until(lambda: list((site.agent_folder / "jobs").glob("*/job.json")))
            link.refuse(yes=True)
            assert other.read_line() == "board is free: going on"
            link.heal()
            other.wait()
            one.wait()
    _assert_whole(site, tmp_path, firsts=(0, 100), begun=2)


@pytest.mark.slow
def test_an_agent_that_dies_keeps_the_board_for_its_holder(site: Site, tmp_path: Path) -> None:
    with HostThread(_run(site, tmp_path, 0), step=True) as one:
        assert one.read_line() == "stored 0 as 1"
        site.agent.kill()
        site.agent.start()
        with HostThread(_run(site, tmp_path, 100)) as other:
            line = other.read_line()
            assert line.startswith("waiting for board: held by ")
            assert ", run 0, " in line
            one.go_on()
            one.wait()
            other.wait()
    _assert_whole(site, tmp_path, firsts=(0, 100))
    _assert_in_turn(tmp_path)
