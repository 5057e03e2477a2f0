"""Following a run says at every moment what its journal says, and reads nothing twice."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.device_agent.harness import until
from tests.host.searching import EPOCHS, EVALUATIONS, EXPERIMENT, Place

from boardfront.host import journal_records as records
from boardfront.host.control import JobCanceller, RunControl, pause_mark
from boardfront.host.fleet.under_way import JobsUnderWay
from boardfront.host.journal import (
    CorruptJournalError,
    Journal,
    lock_path,
    read_journal,
    read_line,
)
from boardfront.host.run_folder import RunFolder, create_run
from boardfront.host.view.follow import SILENT_S, RunFollower, read_run
from boardfront.host.view.run_view import RunState
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import FailureKind, Verdict
from boardfront.search.evaluation import Candidate, EvaluationFailure, Latency
from boardfront.search.loop import front_of
from boardfront.search.objective import Objective, ObjectiveKind

if TYPE_CHECKING:
    from pathlib import Path

LIMITED = EXPERIMENT.replace('target = "here"', 'target = "here"\nlimit_ms = 5')
OBJECTIVES = (
    Objective(name="accuracy", kind=ObjectiveKind.ACCURACY),
    Objective(name="latency", kind=ObjectiveKind.LATENCY, target="here", limit=0.005),
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run that has not begun."""
    file = tmp_path / "tiny.toml"
    file.write_text(LIMITED)
    return create_run(tmp_path / "runs", "tiny", file)


def latency(median_s: float) -> Latency:
    """A time with an interval of 2 %."""
    return Latency(
        median_s=median_s,
        low_s=median_s * 0.99,
        high_s=median_s * 1.01,
        verdict=Verdict.OK,
        measurement_id=1,
    )


def evaluation(
    index: int, accuracy: float, median_s: float, *, elapsed_s: float = 1.0
) -> records.Evaluation:
    """A candidate that was scored."""
    return records.Evaluation(
        index=index,
        generation=index // 5,
        encoding=f"n{index}",
        scores={"accuracy": accuracy, "latency": median_s},
        validation_accuracy=accuracy,
        latencies={"here": latency(median_s)},
        estimator_state_id="s",
        elapsed_s=elapsed_s,
    )


FAILED = records.Evaluation(
    index=7,
    generation=1,
    encoding="n7",
    scores={"accuracy": 0.9, "latency": None},
    failure=EvaluationFailure(message="no memory", kind=FailureKind.OUT_OF_MEMORY, target="here"),
    validation_accuracy=0.9,
    estimator_state_id="s",
    elapsed_s=1.0,
)
STARTED = records.RunStarted(
    experiment_digest="d", seed=3, time_unix_s=100.0, versions={"boardfront": "0.1"}
)
REFERENCE = records.ReferenceTimed(target="here", encoding="r", latency=latency(0.001))
READY = records.EstimatorReady(state_id="s")


def epoch(number: int, elapsed_s: float) -> records.TrainingProgress:
    """An epoch of the supernet."""
    return records.TrainingProgress(
        epoch=number, epochs=EPOCHS, loss=2.0, learning_rate=0.1, elapsed_s=elapsed_s
    )


def whole(encoding: str) -> records.FinalistMeasured:
    """A finalist that was measured."""
    return records.FinalistMeasured(
        encoding=encoding, target="here", predicted_s=0.002, latency=latency(0.003)
    )


def test_a_finished_run_is_seen_whole(finished: Place) -> None:
    folder = finished.run_folder
    view = read_run(folder)
    front = json.loads(folder.front_json.read_text())
    assert view.state is RunState.COMPLETED
    assert (view.name, view.seed, view.evaluations) == (folder.path.name, 3, EVALUATIONS)
    assert len(view.candidates) == EVALUATIONS
    assert len(view.training) == EPOCHS
    assert {member.encoding for member in view.front} == {m["encoding"] for m in front["members"]}
    assert len(view.finalists) == len(view.front)
    assert view.started_unix_s is not None
    assert view.ended_unix_s is not None
    assert view.ended_unix_s > view.started_unix_s
    assert view.experiment_text == EXPERIMENT
    assert [target.name for target in view.targets] == ["here"]
    assert view.phase.name == ""
    assert view.events[-1].text == "completed"


