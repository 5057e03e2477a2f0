"""The agent's queue: jobs outlive connections and the agent's own process.

One thread runs jobs, first come first served. Every event is kept until the job is acknowledged,
so a watcher may come, go, and come back.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from boardfront.device_agent.journal import JobFolder, read_all
from boardfront.device_agent.process import WorkerCancelledError
from boardfront.device_agent.runner import JobRun, Prepared
from boardfront.protos.errors import (
    BoardfrontError,
    JobConflictError,
    UnknownJobError,
    WrongInputError,
)
from boardfront.protos.records import (
    EventBody,
    Failure,
    FailureKind,
    Finished,
    Interrupted,
    JobEvent,
    JobState,
    Queued,
    Result,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from boardfront.protos.records import Job, Subject

    Prepare = Callable[[Job, Subject], Prepared | Failure]

_log = logging.getLogger(__name__)

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_REMEMBERED_ACKNOWLEDGED = 10_000
_WAIT_S = 0.5


class _Entry:
    """A job in the queue, with its events."""

    def __init__(self, job: Job, folder: JobFolder, submitted_s: float) -> None:
        self.job = job
        self.folder = folder
        self.submitted_s = submitted_s
        self.events: list[JobEvent] = []
        self.state = JobState.QUEUED
        self.cancelled = threading.Event()

    def answered(self) -> set[str]:
        """Return the subjects that have their result or failure."""
        return {
            event.subject_id for event in self.events if isinstance(event.body, Result | Failure)
        }


class JobQueue:
    """Takes jobs, runs them one at a time, keeps their events.

    Args:
        folder: Where jobs are kept.
        prepare: Turns a subject into what a worker needs, or into its failure; called when the
            job starts, because the device may have changed while it waited.

    Thread-safe. `start` recovers the jobs of an earlier process: finished ones keep their
    results, an interrupted one runs again.
    """

    def __init__(self, folder: Path, prepare: Prepare) -> None:
        self._folder = folder
        self._prepare = prepare
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._acknowledged: OrderedDict[str, None] = OrderedDict()
        self._changed = threading.Condition()
        self._running: _Entry | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run_forever, name="jobs", daemon=True)

    def start(self) -> None:
        """Recover earlier jobs and begin to run."""
        with self._changed:
            for folder, job, events in read_all(self._folder):
                self._recover(folder, job, events)
        self._thread.start()

    def stop(self) -> None:
        """Stop after killing the worker of the running job, which will run again at `start`."""
        with self._changed:
            self._stopping = True
            if self._running is not None:
                self._running.cancelled.set()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)

    @property
    def queued(self) -> int:
        """Number of jobs that wait or run."""
        with self._changed:
            return sum(not entry.state.is_final for entry in self._entries.values())

    @property
    def running_job_id(self) -> str | None:
        """The job that runs now."""
        running = self._running
        return None if running is None else running.job.job_id

    def submit(self, job: Job) -> tuple[JobState, bool]:
        """Put a job into the queue.

        Returns:
            Its state, and whether it is new.

        Raises:
            WrongInputError: If its id or its subjects break the rules.
            JobConflictError: If another job has its id.
        """
        _check(job)
        with self._changed:
            if job.job_id in self._acknowledged:
                return JobState.ACKNOWLEDGED, False
            known = self._entries.get(job.job_id)
            if known is not None:
                if known.job != job:
                    raise JobConflictError(
                        f"job {job.job_id} exists with other content: choose another id"
                    )
                return known.state, False
            entry = _Entry(job, JobFolder(self._folder / job.job_id), time.monotonic())
            entry.folder.create(job)
            position = sum(not other.state.is_final for other in self._entries.values())
            self._entries[job.job_id] = entry
            self._append(entry, "", Queued(position=position))
            return entry.state, True

    def watch(
        self, job_id: str, from_event: int, is_active: Callable[[], bool]
    ) -> Iterator[JobEvent]:
        """Yield a job's events from `from_event` until its last one.

        Args:
            job_id: Of a job that was not acknowledged.
            from_event: Index of the first event wanted.
            is_active: Asked twice a second; False ends the stream.

        Raises:
            UnknownJobError: If there is no such job (any more).
        """
        entry = self._entry(job_id)
        index = from_event
        while is_active():
            with self._changed:
                if index >= len(entry.events) and not entry.state.is_final:
                    self._changed.wait(timeout=_WAIT_S)
                fresh = entry.events[index:]
                final = entry.state.is_final
            yield from fresh
            index += len(fresh)
            if final and not fresh:
                return

    def cancel(self, job_id: str) -> JobState:
        """End a job; its worker dies within a second.

        Raises:
            UnknownJobError: If there is no such job (any more).
        """
        with self._changed:
            entry = self._entry(job_id)
            if entry.state is JobState.QUEUED:
                self._finish(entry, JobState.CANCELLED)
            elif entry.state is JobState.RUNNING:
                entry.cancelled.set()
                self._changed.wait_for(lambda: entry.state.is_final, timeout=5.0)
            return entry.state

    def acknowledge(self, job_id: str) -> None:
        """Forget a finished job.

        A completed one's id stays taken, so that a late `submit` of it does not run it again; a
        cancelled one may be submitted anew.

        Raises:
            UnknownJobError: If there is no such job.
            WrongInputError: If it is not finished.
        """
        with self._changed:
            if job_id in self._acknowledged:
                return
            entry = self._entry(job_id)
            if not entry.state.is_final:
                raise WrongInputError(
                    f"job {job_id} is {entry.state.value}: watch it to its end, or cancel it first"
                )
            del self._entries[job_id]
            if entry.state is JobState.COMPLETED:
                self._acknowledged[job_id] = None
            while len(self._acknowledged) > _REMEMBERED_ACKNOWLEDGED:
                self._acknowledged.popitem(last=False)
            entry.folder.remove()

    def _entry(self, job_id: str) -> _Entry:
        with self._changed:
            entry = self._entries.get(job_id)
        if entry is None:
            raise UnknownJobError(f"no job {job_id[:128]!r} here: submit it (again)")
        return entry

    def _recover(self, folder: JobFolder, job: Job, events: list[JobEvent]) -> None:
        entry = _Entry(job, folder, time.monotonic())
        entry.events = events
        self._entries[job.job_id] = entry
        last = events[-1].body if events else None
        if isinstance(last, Finished):
            entry.state = last.state
        elif len(entry.answered()) == len(job.subjects):
            self._finish(entry, JobState.COMPLETED)
        else:
            self._append(entry, "", Interrupted(reason="the agent stopped and started again"))

    def _run_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._next() is not None)
                if self._stopping:
                    return
                entry = self._next()
                if entry is None:
                    continue
                self._running = entry
                entry.state = JobState.RUNNING
            try:
                self._run(entry)
            finally:
                self._running = None

    def _next(self) -> _Entry | None:
        waiting = (e for e in self._entries.values() if e.state is JobState.QUEUED)
        return next(waiting, None)

    def _run(self, entry: _Entry) -> None:
        state = JobState.COMPLETED
        try:
            answered = entry.answered()
            prepared = {
                subject.subject_id: self._prepared(entry, subject)
                for subject in entry.job.subjects
                if subject.subject_id not in answered
            }
            run = JobRun(
                entry.job,
                prepared,
                lambda subject_id, body: self._append(entry, subject_id, body),
                entry.cancelled,
            )
            run.execute()
        except WorkerCancelledError:
            if self._stopping:
                return
            state = JobState.CANCELLED
        except Exception as error:  # noqa: BLE001 - the next job must still run
            _log.exception("job %s", entry.job.job_id)
            self._fail_rest(entry, f"the agent failed: {type(error).__name__}: {error}")
        self._finish(entry, state)

    def _prepared(self, entry: _Entry, subject: Subject) -> Prepared | Failure:
        waited_s = time.monotonic() - entry.submitted_s
        if waited_s > entry.job.deadlines.queue_s:
            return Failure(
                kind=FailureKind.TIMEOUT,
                message=f"waited {waited_s:.0f} s in the queue, "
                f"its deadline was {entry.job.deadlines.queue_s:g} s",
            )
        try:
            return self._prepare(entry.job, subject)
        except BoardfrontError as error:
            return Failure(kind=FailureKind.UNSUPPORTED, message=str(error))

    def _fail_rest(self, entry: _Entry, message: str) -> None:
        failure = Failure(kind=FailureKind.CRASHED, message=message)
        answered = entry.answered()
        for subject in entry.job.subjects:
            if subject.subject_id not in answered:
                self._append(entry, subject.subject_id, failure)

    def _finish(self, entry: _Entry, state: JobState) -> None:
        with self._changed:
            entry.state = state
            self._append(entry, "", Finished(state=state))

    def _append(self, entry: _Entry, subject_id: str, body: EventBody) -> None:
        with self._changed:
            event = JobEvent(
                index=len(entry.events),
                time_unix_s=time.time(),
                subject_id=subject_id,
                body=body,
            )
            entry.events.append(event)
            entry.folder.append(event)
            self._changed.notify_all()


def _check(job: Job) -> None:
    if not _JOB_ID.fullmatch(job.job_id):
        raise WrongInputError(
            f"job id {job.job_id[:140]!r}: expected 1 to 128 letters, digits, '_' or '-'"
        )
    names = [subject.subject_id for subject in job.subjects]
    if not 1 <= len(names) <= 32 or len(set(names)) != len(names) or "" in names:
        raise WrongInputError(
            f"job {job.job_id} has subjects {names[:40]}: expected 1 to 32 with distinct names"
        )
    precision, deadlines = job.precision, job.deadlines
    if not 0 < precision.relative_half_width < 1 or precision.min_windows < 6:
        raise WrongInputError(
            f"job {job.job_id} asks for +-{precision.relative_half_width:g} from "
            f"{precision.min_windows} windows: expected 0 < precision < 1 and 6 windows or more"
        )
    if not 0 < precision.min_duration_s <= deadlines.run_s or deadlines.compile_s <= 0:
        raise WrongInputError(
            f"job {job.job_id} asks for {precision.min_duration_s:g} s of windows within "
            f"{deadlines.run_s:g} s after at most {deadlines.compile_s:g} s of compiling: "
            "expected positive durations, the windows shorter than the run deadline"
        )
    if precision.max_duration_s < 0:
        raise WrongInputError(
            f"job {job.job_id} gives up after {precision.max_duration_s:g} s: expected 0 (never) "
            "or more"
        )
    if job.task.batch < 1:
        raise WrongInputError(f"job {job.job_id} asks for batch {job.task.batch}: expected >= 1")
