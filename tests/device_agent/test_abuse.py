"""An agent under abuse: it survives, says what happened, and measures the next one properly.

A real agent in a process of its own, its real workers, and a third party's backend that does what
bad runtimes do.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.device_agent import harness
from tests.device_agent.harness import (
    DEADLINES,
    AgentProcess,
    Wire,
    answers,
    failure_of,
    in_phase,
    is_gone,
    make_job,
    programme,
    result_of,
    until,
)

from boardfront.protos import records
from boardfront.protos.records import FailureKind, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(60)

_LIMIT_MB = 384
# Start of the interpreter included: short, yet long enough for a busy machine.
_SHORT = dataclasses.replace(DEADLINES, compile_s=3.0, run_s=2.0)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the rough backend, which every agent started meanwhile finds."""
    place = tmp_path_factory.mktemp("site")
    harness.install_rough(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(place))
        yield place


@pytest.fixture(scope="module")
def abused(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """The agent that all of it happens to."""
    del site
    options = ("--worker-memory-mb", str(_LIMIT_MB))
    with AgentProcess(tmp_path_factory.mktemp("abused"), options=options) as running:
        wire = Wire(running.address)
        wire.describe()
        wire.close()
        yield running


def _rough_job(deed: str, log: str = "") -> records.Job:
    asked = harness.subject(b"x", backend="rough", options={"do": deed, "log": log})
    return make_job(subjects=(asked,), deadlines=_SHORT)


def _outcome(
    agent: AgentProcess, job: records.Job, content: bytes
) -> records.Result | records.Failure:
    """Return what a job came to, after checking that the agent is as good as new."""
    wire = Wire(agent.address)
    found = answers(wire.run(job, content))["s0"]
    assert psutil.Process(agent.pid).children(recursive=True) == []
    # 3 ms programmed, noise 0.1 %, seeded: the median of hundreds lies far inside 1 %.
    proper = result_of(wire.measure(programme(time_s=0.003)))
    assert proper.statistics.median_s == pytest.approx(0.003, rel=0.01)
    assert proper.verdict is records.Verdict.OK
    assert psutil.Process(agent.pid).children(recursive=True) == []
    wire.close()
    return found


def _failure(agent: AgentProcess, deed: str, log: str = "") -> records.Failure:
    return failure_of(_outcome(agent, _rough_job(deed, log), b"x"))


def _fake_failure(agent: AgentProcess, fault: str) -> records.Failure:
    content = programme(fault=fault)
    return failure_of(_outcome(agent, make_job(content, deadlines=_SHORT), content))


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (
            "hang-compile",
            FailureKind.TIMEOUT,
            "compile took longer than the 3 s asked for load and compile together",
        ),
        (
            "hang-run",
            FailureKind.TIMEOUT,
            "warm-up took longer than the 2 s asked for warm-up and run together",
        ),
        ("crash-run", FailureKind.CRASHED, "the worker died by signal SIGSEGV during warm-up"),
        (
            "exit-without-result",
            FailureKind.CRASHED,
            "the worker ended with exit code 0 during load",
        ),
        ("device-lost", FailureKind.DEVICE_LOST, "programmed fault: device-lost"),
        ("nan-times", FailureKind.CRASHED, "the backend's clock gave nan s"),
        ("infinite-times", FailureKind.CRASHED, "the backend's clock gave inf s"),
    ],
)
def test_a_fault_is_named(
    abused: AgentProcess, fault: str, kind: FailureKind, message: str
) -> None:
    failure = _fake_failure(abused, fault)
    assert (failure.kind, failure.message) == (kind, message)


@pytest.mark.parametrize(
    ("fault", "named"),
    [("clock-goes-back", "went back from 0 s to -0.0"), ("clock-stands-still", "stands still")],
)
def test_a_clock_that_is_none_fails_before_the_deadline(
    abused: AgentProcess, fault: str, named: str
) -> None:
    failure = _fake_failure(abused, fault)
    assert failure.kind is FailureKind.CRASHED
    assert named in failure.message


@pytest.mark.parametrize(
    ("deed", "named"),
    [
        ("gorge", f"(limit {_LIMIT_MB} MiB: --worker-memory-mb)"),
        ("gorge-shared", f"during compile: the limit is {_LIMIT_MB} MiB (--worker-memory-mb)"),
        ("gorge-in-children", f"the limit is {_LIMIT_MB} MiB (--worker-memory-mb)"),
        ("bad-alloc", "died by signal SIGABRT during compile after it wrote of memory"),
    ],
)
def test_memory_without_bound_is_refused(abused: AgentProcess, deed: str, named: str) -> None:
    failure = _failure(abused, deed)
    assert failure.kind is FailureKind.OUT_OF_MEMORY, failure
    assert named in failure.message