def test_looking_record_by_record_ends_like_one_look(finished: Place, tmp_path: Path) -> None:
    source = finished.run_folder
    copy = RunFolder(tmp_path / source.path.name)
    copy.path.mkdir()
    copy.experiment.write_bytes(source.experiment.read_bytes())
    follower = RunFollower(copy)
    assert follower.poll().candidates == ()
    seen = []
    with copy.journal.open("ab", buffering=0) as journal:
        for line in source.journal.read_bytes().splitlines(keepends=True):
            for part in (line[:17], line[17:]):
                journal.write(part)
                seen.append(len(follower.poll().candidates))
    assert seen == sorted(seen)
    assert set(seen) == set(range(EVALUATIONS + 1))
    last, once = follower.poll(), read_run(source)
    assert last.candidates == once.candidates
    assert last.generations == once.generations
    assert last.finalists == once.finalists
    assert last.events == once.events


def test_the_front_is_the_one_of_the_search(folder: RunFolder) -> None:
    rng = np.random.default_rng(5)
    follower = RunFollower(folder)
    candidates = []
    with Journal(folder.journal) as journal:
        journal.append(STARTED)
        for index in range(120):
            # Few levels, so that many are equal; some break the limit of 5 ms.
            accuracy, median_s = rng.integers(12) / 12, (1 + rng.integers(7)) / 1000
            record = evaluation(index, accuracy, median_s)
            journal.append(record)
            candidates.append(
                Candidate(
                    encoding=record.encoding,
                    estimator_state_id="s",
                    accuracy=accuracy,
                    latencies=record.latencies,
                )
            )
            if index % 7 == 0:
                front = {member.encoding for member in follower.poll().front}
                assert front == {c.encoding for c in front_of(candidates, OBJECTIVES)}


def test_a_time_found_wrong_is_replaced_and_the_front_with_it(folder: RunFolder) -> None:
    follower = RunFollower(folder)
    with Journal(folder.journal) as journal:
        for record in (STARTED, evaluation(0, 0.5, 0.002), evaluation(1, 0.6, 0.003), FAILED):
            journal.append(record)
        assert [member.encoding for member in follower.poll().front] == ["n0", "n1"]
        wrong = records.Remeasured(target="here", encoding="n0", latency=latency(0.004))
        journal.append(wrong)
        view = follower.poll()
        assert [member.encoding for member in view.front] == ["n1"]
        assert view.candidates[0].latencies["here"] == wrong.latency
        assert view.remeasured == (wrong,)
        # A later word on another architecture leaves it so; a limit broken takes it off.
        journal.append(records.Remeasured(target="here", encoding="n1", latency=latency(0.006)))
        assert [member.encoding for member in follower.poll().front] == ["n0"]
    failed = view.candidates[2]
    assert failed.failure == FAILED.failure
    assert not failed.is_on_front
    assert any("candidate 7 n7 failed: no memory" in e.text and e.is_trouble for e in view.events)


def test_time_left_of_each_phase(folder: RunFolder) -> None:
    now = [0.0]
    follower = RunFollower(folder, clock=lambda: now[0])

    def look(waited_s: float) -> tuple[str, int, int, float | None]:
        now[0] = folder.journal.stat().st_mtime + waited_s
        phase = follower.poll().phase
        left_s = None if phase.left_s is None else round(phase.left_s, 3)
        return phase.name, phase.done, phase.total, left_s

    with Journal(folder.journal) as journal:
        journal.append(STARTED)
        assert look(0) == ("references", 0, 1, None)
        journal.append(REFERENCE)
        assert look(0) == ("training", 0, EPOCHS, None)
        journal.append(epoch(1, 10.0))
        assert look(0) == ("training", 1, EPOCHS, 20.0)
        assert look(4) == ("training", 1, EPOCHS, 16.0)
        assert look(99) == ("training", 1, EPOCHS, 10.0)  # it is late, by nobody knows how much
        journal.append(epoch(2, 20.0))
        journal.append(epoch(3, 30.0))
        journal.append(READY)
        assert look(0) == ("search", 0, EVALUATIONS, None)
        for index in range(EVALUATIONS - 1):
            journal.append(evaluation(index, 0.1 * index, 0.001 + 0.0001 * index, elapsed_s=2.0))
        assert look(0.5) == ("search", EVALUATIONS - 1, EVALUATIONS, 1.5)
        journal.append(evaluation(EVALUATIONS - 1, 0.95, 0.004, elapsed_s=2.0))
        # 10 members on the front, 2 processes each, which take as long as a candidate.
        assert look(1) == ("finalists", 0, 10, 39.0)
        began_s = folder.journal.stat().st_mtime
        journal.append(whole("n1"))
        os.utime(folder.journal, (began_s + 3, began_s + 3))
        assert look(0) == ("finalists", 1, 10, 27.0)


