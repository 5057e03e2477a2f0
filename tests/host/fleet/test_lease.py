"""Two runs, one board: who waits, who holds, and what a lost lease costs; over real sockets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.device_agent import harness
from tests.device_agent.harness import (
    AgentProcess,
    is_sampling,
    make_job,
    name_of,
    programme,
    result_of,
    until,
)
from tests.host.fleet.proxy import Proxy

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.connection import DeviceUnreachableError
from boardfront.host.fleet.lease import LeaseKeeper, lease_request, leased_client
from boardfront.protos import records
from boardfront.protos.errors import LeaseLostError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

_SHORT_S = 1.2
_SLOW = programme(sleep="on", time_s=0.002)
_LOOK = records.Precision(relative_half_width=0.5, min_duration_s=0.5)
_LONG_LOOK = records.Precision(relative_half_width=0.5, min_duration_s=3 * _SHORT_S)
"""Not over before the lease is."""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """An agent that a module's tests share; each gives back what it took."""
    with AgentProcess(tmp_path_factory.mktemp("board")) as running:
        yield running


def _keeper(
    address: str, who: str = "anna", *, said: list[str] | None = None, **terms: float
) -> LeaseKeeper:
    patience_s = terms.pop("patience_s", None)
    request = lease_request(who, duration_s=_SHORT_S, **terms)  # type: ignore[arg-type]
    return LeaseKeeper(
        RemoteAddress(address),
        request,
        device="bench",
        say=([] if said is None else said).append,
        patience_s=patience_s,
        lost_after_s=8.0,
    )


def _status(address: str) -> records.LeaseStatus:
    client = AgentClient(RemoteAddress(address))
    try:
        return client.show_lease()
    finally:
        client.close()


def _holder(address: str) -> str:
    holder = _status(address).holder
    return "" if holder is None else holder.name.rpartition(", ")[2]


class _Run:
    """A job under a lease, on a thread of its own."""

    def __init__(
        self, address: str, keeper: LeaseKeeper, job: records.Job, *, key: str = ""
    ) -> None:
        self.events: list[records.JobEvent] = []
        self.answers: dict[str, records.Result | records.Failure] = {}
        self.error: BaseException | None = None
        self._client = AgentClient(RemoteAddress(address), lost_after_s=20.0, lease=keeper)
        self._job = job
        self._thread = threading.Thread(target=self._go, name=key)
        self._thread.start()

    def end(self) -> dict[str, records.Result | records.Failure]:
        self._thread.join(harness.WITHIN_S)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.answers

    def is_sampling(self) -> bool:
        return any(is_sampling(event) for event in self.events)

    def _go(self) -> None:
        try:
            self.answers = self._client.run(self._job, {name_of(_SLOW): _SLOW}, self.events.append)
        except BaseException as error:  # noqa: BLE001 - told by `end`
            self.error = error
        finally:
            self._client.close()


def test_an_idle_device_is_had_at_once_kept_and_given_back(board: AgentProcess) -> None:
    said: list[str] = []
    with _keeper(board.address, said=said) as keeper:
        assert _holder(board.address) == ""
        token = keeper.token()
        assert token > 0
        # Longer than the lease lasts without renewal.
        time.sleep(1.5 * _SHORT_S)
        assert (keeper.held, keeper.token(), _holder(board.address)) == (True, token, "anna")
    assert _status(board.address) == records.LeaseStatus()
    assert said == []
    keeper.close()
    with pytest.raises(LeaseLostError, match="given back"):
        keeper.token(refused=token)


@pytest.mark.slow
def test_two_runs_want_one_board(board: AgentProcess) -> None:
    said: list[str] = []
    anna = _keeper(board.address, "anna")
    ben = _keeper(board.address, "ben", said=said)
    first = make_job(_SLOW, precision=_LOOK)
    second = make_job(_SLOW, precision=_LOOK)
    with anna, ben:
        running = _Run(board.address, anna, first)
        until(running.is_sampling)
        waiting = _Run(board.address, ben, second)
        until(lambda: said)
        assert said[0].startswith("waiting for bench: held by ")
        assert said[0].endswith(", anna, position 1")
        result_of(running.end()["s0"])
        # The first has nothing to do for the moment, but it is not done.
        time.sleep(1.5 * _SHORT_S)
        assert waiting.events == []
        anna.close()
        result_of(waiting.end()["s0"])
        assert said[-1] == "bench is free: going on"
        assert _holder(board.address) == "ben"


