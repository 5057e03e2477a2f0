"""All devices of a run: taken in one order, pools without those that others hold."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest
from tests.device_agent import harness
from tests.device_agent.harness import AgentProcess, programme, until
from tests.host.fleet.proxy import Proxy

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.crew import Crew
from boardfront.host.fleet.lease import LeaseKeeper, lease_request
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.host.fleet.pool import Pool
from boardfront.host.fleet.run_leases import RunLeases
from boardfront.host.fleet.select import Selected
from boardfront.latency_models.base import TimeRequest
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos import records
from boardfront.protos.errors import LeaseLostError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, AgentProcess]]:
    """Two boards by the order of their ids."""
    with (
        AgentProcess(tmp_path_factory.mktemp("one")) as one,
        AgentProcess(tmp_path_factory.mktemp("two")) as two,
    ):
        yield {"one": one, "two": two}


def _selected(boards: dict[str, AgentProcess], *names: str) -> tuple[Selected, ...]:
    return tuple(
        Selected(name=name, address=RemoteAddress(boards[name].address)) for name in names
    )


class _Run:
    """The leases of a run, and what it said."""

    def __init__(self, who: str, *, seed: str = "", duration_s: float = 2.0) -> None:
        self.said: list[str] = []
        self.posted: list[str] = []
        request = lease_request(who, seed=seed, duration_s=duration_s)
        self.leases = RunLeases(request, self.said.append, self._post)

    def _post(self, call: object) -> None:
        assert callable(call)
        self.posted.append(threading.current_thread().name)
        call()


def _holders(boards: dict[str, AgentProcess]) -> dict[str, str]:
    found = {}
    for name, process in boards.items():
        client = AgentClient(RemoteAddress(process.address))
        holder = client.show_lease().holder
        found[name] = "" if holder is None else holder.name.rpartition(", ")[2]
        client.close()
    return found


def test_all_devices_of_a_run_are_held_and_given_back(boards: dict[str, AgentProcess]) -> None:
    run = _Run("anna")
    both = _selected(boards, "one", "two")
    assert run.leases.take([both[:1], both[1:], both[:1]]) == {}
    assert _holders(boards) == {"one": "anna", "two": "anna"}
    assert run.leases.of("one").held
    run.leases.close()
    assert _holders(boards) == {"one": "", "two": ""}
    assert run.said == []


def test_two_runs_that_want_the_same_two_do_not_block_each_other(
    boards: dict[str, AgentProcess],
) -> None:
    finished: list[str] = []

    def go(who: str, order: tuple[str, ...]) -> None:
        run = _Run(who)
        run.leases.take([_selected(boards, name) for name in order])
        finished.append(who)
        run.leases.close()

    threads = [
        threading.Thread(target=go, args=("anna", ("one", "two"))),
        threading.Thread(target=go, args=("ben", ("two", "one"))),
        threading.Thread(target=go, args=("cem", ("one", "two"))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(harness.WITHIN_S)
    assert sorted(finished) == ["anna", "ben", "cem"]


def test_a_pool_goes_without_those_that_others_hold(boards: dict[str, AgentProcess]) -> None:
    ben, anna = _Run("ben"), _Run("anna")
    ben.leases.take([_selected(boards, "one")])
    passed_over = anna.leases.take([_selected(boards, "one", "two")])
    assert list(passed_over) == ["one"]
    assert passed_over["one"].startswith("it is held by ")
    assert passed_over["one"].endswith(", ben")
    assert _holders(boards) == {"one": "ben", "two": "anna"}
    with pytest.raises(KeyError):
        anna.leases.of("one")
    ben.leases.close()
    anna.leases.close()


def test_what_a_pool_can_do_without_is_waited_for_where_a_target_has_nothing_else(
    boards: dict[str, AgentProcess],
) -> None:
    ben, anna = _Run("ben"), _Run("anna")
    ben.leases.take([_selected(boards, "one")])
    passed_over: list[dict[str, str]] = []
    pool, alone = _selected(boards, "one", "two"), _selected(boards, "one")
    taking = threading.Thread(target=lambda: passed_over.append(anna.leases.take([pool, alone])))
    taking.start()
    until(lambda: any("ben" in line for line in anna.said))
    ben.leases.close()
    taking.join(harness.WITHIN_S)
    assert passed_over == [{}]
    assert _holders(boards) == {"one": "anna", "two": "anna"}
    anna.leases.close()


def test_a_run_that_is_resumed_passes_over_none_of_its_own(
    boards: dict[str, AgentProcess],
) -> None:
    first, again = _Run("run 3", seed="run 3"), _Run("run 3", seed="run 3")
    pool = _selected(boards, "one", "two")
    first.leases.take([pool])
    assert again.leases.take([pool]) == {}
    assert again.said == []
    first.leases.close()
    again.leases.close()


def test_a_device_alone_is_waited_for_and_the_wait_can_be_ended(
    boards: dict[str, AgentProcess],
) -> None:
    ben, anna = _Run("ben"), _Run("anna")
    ben.leases.take([_selected(boards, "two")])
    ended: list[str] = []

    def wait() -> None:
        try:
            anna.leases.take([_selected(boards, "two")])
        except LeaseLostError as error:
            ended.append(str(error))

    thread = threading.Thread(target=wait, name="waits")
    thread.start()
    until(lambda: anna.said)
    assert anna.said[0].startswith("waiting for two: held by ")
    assert anna.said[0].endswith(", ben, position 1")
    # Said from another thread than the one that owns the run.
    assert anna.posted == ["waits"]
    anna.leases.stop()
    thread.join(harness.WITHIN_S)
    assert ended == ["the lease of two was given back"]
    anna.leases.close()
    ben.leases.close()
    assert _holders(boards)["two"] == ""


@pytest.mark.slow
def test_a_board_that_does_not_answer_is_left_to_whoever_asks_it(
    boards: dict[str, AgentProcess],
) -> None:
    away = Selected(name="away", address=RemoteAddress("127.0.0.1:1"))
    run = _Run("anna")
    assert run.leases.take([(*_selected(boards, "one"), away)]) == {}
    assert _holders(boards)["one"] == "anna"
    run.leases.close()


def _keeper(address: str, who: str, duration_s: float) -> LeaseKeeper:
    return LeaseKeeper(
        RemoteAddress(address),
        lease_request(who, duration_s=duration_s),
        device="two",
        patience_s=0.3,
    )


def _request(number: int) -> TimeRequest:
    """Return a request for a network of its own, which takes a second to time."""
    return TimeRequest(
        model=programme(time_s=0.002 + 1e-5 * number, sleep="on"),
        structure_hash=f"{number:064}",
        task=records.Task(),
        backend="fake",
        precision=records.Precision(relative_half_width=0.5, min_duration_s=1.0),
        deadlines=harness.DEADLINES,
    )


@pytest.mark.slow
def test_a_board_that_goes_to_another_run_leaves_its_jobs_to_the_others(
    boards: dict[str, AgentProcess], tmp_path: Path
) -> None:
    said: list[str] = []
    one, two = (boards[name].address for name in ("one", "two"))
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(MeasurementStore(tmp_path / "store.db"))
        # Only what renews the lease is behind the cable.
        cable = stack.enter_context(Proxy(two))
        crew = Crew(said.append)
        stack.callback(crew.close)
        first = stack.enter_context(_keeper(one, "anna", 30.0))
        second = stack.enter_context(_keeper(cable.address, "anna", 1.0))
        ben = stack.enter_context(_keeper(two, "ben", 30.0))
        second.token()
        enlisted = [
            crew.enlist("one", RemoteAddress(one), first),
            crew.enlist("two", RemoteAddress(two), second),
        ]
        pool = Pool(crew, {board.name: DeviceMeasurer(board.client, store) for board in enlisted})
        stack.callback(second.stop)
        answers = pool.measure([_request(number) for number in range(6)])
        found = [next(answers)]
        cable.hold(yes=True)
        ben.token()
        cable.hold(yes=False)
        found += answers
        results = [measurement.result for measurement in found]
        assert None not in results
        assert len({measurement.job_id for measurement in found}) == 6
        (line,) = [line for line in said if "left out" in line]
        assert line.startswith("board two is left out until it passes its self-test: lost two to")