def test_states(folder: RunFolder) -> None:
    follower = RunFollower(folder)
    assert follower.poll().reason == "the run has not begun"
    with Journal(folder.journal) as journal:
        journal.append(STARTED)
        assert follower.poll().state is RunState.RUNNING
        # It waits because it was asked to; then it is asked to go on.
        (folder.control / "pause").touch()
        states = []

        def say(line: str) -> None:
            states.append((line.split(":", maxsplit=1)[0], follower.poll().state))
            if line.startswith("paused"):
                (folder.control / "resume").touch()

        RunControl(folder, say).obey()
        assert states == [("paused", RunState.PAUSED), ("going on", RunState.PAUSED)]
        assert follower.poll().state is RunState.RUNNING
        assert not pause_mark(folder).exists()
    killed = follower.poll()
    assert killed.state is RunState.INTERRUPTED
    assert killed.reason.startswith("it ended without a word")
    assert killed.phase.left_s is None
    with Journal(folder.journal) as journal:
        journal.append(STARTED)
        journal.append(records.Interrupted(reason="a board went away", time_unix_s=150.0))
    stopped = follower.poll()
    assert (stopped.state, stopped.reason) == (RunState.INTERRUPTED, "a board went away")
    assert (stopped.started_unix_s, stopped.ended_unix_s) == (100.0, 150.0)
    with Journal(folder.journal) as journal:
        journal.append(STARTED)
        again = follower.poll()
        assert (again.state, again.ended_unix_s) == (RunState.RUNNING, None)
        journal.append(
            records.RunFinished(
                status=records.RunStatus.FAILED, time_unix_s=200.0, message="no disk"
            )
        )
    failed = follower.poll()
    assert (failed.state, failed.reason) == (RunState.FAILED, "no disk")
    assert failed.interruptions == ("a board went away",)


def test_a_pause_that_a_kill_left_over_is_none(folder: RunFolder) -> None:
    pause_mark(folder).touch()
    with Journal(folder.journal) as journal:
        journal.append(STARTED)
    assert read_run(folder).state is RunState.INTERRUPTED


def test_a_run_of_another_machine_goes_on_as_long_as_it_is_heard(folder: RunFolder) -> None:
    with Journal(folder.journal) as journal:
        journal.append(STARTED)
    lock = lock_path(folder.journal)
    assert lock.read_text().split() == [str(os.getpid()), platform.node()]
    lock.write_text("4711 some-other-host")
    heard_s = folder.journal.stat().st_mtime
    near = RunFollower(folder, clock=lambda: heard_s + SILENT_S - 1)
    late = RunFollower(folder, clock=lambda: heard_s + SILENT_S + 1)
    assert near.poll().state is RunState.RUNNING
    assert late.poll().state is RunState.INTERRUPTED


def test_a_run_of_another_machine_gives_signs_while_its_journal_is_silent(
    folder: RunFolder,
) -> None:
    with Journal(folder.journal) as journal:
        journal.append(STARTED)
    lock = lock_path(folder.journal)
    lock.write_text("4711 some-other-host")
    long_ago_s = folder.journal.stat().st_mtime - 2 * SILENT_S
    for path in (folder.journal, lock):
        os.utime(path, (long_ago_s, long_ago_s))
    follower = RunFollower(folder)
    assert follower.poll().state is RunState.INTERRUPTED
    folder.log.touch()
    assert follower.poll().state is RunState.RUNNING
    folder.log.unlink()
    assert follower.poll().state is RunState.INTERRUPTED
    # It measures, trains or waits for hours: this is what its process has beside that.
    with JobCanceller(folder, JobsUnderWay(), lambda _: None):
        until(lambda: follower.poll().state is RunState.RUNNING)
    assert follower.poll().heard_unix_s == pytest.approx(long_ago_s)


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    follower = RunFollower(RunFolder(tmp_path / "runs" / "later"))
    view = follower.poll()
    assert (view.name, view.candidates, view.targets) == ("later", (), ())
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "tiny.toml"
    file.write_text(EXPERIMENT)
    made = create_run(tmp_path / "runs", "tiny", file)
    made.path.rename(tmp_path / "runs" / "later")
    assert [target.name for target in follower.poll().targets] == ["here"]