def test_higher_priority_is_served_first_and_positions_are_told(board: AgentProcess) -> None:
    said: list[str] = []
    keepers = [_keeper(board.address, "anna")]
    keepers[0].token()
    order: list[str] = []
    threads = []
    for who, priority in (("ben", 0), ("cem", 5)):
        keeper = _keeper(
            board.address, who, said=said if who == "ben" else None, priority=priority
        )
        keepers.append(keeper)

        def wait(keeper: LeaseKeeper = keeper, who: str = who) -> None:
            keeper.token()
            order.append(who)
            keeper.close()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()
        until(
            lambda who=who: any(  # type: ignore[misc]
                party.name.endswith(who) for party in _status(board.address).waiting
            )
        )
    until(lambda: any(line.endswith("position 2") for line in said))
    keepers[0].close()
    for thread in threads:
        thread.join(harness.WITHIN_S)
    assert order == ["cem", "ben"]
    assert _status(board.address) == records.LeaseStatus()


def test_a_cable_that_is_pulled_longer_than_the_lease_costs_nothing(board: AgentProcess) -> None:
    with Proxy(board.address) as proxy, _keeper(proxy.address) as keeper:
        job = make_job(_SLOW, precision=_LOOK)
        run = _Run(proxy.address, keeper, job)
        until(run.is_sampling)
        first = keeper.token()
        proxy.refuse(yes=True)
        until(lambda: _holder(board.address) == "")
        proxy.refuse(yes=False)
        result_of(run.end()["s0"])
        assert not any(isinstance(event.body, records.Interrupted) for event in run.events)
        assert [event.index for event in run.events] == list(range(len(run.events)))
        # For the next job there is a lease again, a newer one.
        second = make_job(_SLOW, precision=_LOOK)
        result_of(_Run(proxy.address, keeper, second).end()["s0"])
        assert keeper.token() > first


@pytest.mark.slow
def test_a_job_that_was_suspended_goes_on_and_nothing_is_measured_twice(
    board: AgentProcess,
) -> None:
    quick = programme(time_s=0.004)
    job = make_job(quick, _SLOW, precision=_LONG_LOOK)
    said: list[str] = []
    with Proxy(board.address) as proxy:
        anna = _keeper(proxy.address, "anna", said=said)
        ben = _keeper(board.address, "ben")
        with anna, ben:
            wire = harness.Wire(board.address)
            wire.upload(quick)
            wire.close()
            run = _Run(proxy.address, anna, job)
            until(run.is_sampling)
            first = anna.token()
            proxy.hold(yes=True)
            second = ben.token()
            assert second > first
            proxy.hold(yes=False)
            until(lambda: said)
            assert said[0].startswith("lost bench to another run, waiting for bench: held by ")
            other = make_job(_SLOW, precision=_LOOK)
            result_of(_Run(board.address, ben, other).end()["s0"])
            assert not run.answers
            ben.close()
            answers = run.end()
            assert anna.token() > second
    assert {name: type(answer) for name, answer in answers.items()} == {
        "s0": records.Result,
        "s1": records.Result,
    }
    results = [e.subject_id for e in run.events if isinstance(e.body, records.Result)]
    assert sorted(results) == ["s0", "s1"]
    assert sum(isinstance(event.body, records.Interrupted) for event in run.events) == 1
    assert [event.index for event in run.events] == list(range(len(run.events)))


def test_a_lease_lost_to_another_may_be_given_up(board: AgentProcess) -> None:
    with Proxy(board.address) as proxy:
        anna = _keeper(proxy.address, "anna", patience_s=0.5)
        ben = _keeper(board.address, "ben")
        with anna, ben:
            token = anna.token()
            proxy.hold(yes=True)
            ben.token()
            proxy.hold(yes=False)
            with pytest.raises(
                LeaseLostError, match=r"lost bench to another run.*ben, position 1"
            ):
                anna.token(refused=token)
            ben.close()
            # Asked again it is there.
            assert until(lambda: anna.held)
            assert anna.token(refused=token) > token


def test_a_client_without_a_lease_is_told_who_holds_the_device(board: AgentProcess) -> None:
    client = AgentClient(RemoteAddress(board.address))
    with _keeper(board.address, "anna") as keeper:
        keeper.token()
        with pytest.raises(LeaseLostError, match=r"a job without a lease: it is held by .*anna"):
            client.run(make_job(_SLOW), {name_of(_SLOW): _SLOW}, lambda _: None)
    client.close()