@pytest.mark.parametrize(
    ("deed", "named"),
    [
        ("no-answer", "the worker closed its pipe during compile"),
        ("scribble", "the worker's answer to compile is not JSON"),
        ("babble", "the worker's answer to compile does not end"),
        ("nonsense", "the worker's answer to compile is none of its own"),
        ("kill", "the worker died by signal SIGKILL during compile"),
    ],
)
def test_a_broken_conversation_is_a_crash(abused: AgentProcess, deed: str, named: str) -> None:
    failure = _failure(abused, deed)
    assert failure.kind is FailureKind.CRASHED, failure
    assert failure.message == named


def test_binary_noise_at_every_run_changes_no_time(abused: AgentProcess) -> None:
    result = result_of(_outcome(abused, _rough_job("noisy"), b"x"))
    assert result.statistics.median_s >= 0.002


def test_an_escaped_child_dies_with_a_job_that_went_well(
    abused: AgentProcess, tmp_path: Path
) -> None:
    log = tmp_path / "pid"
    result_of(_outcome(abused, _rough_job("escape-and-work", str(log)), b"x"))
    assert is_gone(int(log.read_text()))


@pytest.mark.parametrize(
    ("deed", "kind", "named"),
    [
        ("escape-and-leave", FailureKind.CRASHED, "ended with exit code 0 during compile"),
        ("escape-and-hang", FailureKind.TIMEOUT, "compile took longer than"),
        ("escape-and-kill-guard", FailureKind.CRASHED, "died by signal SIGKILL during compile"),
        ("escape-and-kill-group", FailureKind.CRASHED, "died by signal SIGKILL during compile"),
    ],
)
def test_an_escaped_child_dies_with_a_job_that_failed(
    abused: AgentProcess, tmp_path: Path, deed: str, kind: FailureKind, named: str
) -> None:
    log = tmp_path / "pid"
    failure = _failure(abused, deed, str(log))
    assert failure.kind is kind
    assert named in failure.message
    assert is_gone(int(log.read_text()))


def test_an_escaped_child_dies_with_a_killed_agent(site: Path, tmp_path: Path) -> None:
    del site
    log = tmp_path / "pid"
    with AgentProcess(tmp_path / "state") as agent:
        wire = Wire(agent.address)
        wire.describe()
        wire.submit(_rough_job("escape-and-hang", str(log)), b"x")
        until(lambda: log.exists() and log.read_text().endswith("\n"))
        family = psutil.Process(agent.pid).children(recursive=True)
        assert len(family) >= 3
        folder = Path(family[0].cwd())
        assert folder.name.startswith("boardfront-worker-")
        agent.kill()
        until(lambda: all(is_gone(process.pid) for process in family), within_s=5.0)
        until(lambda: not folder.exists(), within_s=5.0)
        assert is_gone(int(log.read_text()))
        wire.close()


@pytest.mark.slow
def test_a_job_that_takes_the_agent_down_twice_is_not_tried_again(tmp_path: Path) -> None:
    hanging, waiting = programme(fault="hang-run"), programme(time_s=0.002)
    fatal, patient = make_job(hanging), make_job(waiting)
    with AgentProcess(tmp_path / "state") as agent:
        for life in range(2):
            wire = Wire(agent.address)
            wire.submit(fatal, hanging)
            wire.submit(patient, waiting)
            before = records.Interrupted(reason="the agent died while it measured this")
            events = wire.watch(fatal.job_id)
            lives = 0
            for event in events:
                lives += event.body == before
                if lives == life and in_phase(Phase.WARMING_UP)(event):
                    break
            wire.close()
            agent.kill()
            agent.start()
        wire = Wire(agent.address)
        events_of_fatal = list(wire.watch(fatal.job_id))
        failure = failure_of(answers(events_of_fatal)["s0"])
        assert failure.kind is FailureKind.DEVICE_LOST
        assert failure.message.startswith("the agent died 2 times while it measured this")
        assert [event.index for event in events_of_fatal] == list(range(len(events_of_fatal)))
        # What only waited while the agent died is measured, and was never suspected.
        result = result_of(answers(list(wire.watch(patient.job_id)))["s0"])
        assert result.statistics.median_s == pytest.approx(0.002, rel=0.01)
        wire.close()


@pytest.mark.slow
def test_stopping_an_agent_in_good_order_is_no_death(tmp_path: Path) -> None:
    slow = programme(sleep="on", time_s=0.002)
    job = make_job(slow, precision=dataclasses.replace(harness.QUICK, min_duration_s=0.6))
    with AgentProcess(tmp_path / "state") as agent:
        wire = Wire(agent.address)
        wire.submit(job, slow)
        for _ in range(2):
            wire.wait_for(job.job_id, in_phase(Phase.COMPILING))
            wire.close()
            assert agent.terminate() == 0
            agent.start()
            wire = Wire(agent.address)
        events = list(wire.watch(job.job_id))
        result_of(answers(events)["s0"])
        reasons = [e.body.reason for e in events if isinstance(e.body, records.Interrupted)]
        assert set(reasons) <= {"the agent was stopped", "the agent stopped and started again"}
        wire.close()


def test_the_agent_is_still_the_same_process(abused: AgentProcess) -> None:
    assert not is_gone(abused.pid)
    wire = Wire(abused.address)
    assert wire.describe().queued_jobs == 0
    wire.close()