def test_a_device_that_only_the_run_s_machine_knows(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(EXPERIMENT.replace('device = "local"', 'device = "board-of-the-other-lab"'))
    view = read_run(create_run(tmp_path / "runs", "tiny", file))
    assert view.targets[0].device == "board-of-the-other-lab"


def test_a_torn_line_is_no_line_until_it_is_whole(folder: RunFolder) -> None:
    follower = RunFollower(folder)
    with Journal(folder.journal) as journal:
        journal.append(STARTED)
        journal.append(evaluation(0, 0.5, 0.002))
    line = folder.journal.read_bytes().splitlines(keepends=True)[-1].replace(b"n0", b"n1")
    with folder.journal.open("ab") as file:
        file.write(line[:40])
    assert len(follower.poll().candidates) == 1
    with Journal(folder.journal) as journal:  # cuts the torn line off
        journal.append(evaluation(2, 0.6, 0.003))
    assert [c.encoding for c in follower.poll().candidates] == ["n0", "n2"]


def test_another_journal_in_its_place_is_read_anew(folder: RunFolder) -> None:
    follower = RunFollower(folder)
    with Journal(folder.journal) as journal:
        journal.append(STARTED)
        journal.append(evaluation(0, 0.5, 0.002))
    assert len(follower.poll().candidates) == 1
    folder.journal.unlink()
    assert follower.poll().candidates == ()
    with Journal(folder.journal) as journal:
        for index in (3, 4, 5):
            journal.append(evaluation(index, 0.5, 0.002))
    assert [c.encoding for c in follower.poll().candidates] == ["n3", "n4", "n5"]


def test_records_of_a_newer_kind_are_passed_over_and_damage_is_told(folder: RunFolder) -> None:
    follower = RunFollower(folder)
    with Journal(folder.journal) as journal:
        journal.append(STARTED)
    with folder.journal.open("ab") as file:
        file.write(b'{"v": 9, "type": "dream", "of": "sheep"}\n')
    assert follower.poll().started_unix_s == 100.0
    whole_until_now = folder.journal.read_bytes()
    folder.journal.write_bytes(whole_until_now + b"what?\n")
    for _ in range(2):
        with pytest.raises(CorruptJournalError, match=r"journal\.jsonl:3: .* no JSON"):
            follower.poll()
    folder.journal.write_bytes(whole_until_now)
    assert follower.poll().started_unix_s == 100.0


def test_what_cannot_be_read_is_one_line(folder: RunFolder) -> None:
    folder.journal.mkdir()
    with pytest.raises(WrongInputError, match="got Is a directory: check the run's folder"):
        read_run(folder)


def test_following_writes_nothing_and_keeps_no_lock(folder: RunFolder) -> None:
    def content() -> dict[str, tuple[int, bytes]]:
        files = [path for path in folder.path.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    follower = RunFollower(folder)
    with Journal(folder.journal) as journal:
        journal.append(STARTED)
        before = content()
        follower.poll()
        assert content() == before
    for _ in range(3):
        follower.poll()
    assert content() == before
    Journal(folder.journal).close()


def test_a_long_journal_is_read_once(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    follower = RunFollower(folder)
    with Journal(folder.journal) as journal:
        journal.append(STARTED)
        journal.append(evaluation(0, 0.5, 0.002))
    line = folder.journal.read_bytes().splitlines(keepends=True)[-1]
    numbers = []

    def counting(path: Path, number: int, content: bytes) -> object:
        numbers.append(number)
        return read_line(path, number, content)

    monkeypatch.setattr("boardfront.host.view.journal_tail.read_line", counting)
    for index in range(1, 300):
        with folder.journal.open("ab") as file:
            file.write(line.replace(b'"n0"', b'"n%d"' % index))
        if index % 50 == 0:
            follower.poll()
    assert len(follower.poll().candidates) == 300
    assert numbers == list(range(1, len(read_journal(folder.journal).records) + 1))
