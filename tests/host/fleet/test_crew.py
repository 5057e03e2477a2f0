"""What the crew makes of boards that fail, with boards that do as the test says."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.latency_models import samples

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.connection import DeviceUnreachableError
from boardfront.host.fleet.crew import Crew, Patience
from boardfront.host.fleet.ledger import Ledger, take
from boardfront.host.fleet.pool import Pool
from boardfront.host.fleet.self_test import Seen, SelfTest
from boardfront.host.fleet.sentinel import Finding, State
from boardfront.latency_models.base import TimeRequest
from boardfront.protos.errors import LeaseLostError, WrongInputError
from boardfront.protos.records import Failure, FailureKind, Task, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from boardfront.latency_models.base import Measurement

pytestmark = pytest.mark.timeout(60)

_EVENT_S = 0.01


@dataclass(frozen=True)
class _Planned:
    requests: tuple[TimeRequest, ...]
    job: Any


@dataclass(frozen=True)
class _Job:
    job_id: str


@dataclass
class _Board:
    """Stands for a DeviceMeasurer: answers as it is told, and keeps what it was asked.

    Args:
        answer: What a request comes to; raises what a lost device raises.
        look_every: Jobs between two looks at the sentinel; 0: none.
        finding: What each look tells.
        events: Of each job.
    """

    name: str
    answer: Callable[[TimeRequest], Measurement]
    look_every: int = 0
    finding: State = State.STEADY
    events: int = 3
    log: list[str] = field(default_factory=list)
    jobs: int = 0

    def plan(
        self, requests: Sequence[TimeRequest], *, look_up: bool = True
    ) -> _Planned | tuple[Measurement, ...]:
        del look_up
        return _Planned(tuple(requests), _Job("-".join(one.label for one in requests)))

    def is_look_due(self, planned: _Planned, *, after: int = 0) -> bool:
        del planned
        return bool(self.look_every) and self.jobs + after >= self.look_every

    def look(self, planned: _Planned) -> Finding:
        del planned
        self.log.append("look")
        self.jobs = 0
        return Finding(state=self.finding, message=f"the sentinel of {self.name} moved")

    def send(self, planned: _Planned) -> None:
        self.log.append(f"send {planned.job.job_id}")

    def finish(self, planned: _Planned, on_event: Callable[[], None]) -> tuple[Measurement, ...]:
        for _ in range(self.events):
            on_event()
            time.sleep(_EVENT_S)
        self.log.append(f"finish {planned.job.job_id}")
        answers = tuple(self.answer(request) for request in planned.requests)
        self.jobs += 1
        return answers


def _good(request: TimeRequest) -> Measurement:
    return replace(samples.measurement(job_id=request.label), id=1)


def _failing(kind: FailureKind) -> Callable[[TimeRequest], Measurement]:
    def answer(request: TimeRequest) -> Measurement:
        failure = Failure(kind=kind, message=f"programmed {kind.value}")
        return replace(samples.measurement(failure, job_id=request.label), id=2)

    return answer


def _raising(error: Exception) -> Callable[[TimeRequest], Measurement]:
    def answer(request: TimeRequest) -> Measurement:
        del request
        raise error

    return answer


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def crew(said: list[str], tmp_path: Path) -> Iterator[Crew]:
    made = Crew(
        said.append,
        ledger=Ledger(tmp_path / "boards.jsonl"),
        patience=Patience(move_after_s=0.2, give_up_after_s=0.5),
    )
    yield made
    made.close()


def _pool(crew: Crew, *boards: _Board) -> Pool:
    for board in boards:
        # Nobody listens there: no self-test ever passes.
        crew.enlist(board.name, RemoteAddress("127.0.0.1:1"))
    return Pool(crew, {board.name: board for board in boards})  # type: ignore[misc]


def _requests(count: int) -> list[TimeRequest]:
    return [
        TimeRequest(
            model=b"",
            structure_hash=f"{number:064}",
            task=Task(),
            backend="fake",
            label=f"n{number}",
            job_seed="run",
        )
        for number in range(count)
    ]


def _names(answers: Sequence[Measurement]) -> list[str]:
    return [one.job_id for one in answers]


def test_a_board_on_which_everything_crashes_is_put_out(
    crew: Crew, said: list[str], tmp_path: Path
) -> None:
    bad, good = _Board("bad", _failing(FailureKind.CRASHED)), _Board("good", _good)
    requests = _requests(12)
    answers = list(_pool(crew, bad, good).measure(requests))
    assert _names(answers) == [request.label for request in requests]
    assert all(one.failure is None for one in answers)
    crew.attend(wait=False)
    (line,) = said
    assert line == (
        "board bad is left out until it passes its self-test: 3 jobs in a row failed there "
        "alone, the first: crashed: programmed crashed"
    )
    assert crew.is_out("bad")
    assert sum(entry.startswith("finish") for entry in bad.log) < len(requests)
    # Who looks at the run can tell; the run's next life begins with all boards.
    assert _left_out(tmp_path) == {"bad": line.partition(": ")[2]}
    Ledger(tmp_path / "boards.jsonl")
    assert _left_out(tmp_path) == {}


def _left_out(folder: Path) -> dict[str, str]:
    left_out: dict[str, str] = {}
    for line in (folder / "boards.jsonl").read_text().splitlines():
        take(line, {}, left_out)
    return left_out


def test_a_network_that_crashes_on_both_is_the_networks_fault(crew: Crew, said: list[str]) -> None:
    def answer(request: TimeRequest) -> Measurement:
        crash = _failing(FailureKind.CRASHED)
        return (
            crash(request) if request.label in {"n1", "n2", "n3", "n4", "n5"} else _good(request)
        )

    answers = list(_pool(crew, _Board("a", answer), _Board("b", answer)).measure(_requests(8)))
    assert [one.failure is None for one in answers] == [True] + [False] * 5 + [True] * 2
    crew.attend(wait=False)
    assert said == []


@pytest.mark.parametrize(
    "answer",
    [
        _failing(FailureKind.DEVICE_LOST),
        _raising(DeviceUnreachableError("no agent answers")),
        _raising(LeaseLostError("it is held by ben")),
    ],
)
def test_a_lost_board_is_out_at_once_and_its_jobs_go_on(
    crew: Crew, said: list[str], answer: Callable[[TimeRequest], Measurement]
) -> None:
    lost, good = _Board("lost", answer), _Board("good", _good)
    requests = _requests(8)
    answers = list(_pool(crew, lost, good).measure(requests))
    assert _names(answers) == [request.label for request in requests]
    assert all(one.failure is None for one in answers)
    crew.attend(wait=False)
    assert crew.is_out("lost")
    assert "board lost is left out until it passes its self-test" in said[0]
    assert sum(entry.startswith("finish") for entry in lost.log) == 1


def test_a_failure_that_is_no_crash_is_an_answer(crew: Crew) -> None:
    board = _Board("a", _failing(FailureKind.OUT_OF_MEMORY))
    other = _Board("b", _failing(FailureKind.OUT_OF_MEMORY))
    answers = list(_pool(crew, board, other).measure(_requests(6)))
    assert all(one.failure is not None for one in answers)
    assert sum(entry.startswith("finish") for entry in board.log + other.log) == 6


def test_with_all_boards_out_the_wait_ends_with_the_reasons(crew: Crew) -> None:
    boards = [_Board(name, _raising(DeviceUnreachableError(f"{name} is off"))) for name in "ab"]
    with pytest.raises(DeviceUnreachableError, match=r"no board is fit.*a: a is off; b: b is off"):
        list(_pool(crew, *boards).measure(_requests(2)))


def test_what_nobody_can_answer_is_raised(crew: Crew) -> None:
    board = _Board("a", _raising(WrongInputError("no such option")))
    with pytest.raises(WrongInputError, match="no such option"):
        list(_pool(crew, board).measure(_requests(3)))


def test_the_next_job_is_sent_while_one_runs_and_never_more(crew: Crew) -> None:
    board = _Board("a", _good)
    list(_pool(crew, board).measure(_requests(4)))
    assert board.log == [
        *("send n1", "finish n0"),
        *("send n2", "finish n1"),
        *("send n3", "finish n2"),
        "finish n3",
    ]


def test_nothing_is_sent_ahead_of_a_look_at_the_sentinel(crew: Crew) -> None:
    board = _Board("a", _good, look_every=2)
    list(_pool(crew, board).measure(_requests(5)))
    looks = [index for index, entry in enumerate(board.log) if entry == "look"]
    assert len(looks) == 2
    for look in looks:
        sent = {entry.split()[1] for entry in board.log[:look] if entry.startswith("send")}
        done = {entry.split()[1] for entry in board.log[:look] if entry.startswith("finish")}
        # Whatever was on the board was finished.
        assert sent <= done
        assert len(done) % 2 == 0


def test_a_board_of_a_pool_whose_level_moved_is_out(
    crew: Crew, said: list[str], tmp_path: object
) -> None:
    del tmp_path
    moved = _Board("moved", _good, look_every=2, finding=State.SHIFTED)
    good = _Board("good", _good)
    pool = _pool(crew, moved, good)
    test = SelfTest(backend="fake", store=None)  # type: ignore[arg-type]
    crew.boards["moved"].tests.append((test, Seen(name="moved")))
    requests = _requests(10)
    assert _names(list(pool.measure(requests))) == [request.label for request in requests]
    crew.attend(wait=False)
    assert crew.is_out("moved")
    assert said[0].endswith("the sentinel of moved moved")


def test_a_throttled_board_rests_before_its_next_job(crew: Crew) -> None:
    began_s: dict[str, float] = {}

    def answer(request: TimeRequest) -> Measurement:
        began_s[request.label] = time.monotonic()
        return _good(request)

    pool = _pool(crew, _Board("a", answer))
    crew.boards["a"].description = None
    done = threading.Event()
    throttled = samples.measurement(samples.result(verdict=Verdict.THROTTLED))
    crew.rest("a", 0.5)
    asked_s = time.monotonic()
    pool.submit(_requests(1)[0], lambda _: done.set(), after=throttled)
    while not done.is_set():
        crew.attend(wait=True)
    assert began_s["n0"] - asked_s >= 0.4
