"""Pools over real agents: each answer once, in order, whichever board gives it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import DEADLINES, AgentProcess, Wire, programme, until

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.crew import Crew, Patience
from boardfront.host.fleet.ledger import Ledger
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.host.fleet.pool import Pool, _name, muster
from boardfront.host.fleet.self_test import SelfTest
from boardfront.latency_models.base import Measurer, QueueingMeasurer, TimeRequest
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos import records
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.protos.records import FailureKind, Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from boardfront.latency_models.base import Measurement

pytestmark = pytest.mark.timeout(120)

_numbers = itertools.count(1)
LOOK = records.Precision(relative_half_width=0.3, min_duration_s=0.1, max_duration_s=0.2)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AgentProcess, AgentProcess]]:
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(AgentProcess(tmp_path_factory.mktemp(name))) for name in "ab"
        )
        yield first, second


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MeasurementStore]:
    with MeasurementStore(tmp_path / "store.db") as opened:
        yield opened


class _Bench:
    """A pool over some agents, called by their places, and what was heard of it."""

    def __init__(
        self,
        agents: Sequence[AgentProcess],
        store: MeasurementStore,
        *,
        ledger: Ledger | None = None,
        overlap: bool = True,
    ) -> None:
        self.said: list[str] = []
        self.jobs: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self.crew = Crew(
            self.said.append,
            ledger=ledger,
            patience=Patience(move_after_s=0.5, give_up_after_s=3.0),
        )
        boards = [
            self.crew.enlist(name, RemoteAddress(agent.address))
            for name, agent in zip("ab", agents, strict=False)
        ]
        self.muster = muster(boards, SelfTest(backend="fake", store=store, look=LOOK))
        self.pool = Pool(
            self.crew,
            {
                board.name: DeviceMeasurer(
                    board.client, store, listener=self._listener(board.name)
                )
                for board in self.muster.boards
            },
            overlap=overlap,
        )

    def __call__(self, *requests: TimeRequest) -> list[Measurement]:
        return list(self.pool.measure(requests))

    def until(self, condition: Callable[[], bool]) -> None:
        """Attend until something is so."""

        def attended() -> bool:
            self.crew.attend(wait=False)
            return condition()

        until(attended, within_s=60.0)

    def _listener(self, board: str) -> Callable[[str, records.JobEvent], None]:
        def listen(label: str, event: records.JobEvent) -> None:
            if isinstance(event.body, records.Finished):
                with self._lock:
                    self.jobs.append((board, label))

        return listen


@contextlib.contextmanager
def _bench(
    agents: Sequence[AgentProcess],
    store: MeasurementStore,
    *,
    ledger: Ledger | None = None,
    overlap: bool = True,
) -> Iterator[_Bench]:
    made = _Bench(agents, store, ledger=ledger, overlap=overlap)
    try:
        yield made
    finally:
        made.crew.close()


@pytest.fixture
def bench(pair: tuple[AgentProcess, AgentProcess], store: MeasurementStore) -> Iterator[_Bench]:
    with _bench(pair, store) as made:
        yield made


def _request(**changes: object) -> TimeRequest:
    """Return a request for a network that nobody asked for before, of a time of its own."""
    number = next(_numbers)
    time_s = 0.001 + 1e-5 * number
    request = TimeRequest(
        model=programme(time_s=time_s),
        structure_hash=f"{number:064}",
        task=records.Task(),
        backend="fake",
        precision=records.Precision(relative_half_width=0.05, min_duration_s=0.05),
        deadlines=DEADLINES,
        label=f"{time_s:g}",
        job_seed="run",
    )
    return dataclasses.replace(request, **changes)  # type: ignore[arg-type]


def _median_s(measurement: Measurement) -> float:
    assert measurement.result is not None, measurement.failure
    return measurement.result.statistics.median_s


def test_it_is_a_measurer_that_queues(bench: _Bench) -> None:
    assert isinstance(bench.pool, Measurer)
    assert isinstance(bench.pool, QueueingMeasurer)
    assert bench.muster.left_out == {}
    assert bench.muster.level


def test_answers_come_in_order_from_both_boards_and_each_was_measured_once(
    bench: _Bench, store: MeasurementStore
) -> None:
    requests = [_request() for _ in range(8)]
    found = bench(*requests)
    assert [_median_s(one) for one in found] == pytest.approx(
        [float(request.label) for request in requests], rel=0.01
    )
    assert {board for board, _ in bench.jobs} == {"a", "b"}
    assert sorted(label for _, label in bench.jobs) == sorted(r.label for r in requests)
    for one in found:
        assert store.history(one.key) == (one,)
    # Now the store has them.
    assert bench(*requests) == found
    assert len(bench.jobs) == 8


def test_submitted_requests_are_answered_in_attend_alone(bench: _Bench) -> None:
    answers: list[tuple[int, Measurement]] = []
    main = threading.get_ident()

    def then(place: int) -> Callable[[Measurement], None]:
        def told(measurement: Measurement) -> None:
            assert threading.get_ident() == main
            answers.append((place, measurement))

        return told

    requests = [_request() for _ in range(4)]
    for place, request in enumerate(requests):
        bench.pool.submit(request, then(place))
    until(lambda: len(bench.jobs) == 4)
    assert answers == []
    bench.until(lambda: len(answers) == 4)
    assert sorted(place for place, _ in answers) == [0, 1, 2, 3]
    for place, measurement in answers:
        assert _median_s(measurement) == pytest.approx(float(requests[place].label), rel=0.01)


def test_a_delayed_request_holds_up_no_other(bench: _Bench) -> None:
    order: list[str] = []
    bench.pool.submit(_request(), lambda _: order.append("late"), delay_s=1.0)
    bench.pool.submit(_request(), lambda _: order.append("early"))
    bench.until(lambda: len(order) == 2)
    assert order == ["early", "late"]


def test_equal_networks_that_are_asked_at_once_are_measured_once(bench: _Bench) -> None:
    request = _request()
    twin = dataclasses.replace(request, label="twin")
    first, second = bench(request, twin)
    assert first == second
    assert len(bench.jobs) == 1


def test_groups_are_shared_and_come_in_order(bench: _Bench) -> None:
    groups = [[_request(fresh=True), _request(fresh=True)] for _ in range(4)]
    found = list(bench.pool.measure_groups(groups))
    for group, answers in zip(groups, found, strict=True):
        assert len({one.job_id for one in answers}) == 1
        for request, answer in zip(group, answers, strict=True):
            assert _median_s(answer) == pytest.approx(float(request.label), rel=0.01)
    assert len(bench.jobs) == 4
    with pytest.raises(WrongInputError, match="0 requests together"):
        bench.pool.measure_together([])


def test_what_is_no_longer_wanted_is_not_begun(bench: _Bench) -> None:
    requests = [_request() for _ in range(30)]
    answers = bench.pool.measure(requests)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    (last,) = bench(_request())
    assert last.result is not None
    # Those under way were finished; the rest never reached a board.
    assert len(bench.jobs) < 20


def test_nothing_overlaps_where_it_must_not(
    pair: tuple[AgentProcess, AgentProcess], store: MeasurementStore
) -> None:
    with _bench(pair, store, overlap=False) as bench:
        assert bench.pool.ahead == 0
        requests = [_request() for _ in range(4)]
        for request, answer in zip(requests, bench.pool.measure(requests), strict=True):
            assert _median_s(answer) == pytest.approx(float(request.label), rel=0.01)
            assert bench.jobs[-1][1] == request.label
            assert len(bench.jobs) == requests.index(request) + 1


def test_a_network_that_crashes_everywhere_is_tried_twice_and_then_blamed(
    bench: _Bench, store: MeasurementStore
) -> None:
    crashing = _request(model=programme(fault="crash-run"), label="crashing")
    found = bench(_request(), crashing, _request())
    assert [one.failure is not None for one in found] == [False, True, False]
    tried = store.history(found[1].key)
    assert [one.failure is not None for one in tried] == [True, True]
    # What came first is the answer, so that the next life of a run finds the same.
    assert found[1] == tried[0]
    assert [one.purpose for one in tried] == [Purpose.CANDIDATE, Purpose.RETRY]
    boards = [board for board, label in bench.jobs if label == "crashing"]
    assert sorted(boards) == ["a", "b"]
    assert bench.said == []
    assert bench(crashing) == [found[1]]


def test_one_board_alone_blames_the_network_at_once(
    pair: tuple[AgentProcess, AgentProcess], store: MeasurementStore
) -> None:
    with _bench(pair[:1], store) as bench:
        crashing = _request(model=programme(fault="crash-run"))
        (found,) = bench(crashing)
        assert found.failure is not None
        assert found.failure.kind is FailureKind.CRASHED
        assert len(bench.jobs) == 1


def test_the_wrong_question_is_told_to_who_asked(bench: _Bench) -> None:
    with pytest.raises(WrongInputError, match=r"unknown backend 'tpu'.*'fake'"):
        bench(_request(backend="tpu"))


def test_a_board_that_dies_is_put_out_and_comes_back(
    tmp_path: Path, store: MeasurementStore
) -> None:
    with contextlib.ExitStack() as stack:
        agents = [stack.enter_context(AgentProcess(tmp_path / name)) for name in "ab"]
        bench = stack.enter_context(_bench(agents, store))
        slow = [_request(model=programme(time_s=0.01, sleep="along")) for _ in range(6)]
        answers = bench.pool.measure(slow)
        found = [next(answers)]
        agents[0].kill()
        found += answers
        assert len({one.id for one in found}) == 6
        assert [_median_s(one) for one in found] == pytest.approx([0.01] * 6, rel=0.01)
        bench.until(lambda: any("left out" in line for line in bench.said))
        assert any("board a is left out until" in line for line in bench.said)
        agents[0].start()
        bench.until(lambda: "board a passed its self-test and is back" in bench.said)
        before = len(bench.jobs)
        bench(*(_request() for _ in range(6)))
        assert "a" in {board for board, _ in bench.jobs[before:]}
        for one in found:
            assert len([x for x in store.history(one.key) if x.job_id == one.job_id]) == 1


@pytest.mark.slow
def test_without_any_board_the_wait_ends(tmp_path: Path, store: MeasurementStore) -> None:
    with AgentProcess(tmp_path / "a") as agent, _bench([agent], store) as bench:
        bench(_request())
        agent.kill()
        with pytest.raises(BoardfrontError, match=r"no board is fit.*board|no agent answers"):
            bench(_request())


@pytest.mark.slow
def test_a_board_that_is_away_at_the_start_is_left_out(
    pair: tuple[AgentProcess, AgentProcess], tmp_path: Path, store: MeasurementStore
) -> None:
    with AgentProcess(tmp_path / "gone") as gone:
        pass
    with _bench([gone, pair[0]], store) as bench:
        assert [board.name for board in bench.muster.boards] == ["b"]
        assert "no agent answers" in bench.muster.left_out["a"]
        assert bench(_request())[0].result is not None


def test_a_board_of_another_kind_is_left_out(
    pair: tuple[AgentProcess, AgentProcess], tmp_path: Path, store: MeasurementStore
) -> None:
    root = tmp_path / "root"
    for folder in ("sys", "proc"):
        (root / folder).mkdir(parents=True)
    with (
        AgentProcess(tmp_path / "other", options=["--root", str(root)]) as other,
        _bench([pair[0], other], store) as bench,
    ):
        assert [board.name for board in bench.muster.boards] == ["a"]
        assert "another kind or set-up" in bench.muster.left_out["b"]


def test_a_killed_host_finds_its_jobs_where_they_are(
    pair: tuple[AgentProcess, AgentProcess], store: MeasurementStore, tmp_path: Path
) -> None:
    path = tmp_path / "boards.jsonl"
    requests = [_request() for _ in range(4)]
    # An earlier life sent them to the second board and died before it heard the answers.
    wire = Wire(pair[1].address)
    try:
        job_ids = []
        with _bench(pair[1:], store, ledger=Ledger(path)) as dying:
            (board,) = dying.crew.boards.values()
            earlier = Ledger(path)
            for request in requests:
                planned = dying.pool._measurers["a"].plan((request,))
                assert not isinstance(planned, tuple)
                board.client.send(planned.job, planned.artifacts)
                earlier.note(_name((request,)), "b")
                job_ids.append(planned.job.job_id)
        for job_id in job_ids:
            list(wire.watch(job_id))
        with _bench(pair, store, ledger=Ledger(path)) as bench:
            found = bench(*requests)
        assert {board for board, _ in bench.jobs} == {"b"}
        assert [one.job_id for one in found] == job_ids
        for one in found:
            assert store.history(one.key) == (one,)
    finally:
        wire.close()


@pytest.mark.parametrize("cancel", [False, True])
def test_jobs_outlive_the_host_unless_they_are_cancelled(
    pair: tuple[AgentProcess, AgentProcess], store: MeasurementStore, *, cancel: bool
) -> None:
    slow = _request(model=programme(time_s=0.01, sleep="along", compile_s=0.5))
    wire = Wire(pair[0].address)
    try:
        with _bench(pair[:1], store) as bench:
            bench.pool.submit(slow, lambda _: None)
            until(lambda: wire.describe().queued_jobs == 1)
            bench.crew.close(cancel=cancel)
            assert wire.describe().queued_jobs == (0 if cancel else 1)
        if not cancel:
            with _bench(pair[:1], store) as bench:
                assert bench(slow)[0].result is not None
    finally:
        wire.close()


def test_a_ledger_survives_what_a_power_cut_leaves(tmp_path: Path) -> None:
    path = tmp_path / "boards.jsonl"
    ledger = Ledger(path)
    ledger.note("j1", "a")
    ledger.note("j1", "b")
    with path.open("a") as file:
        file.write('{"work": "j2", "bo')
    assert Ledger(path).earlier == {"j1": "b"}
    assert Ledger(tmp_path / "none").earlier == {}
    Ledger().note("j1", "a")
