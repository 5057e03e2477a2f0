"""A journal survives kills, cuts a torn line, and takes nothing else for a record."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from boardfront.host.journal import (
    CorruptJournalError,
    Journal,
    JournalContent,
    JournalError,
    read_journal,
)
from boardfront.host.journal_records import (
    TYPES,
    EstimatorReady,
    Evaluation,
    FinalistMeasured,
    GenerationDone,
    Interrupted,
    Record,
    ReferenceTimed,
    Remeasured,
    RunFinished,
    RunStarted,
    RunStatus,
    TrainingProgress,
    UnknownRecord,
)
from boardfront.host.run_lock import RunLockedError
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import FailureKind, Verdict
from boardfront.search.evaluation import EvaluationFailure, Latency

_ROOT = Path(__file__).parents[2]
_LATENCY = Latency(
    median_s=0.002,
    low_s=0.0019,
    high_s=0.0021,
    verdict=Verdict.OK,
    measurement_id=7,
)
_RECORDS: tuple[Record, ...] = (
    RunStarted(experiment_digest="d" * 64, seed=1, time_unix_s=1.5, versions={"pymoo": "0.6.2"}),
    TrainingProgress(epoch=1, epochs=2, loss=2.3, learning_rate=0.1, elapsed_s=3.0),
    EstimatorReady(state_id="s1"),
    Evaluation(
        index=0,
        generation=0,
        encoding="0123",
        scores={"accuracy": 0.9, "latency": 0.002},
        validation_accuracy=0.9,
        latencies={"laptop": _LATENCY},
        estimator_state_id="s1",
        elapsed_s=0.5,
    ),
    Evaluation(
        index=1,
        generation=0,
        encoding="3210",
        scores={"accuracy": 0.8, "latency": None},
        failure=EvaluationFailure(
            message="signal 11\nat line 2",
            kind=FailureKind.CRASHED,
            target="laptop",
        ),
        estimator_state_id="s1",
        elapsed_s=0.5,
    ),
    GenerationDone(generation=0, front_size=1, hypervolume=0.25),
    Interrupted(reason="SIGTERM", time_unix_s=2.0),
    FinalistMeasured(
        encoding="0123",
        target="laptop",
        predicted_s=0.0021,
        latency=_LATENCY,
        process_medians_s=(0.002, 0.0021),
        measurement_ids=(8, 9),
    ),
    RunFinished(status=RunStatus.COMPLETED, time_unix_s=3.0),
)
# Of types that the first journals did not have.
_LATER: tuple[Record, ...] = (
    ReferenceTimed(target="laptop", encoding="1111", latency=_LATENCY),
    Remeasured(target="laptop", encoding="0123", latency=_LATENCY),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def _write(path: Path, *records: Record) -> None:
    with Journal(path) as journal:
        for record in records:
            journal.append(record)


def test_a_predicted_time_comes_back_as_one(path: Path) -> None:
    predicted = Latency(median_s=0.002, low_s=0.001, high_s=0.003, predicted=True)
    scored = Evaluation(
        index=0,
        generation=0,
        encoding="0123",
        scores={"latency": 0.002},
        latencies={"laptop": predicted},
        estimator_state_id="s1",
        elapsed_s=0.0,
    )
    measured = FinalistMeasured(
        encoding="0123",
        target="laptop",
        predicted_s=0.002,
        predicted_low_s=0.001,
        predicted_high_s=0.003,
        predicted_by="additive, calibrated",
        level=1.02,
        latency=_LATENCY,
        limit_s=0.0019,
        over_limit=True,
    )
    _write(path, scored, measured)
    assert read_journal(path).records == (scored, measured)


def test_what_is_written_lazily_stands_there_at_once(path: Path) -> None:
    with Journal(path) as journal:
        for number in range(20):
            journal.append_lazily(EstimatorReady(state_id=f"s{number}"))
            # Another process sees it, and it outlives this one; a power cut is another matter.
            assert len(read_journal(path).records) == number + 1
        with pytest.raises(WrongInputError):
            journal.append_lazily(Interrupted(reason="", time_unix_s=float("nan")))
    with pytest.raises(JournalError, match="got a closed one"):
        journal.append_lazily(EstimatorReady(state_id="late"))
    assert len(read_journal(path).records) == 20


def test_every_record_comes_back_as_it_was(path: Path) -> None:
    records = (*_RECORDS, *_LATER)
    assert {type(record) for record in records} == set(TYPES.values())
    _write(path, *records[:4])
    _write(path, *records[4:])
    assert read_journal(path) == JournalContent(records=records)


def test_a_line_is_json_with_version_and_type(path: Path) -> None:
    _write(path, _RECORDS[2])
    assert path.read_text() == '{"v":1,"type":"estimator_ready","state_id":"s1"}\n'


def test_the_journal_of_version_1_is_read() -> None:
    # Origin: written by this project at version 1.
    old = Path(__file__).parent / "fixtures" / "journal_v1.jsonl"
    assert read_journal(old).records == _RECORDS


def test_a_torn_last_line_is_cut_off_and_told(path: Path) -> None:
    _write(path, *_RECORDS[:3])
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert len(read_journal(path).records) == 2
    with Journal(path) as journal:
        assert journal.content.records == _RECORDS[:2]
        assert journal.content.torn == whole.splitlines()[2][:-4]
        journal.append(_RECORDS[2])
    assert path.read_bytes() == whole


def test_a_new_journal_is_empty(path: Path) -> None:
    with Journal(path) as journal:
        assert journal.content == JournalContent(records=())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"journal\.jsonl:2: expected a journal record, got no JSON"),
        ("", "got no JSON"),
        ("[1]", r"got \[1\]"),
        ('{"type":"estimator_ready"}', "got version None and type 'estimator_ready'"),
        ('{"v":true,"type":"x"}', "got version True and type 'x'"),
        ('{"v":1,"type":"estimator_ready"}', "expected the key 'state_id' at estimator_ready"),
        ('{"v":1,"type":"estimator_ready","state_id":1}', "expected str at .*state_id, got 1"),
        ('{"v":1,"type":"estimator_ready","state_id":"s","x":1}', "got the key 'x'"),
    ],
)
def test_any_other_corruption_is_told_with_its_line(path: Path, line: str, message: str) -> None:
    _write(path, *_RECORDS[:2])
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{line}\n{second}\n")
    before = path.read_bytes()
    with pytest.raises(CorruptJournalError, match=message) as error:
        Journal(path)
    assert error.value.line == 2
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("version", "name"), [(1, "of_tomorrow"), (2, "evaluation")])
def test_newer_records_are_kept_as_they_stand(path: Path, version: int, name: str) -> None:
    path.write_text(json.dumps({"v": version, "type": name, "x": [1]}) + "\n")
    expected = UnknownRecord(type=name, version=version, body={"x": [1]})
    assert read_journal(path).records == (expected,)


def test_nan_is_never_written(path: Path) -> None:
    with Journal(path) as journal:
        with pytest.raises(WrongInputError, match="finite number at hypervolume, got nan"):
            journal.append(GenerationDone(generation=0, front_size=1, hypervolume=float("nan")))
        assert path.read_bytes() == b""


def test_a_missing_journal(path: Path) -> None:
    with pytest.raises(WrongInputError, match="expected a run's journal, got No such file"):
        read_journal(path)


def test_a_full_disk_leaves_no_part_of_a_record(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _write(path, _RECORDS[0])
    before = path.read_bytes()
    write = os.write

    def _fail(descriptor: int, data: bytes) -> int:
        if len(data) < 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:-5])

    with Journal(path) as journal:
        monkeypatch.setattr(os, "write", _fail)
        with pytest.raises(JournalError, match="got No space left on device: check the folder"):
            journal.append(_RECORDS[1])
    assert path.read_bytes() == before


def test_a_closed_journal_takes_nothing(path: Path) -> None:
    journal = Journal(path)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="got a closed one"):
        journal.append(_RECORDS[0])


def test_a_run_has_one_writer_at_a_time(path: Path) -> None:
    with Journal(path), pytest.raises(RunLockedError, match=rf"process {os.getpid()}: wait for"):
        Journal(path)
    Journal(path).close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunLockedError, match="got No such file or directory: check the run's"):
        Journal(tmp_path / "none" / "journal.jsonl")


def test_a_killed_writer_loses_nothing_it_had_appended(path: Path) -> None:
    command = [sys.executable, "-m", "tests.host.journal_writer", str(path)]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            last = int(writer.stdout.readline())
        with pytest.raises(RunLockedError, match=f"process {writer.pid}"):
            Journal(path)
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        assert writer.wait(timeout=30) == -signal.SIGKILL
    # The kill may cut the last number short; the ones before it are whole.
    told = max([last, *(int(number) for number in rest[:-1])])
    with Journal(path) as journal:
        numbers = [
            record.state_id.split("state-")[1]
            for record in journal.content.records
            if isinstance(record, EstimatorReady)
        ]
        assert numbers == [str(i) for i in range(len(numbers))]
        assert len(numbers) >= told + 1
        journal.append(_RECORDS[0])
