"""A worker process: every wait ends, and nothing of it is left."""

from __future__ import annotations

import os
import threading
import time

import pytest
from tests.device_agent import harness

from boardfront.device_agent.process import (
    WorkerCancelledError,
    WorkerFailedError,
    WorkerProcess,
)
from boardfront.protos.records import FailureKind

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
        with pytest.raises(WorkerFailedError, match="timeout: probe took longer"):
            worker.ask(_PROBE, within_s=0.0, what="probe")
        assert time.monotonic() - begin_s < 1.0


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
