"""Spare workers: fresh, asleep while anything is timed, and gone when nobody wants them."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.device_agent import harness
from tests.device_agent.harness import make_job, programme, result_of, serving, until

from boardfront.device_agent import worker
from boardfront.device_agent.process import WorkerCancelledError, WorkerProcess
from boardfront.device_agent.spares import SpareWorkers
from boardfront.protos.records import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


class _Wanted:
    """How many workers the next job needs."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self) -> int:
        return self.count


@pytest.fixture
def wanted() -> _Wanted:
    return _Wanted(2)


@pytest.fixture
def spares(wanted: _Wanted) -> Iterator[SpareWorkers]:
    made = SpareWorkers(wanted)
    yield made
    made.close()


def _pids() -> set[int]:
    return {process.pid for process in harness.workers()}


def _answers(process: WorkerProcess) -> bool:
    return process.ask(worker.ready_command(), within_s=10.0, what="start") == {}


def test_what_was_started_is_handed_out_once(spares: SpareWorkers, wanted: _Wanted) -> None:
    spares.start()
    spares.settle()
    assert len(_pids()) == wanted.count
    started = _pids()
    with spares.take(threading.Event()) as one, spares.take(threading.Event()) as two:
        assert _pids() == started
        with spares.take(threading.Event()) as new:
            assert all(_answers(process) for process in (one, two, new))
            assert len(_pids() - started) == 1


def test_a_settled_spare_sleeps(spares: SpareWorkers) -> None:
    spares.start()
    spares.settle()
    # It waits for its first command in a read; whatever it had to do at its start is done.
    until(lambda: {process.status() for process in harness.workers()} == {psutil.STATUS_SLEEPING})
    before = [process.cpu_times().user for process in harness.workers()]
    threading.Event().wait(0.3)
    assert [process.cpu_times().user for process in harness.workers()] == before


def test_no_more_are_started_than_are_wanted(spares: SpareWorkers, wanted: _Wanted) -> None:
    spares.start()
    spares.start()
    spares.settle()
    spares.start()
    spares.settle()
    assert len(_pids()) == wanted.count


def test_spares_that_cannot_be_started_are_done_without(
    spares: SpareWorkers, wanted: _Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted.count = 3
    tries: list[int] = []

    # At the process edge: the descriptors are used up after the first.
    def start() -> WorkerProcess:
        tries.append(1)
        if len(tries) > 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return WorkerProcess()

    with monkeypatch.context() as patch:
        patch.setattr("boardfront.device_agent.spares.WorkerProcess", start)
        spares.start()
    assert len(tries) == 2
    spares.settle()
    assert len(_pids()) == 1
    spares.start()
    spares.settle()
    assert len(_pids()) == 3


def test_a_dead_spare_is_not_handed_out(spares: SpareWorkers, wanted: _Wanted) -> None:
    wanted.count = 1
    spares.start()
    spares.settle()
    (dead,) = harness.workers()
    dead.kill()
    until(lambda: harness.is_gone(dead.pid))
    guard = psutil.Process().children()
    psutil.wait_procs(guard, timeout=10.0)
    with spares.take(threading.Event()) as process:
        assert _answers(process)


def test_a_spare_is_cancelled_with_the_job_that_got_it(spares: SpareWorkers) -> None:
    spares.start()
    spares.settle()
    cancelled = threading.Event()
    with spares.take(cancelled) as process:
        assert _answers(process)
        cancelled.set()
        with pytest.raises(WorkerCancelledError):
            process.ask({"do": "pause", "duration_s": 60.0}, within_s=60.0, what="run")


def test_unwanted_spares_are_ended(spares: SpareWorkers, wanted: _Wanted) -> None:
    spares.start()
    spares.settle()
    spares.end_unwanted()
    assert len(_pids()) == wanted.count
    wanted.count = 0
    spares.end_unwanted()
    assert _pids() == set()


def test_a_queue_gets_the_same_answers_and_leaves_no_worker(tmp_path: Path) -> None:
    contents = [programme(time_s=0.001 * (1 + number)) for number in range(4)]
    contents.insert(2, programme(fault="crash-run"))
    with serving(tmp_path) as (_, wire):
        jobs = [make_job(content) for content in contents]
        pair = make_job(*contents[:2])
        for job, content in zip(jobs, contents, strict=True):
            wire.submit(job, content)
        wire.submit(pair)
        found = [harness.answers(list(wire.watch(job.job_id)))["s0"] for job in jobs]
        medians_s = [result_of(one).statistics.median_s for one in (*found[:2], *found[3:])]
        assert medians_s == pytest.approx([0.001, 0.002, 0.003, 0.004], rel=0.02)
        assert harness.failure_of(found[2]).kind.value == "crashed"
        together = harness.answers(list(wire.watch(pair.job_id)))
        assert result_of(together["s1"]).statistics.median_s == pytest.approx(0.002, rel=0.02)
        until(lambda: not harness.workers())


def test_the_next_jobs_worker_is_there_before_anything_is_timed(tmp_path: Path) -> None:
    slow = programme(time_s=0.01, sleep="along")
    with serving(tmp_path) as (_, wire):
        first, second = make_job(slow), make_job(slow)
        wire.submit(first, slow)
        wire.submit(second)
        wire.wait_for(first.job_id, harness.in_phase(Phase.WARMING_UP))
        assert len(harness.workers()) == 2
        spare = _pids()
        list(wire.watch(first.job_id))
        wire.wait_for(second.job_id, harness.in_phase(Phase.WARMING_UP))
        (working,) = harness.workers()
        assert working.pid in spare
        list(wire.watch(second.job_id))
