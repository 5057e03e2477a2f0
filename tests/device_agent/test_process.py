"""A worker process: every wait ends, and nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.device_agent import harness

from boardfront.device_agent import answers, guard
from boardfront.device_agent.process import (
    WorkerCancelledError,
    WorkerFailedError,
    WorkerProcess,
)
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from pathlib import Path

_PROBE = {"do": "probe"}


def test_closing_twice_kills_once() -> None:
    worker = WorkerProcess()
    worker.ask(_PROBE, within_s=harness.WITHIN_S, what="probe")
    open_before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - Path has no count
    pid = worker._process.pid
    worker.close()
    assert harness.is_gone(pid)
    assert len(os.listdir("/proc/self/fd")) == open_before - 4  # noqa: PTH208
    worker.close()


def test_a_worker_that_cannot_be_started_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    open_before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(FileNotFoundError, match="no-python"):
        WorkerProcess()
    assert set(os.listdir("/proc/self/fd")) == open_before  # noqa: PTH208
    assert list(tmp_path.iterdir()) == []


def test_a_worker_asked_out_of_order_crashes_and_says_why() -> None:
    with WorkerProcess() as worker, pytest.raises(WorkerFailedError) as caught:
        worker.ask({"do": "compile"}, within_s=harness.WITHIN_S, what="compile")
    assert caught.value.failure.kind is FailureKind.CRASHED
    assert "needs the command 'load' first" in caught.value.failure.detail


def test_asking_a_dead_worker_is_a_crash() -> None:
    with WorkerProcess() as worker:
        worker._process.kill()
        worker._process.wait(timeout=harness.WITHIN_S)
        with pytest.raises(WorkerFailedError, match="died by signal SIGKILL during probe"):
            worker.ask(_PROBE, within_s=harness.WITHIN_S, what="probe")


def test_a_deadline_of_nothing_is_over_at_once() -> None:
    with WorkerProcess() as worker:
        begin_s = time.monotonic()
        with pytest.raises(
            WorkerFailedError, match="timeout: probe took longer than the 0 s asked"
        ):
            worker.ask(_PROBE, within_s=0.0, what="probe")
        assert time.monotonic() - begin_s < 1.0


def test_a_timeout_names_the_deadline_that_was_asked_not_what_was_left_of_it() -> None:
    with WorkerProcess() as worker:
        worker.ask(_PROBE, within_s=harness.WITHIN_S, what="warm-up")
        with pytest.raises(WorkerFailedError) as caught:
            worker.ask(_PROBE, within_s=0.001, what="run")
    assert caught.value.failure.message == (
        f"run took longer than the {harness.WITHIN_S:g} s asked for warm-up and run together"
    )


def test_a_guard_that_was_stopped_is_killed_and_so_is_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "KILL_WITHIN_S", 0.1)
    with WorkerProcess() as worker:
        worker.ask(_PROBE, within_s=harness.WITHIN_S, what="probe")
        family = [worker._process.pid, *guard.descendants(worker._process.pid)]
        assert len(family) == 2
        worker._process.send_signal(signal.SIGSTOP)
    harness.until(lambda: all(harness.is_gone(pid) for pid in family), within_s=2.0)


def test_a_worker_whose_guard_is_killed_dies() -> None:
    with WorkerProcess() as worker:
        worker.ask(_PROBE, within_s=harness.WITHIN_S, what="probe")
        (pid,) = guard.descendants(worker._process.pid)
        worker._process.kill()
        harness.until(lambda: harness.is_gone(pid), within_s=2.0)


def test_an_answer_in_pieces_and_two_at_once_are_read_one_by_one() -> None:
    with WorkerProcess() as worker:
        worker._buffer += b'{"a": 1}\n{"b": 2}\n{"c"'
        first = worker.ask(_PROBE, within_s=harness.WITHIN_S, what="probe")
        second = worker.ask(_PROBE, within_s=harness.WITHIN_S, what="probe")
        assert (first, second) == ({"a": 1}, {"b": 2})
        with pytest.raises(WorkerFailedError, match="is not JSON"):
            worker.ask(_PROBE, within_s=harness.WITHIN_S, what="probe")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"samples_s": [0.1, NaN]}', "the backend's clock gave nan s during run"),
        (b'{"end_s": Infinity}', "the backend's clock gave inf s during run"),
        (b'{"runs_s": [0.1, -0.5]}', "the backend's clock gave -0.5 s for a run during run"),
        (b'{"samples_s": [0.0]}', "the backend's clock gave 0 s for a run during run"),
        (b'{"steady_s": 1e999}', "the backend's clock gave inf s for a run during run"),
        (b'{"samples_s": ["0.1"]}', "the backend's clock gave '0.1' for a run during run"),
        (b'{"samples_s": true}', "the backend's clock gave True for a run during run"),
        (b"[1]", "the worker's answer to run is none of its own"),
        (b'{"failure": "gone", "message": ""}', "the worker's answer to run is none of its own"),
        (b'{"failure": "crashed"}', "the worker's answer to run is none of its own"),
        (b"\xff\xfe", "the worker's answer to run is not JSON"),
        (b"[" * 100_000, "the worker's answer to run is not JSON"),
    ],
)
def test_an_answer_of_no_sound_worker_is_refused(line: bytes, message: str) -> None:
    with pytest.raises(answers.WrongAnswerError) as caught:
        answers.parse(line, "run")
    assert str(caught.value) == message


def test_a_sound_answer_is_taken_as_it_is() -> None:
    answer = {"start_s": 0.0, "samples_s": [1e-9, 2], "settled": True, "other": None}
    assert answers.parse(json.dumps(answer).encode(), "run") == answer


@pytest.mark.parametrize("name", ["", "boardfront (a) b"])
def test_descendants_are_the_same_by_either_way_of_the_kernel(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    code = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
    top = subprocess.Popen([sys.executable, "-c", code, name], start_new_session=True)
    try:
        harness.until(lambda: len(guard.descendants(top.pid)) == 1)
        by_children = guard.descendants(top.pid)
        monkeypatch.setattr("os.path.exists", lambda path: path != "/proc/thread-self/children")
        assert guard.descendants(top.pid) == by_children
    finally:
        os.killpg(top.pid, signal.SIGKILL)
        top.wait(timeout=harness.WITHIN_S)


def test_a_cancelled_wait_ends() -> None:
    cancelled = threading.Event()
    cancelled.set()
    with WorkerProcess(cancelled) as worker, pytest.raises(WorkerCancelledError):
        worker.ask(_PROBE, within_s=harness.WITHIN_S, what="probe")


def test_a_worker_whose_pipe_closes_leaves_by_itself() -> None:
    with WorkerProcess() as worker:
        worker.ask(_PROBE, within_s=harness.WITHIN_S, what="probe")
        worker._commands.close()
        assert worker._process.wait(timeout=harness.WITHIN_S) == 0