_HOLD = """
import sys, time
from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.lease import LeaseKeeper, lease_request
request = lease_request("killed", seed=sys.argv[2], duration_s=1.5)
keeper = LeaseKeeper(RemoteAddress(sys.argv[1]), request, device="bench")
print(keeper.token(), flush=True)
time.sleep(600)
"""


class _Host:
    """Another host that holds the board until it is killed."""

    def __init__(self, address: str, seed: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HOLD, address, seed], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.token = int(self._process.stdout.readline())

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(harness.WITHIN_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


def test_a_killed_hosts_board_is_the_next_ones_when_its_lease_is_over(
    board: AgentProcess,
) -> None:
    host = _Host(board.address, "other run")
    killed_s = time.monotonic()
    host.kill()
    assert _holder(board.address) == "killed"
    said: list[str] = []
    with _keeper(board.address, "ben", said=said) as keeper:
        assert keeper.token() == host.token + 1
    assert time.monotonic() - killed_s >= 1.0
    assert said[0].endswith("killed, position 1")


def test_a_run_that_is_resumed_meets_its_own_lease(board: AgentProcess) -> None:
    host = _Host(board.address, "run spos-3")
    host.kill()
    said: list[str] = []
    request = lease_request("killed", seed="run spos-3", duration_s=30.0)
    keeper = LeaseKeeper(RemoteAddress(board.address), request, device="bench", say=said.append)
    with keeper:
        assert keeper.token() == host.token
        assert said == []


def test_a_killed_agent_is_the_holders_again_when_it_is_back(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "state") as process, _keeper(process.address) as keeper:
        job = make_job(_SLOW, precision=_LOOK)
        run = _Run(process.address, keeper, job)
        until(run.is_sampling)
        token = keeper.token()
        process.kill()
        process.start()
        result_of(run.end()["s0"])
        # Nobody else was there: token and holder are what they were, or newer by its own doing.
        assert keeper.token() >= token
        assert until(lambda: _holder(process.address)) == "anna"


@pytest.mark.slow
def test_an_agent_that_is_not_there_ends_the_wait() -> None:
    keeper = LeaseKeeper(RemoteAddress("127.0.0.1:1"), lease_request("anna"), device="bench")
    with keeper, pytest.raises(DeviceUnreachableError, match="no agent answers"):
        keeper.token()


def test_an_agent_that_stays_away_ends_the_wait(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "state") as process:
        keeper = LeaseKeeper(
            RemoteAddress(process.address),
            lease_request("anna", duration_s=_SHORT_S),
            device="bench",
            lost_after_s=0.5,
        )
        with keeper:
            token = keeper.token()
            process.kill()
            with pytest.raises(DeviceUnreachableError):
                keeper.token(refused=token)
            # Later it is asked again: a board that was repaired is a board.
            process.start()
            assert until(lambda: _holder(process.address)) == "anna"
            until(lambda: keeper.held)


def test_what_the_agent_refuses_is_told(board: AgentProcess) -> None:
    request = lease_request("anna", duration_s=9999.0)
    with (
        LeaseKeeper(RemoteAddress(board.address), request, device="bench") as keeper,
        pytest.raises(WrongInputError, match=r"expected 0\.1 to 600 s"),
    ):
        keeper.token()


def test_a_wait_can_be_ended_from_another_thread(board: AgentProcess) -> None:
    with _keeper(board.address, "anna") as anna, _keeper(board.address, "ben") as ben:
        anna.token()
        found: list[BaseException] = []

        def wait() -> None:
            try:
                ben.token()
            except LeaseLostError as error:
                found.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: _status(board.address).waiting)
        ben.stop()
        thread.join(5.0)
        assert "given back" in str(found[0])
        until(lambda: not _status(board.address).waiting)


def test_a_client_takes_the_lease_with_its_first_job(board: AgentProcess) -> None:
    request = lease_request("anna", duration_s=_SHORT_S)
    with leased_client(
        RemoteAddress(board.address), request, device="bench", say=lambda _: None
    ) as client:
        client.describe()
        assert _holder(board.address) == ""
        client.run(make_job(_SLOW, precision=_LOOK), {name_of(_SLOW): _SLOW}, lambda _: None)
        assert _holder(board.address) == "anna"
    assert _holder(board.address) == ""


def test_what_a_run_asks_for() -> None:
    one, two = lease_request("run a", seed="x"), lease_request("run a", seed="x", priority=3)
    assert one.lease_id == two.lease_id
    assert one.holder == two.holder
    assert one.holder.endswith(", run a")
    assert (one.duration_s, two.priority) == (30.0, 3)
    assert lease_request("run a").lease_id != lease_request("run a").lease_id
