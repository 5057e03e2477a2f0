"""The agent's queue: jobs outlive connections and the agent's own process.

One thread runs jobs, first come first served. Every event is kept until the job is acknowledged,
so a watcher may come, go, and come back. A job that twice took the agent down with it is not tried
a third time.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from boardfront.device_agent import limits, stored_job, sysfs
from boardfront.device_agent.journal import AcknowledgedIds, JobFolder, read_all
from boardfront.device_agent.process import WorkerCancelledError
from boardfront.device_agent.runner import JobRun, Prepared
from boardfront.device_agent.stored_job import StoredJob
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
    JobState,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from boardfront.protos.records import Job, JobEvent, Subject

    Prepare = Callable[[Job, Subject], Prepared | Failure]

_log = logging.getLogger(__name__)

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_WAIT_S = 0.5
_DEATHS = 2
"""So often may the agent die while it measures a job; once is anybody's power cut."""


class JobQueue:
    """Takes jobs, runs them one at a time, keeps their events.

    Args:
        folder: Where jobs are kept.
        prepare: Turns a subject into what a worker needs, or into its failure; called when the
            job starts, because the device may have changed while it waited.
        worker_memory_bytes: What a worker may take; None: the machine's default.
        root: Where the device's files are.

    Thread-safe. `start` recovers the jobs of an earlier process: finished ones keep their
    results, an interrupted one runs again unless it killed the agent before.
    """

    def __init__(
        self,
        folder: Path,
        prepare: Prepare,
        *,
        worker_memory_bytes: int | None = None,
        root: Path = sysfs.ROOT,
    ) -> None:
        self._folder = folder
        self._prepare = prepare
        self._worker_memory_bytes = worker_memory_bytes
        self._root = root
        self._entries: OrderedDict[str, StoredJob] = OrderedDict()
        self._acknowledged = AcknowledgedIds(folder)
        self._changed = threading.Condition()
        self._running: StoredJob | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run_forever, name="jobs", daemon=True)

    def start(self) -> None:
        """Recover earlier jobs and begin to run."""
        with self._changed:
            for folder, job, events in read_all(self._folder):
                self._recover(folder, job, events)
            self._move_up()
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

    def artifacts_in_use(self) -> set[str]:
        """Return the artifacts that waiting and running jobs name, by sha256."""
        with self._changed:
            unfinished = [e.job for e in self._entries.values() if not e.state.is_final]
        return {subject.artifact_sha256 for job in unfinished for subject in job.subjects}

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
            entry = StoredJob(job, JobFolder(self._folder / job.job_id))
            entry.folder.create(job)
            position = sum(not other.state.is_final for other in self._entries.values())
            self._entries[job.job_id] = entry
            entry.enter(position)
            self._changed.notify_all()
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
                if index >= entry.count and not entry.state.is_final:
                    self._changed.wait(timeout=_WAIT_S)
                final = entry.state.is_final
                fresh = () if final else entry.events_from(index)
            if final:
                # Nothing is added any more: the disk is read without holding up anybody.
                fresh = self._kept(entry, index)
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
                self._acknowledged.add(job_id)
            entry.folder.remove()

    def _kept(self, entry: StoredJob, index: int) -> Sequence[JobEvent]:
        """Return a finished job's events, unless it was acknowledged meanwhile."""
        try:
            return entry.events_from(index)
        except BoardfrontError:
            self._entry(entry.job.job_id)
            raise

    def _entry(self, job_id: str) -> StoredJob:
        with self._changed:
            entry = self._entries.get(job_id)
        if entry is None:
            raise UnknownJobError(f"no job {job_id[:128]!r} here: submit it (again)")
        return entry

    def _recover(self, folder: JobFolder, job: Job, events: list[JobEvent]) -> None:
        if job.job_id in self._acknowledged:
            # Acknowledged, and killed before its folder was gone.
            folder.remove()
            return
        entry = StoredJob(job, folder, events)
        self._entries[job.job_id] = entry
        if entry.state.is_final:
            return
        if not entry.unanswered():
            self._finish(entry, JobState.COMPLETED)
            return
        entry.interrupt()
        if entry.deaths >= _DEATHS:
            message = (
                f"the agent died {entry.deaths} times while it measured this: it is not tried "
                "again; check the device's power, driver and memory, then submit it anew"
            )
            self._fail_rest(entry, Failure(kind=FailureKind.DEVICE_LOST, message=message))
            self._finish(entry, JobState.COMPLETED)

    def _move_up(self) -> None:
        """Tell those that wait how many are ahead of them now."""
        ahead = 0
        for entry in self._entries.values():
            if entry.state is JobState.QUEUED:
                entry.move_up(ahead)
            ahead += not entry.state.is_final

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

    def _next(self) -> StoredJob | None:
        waiting = (e for e in self._entries.values() if e.state is JobState.QUEUED)
        return next(waiting, None)

    def _run(self, entry: StoredJob) -> None:
        state = JobState.COMPLETED
        try:
            unanswered = entry.unanswered()
            prepared = {
                subject.subject_id: self._prepared(entry, subject)
                for subject in entry.job.subjects
                if subject.subject_id in unanswered
            }
            run = JobRun(
                entry.job,
                prepared,
                lambda subject_id, body: self._append(entry, subject_id, body),
                entry.cancelled,
                self._root,
            )
            with limits.worker_memory(self._worker_memory_bytes):
                run.execute()
        except WorkerCancelledError:
            if self._stopping:
                self._append(entry, "", Interrupted(reason=stored_job.STOPPED))
                return
            state = JobState.CANCELLED
        except Exception as error:  # noqa: BLE001 - the next job must still run
            _log.exception("job %s", entry.job.job_id)
            message = f"the agent failed: {type(error).__name__}: {error}"
            self._fail_rest(entry, Failure(kind=FailureKind.CRASHED, message=message))
        self._finish(entry, state)

    def _prepared(self, entry: StoredJob, subject: Subject) -> Prepared | Failure:
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

    def _fail_rest(self, entry: StoredJob, failure: Failure) -> None:
        for subject_id in entry.unanswered():
            self._append(entry, subject_id, failure)

    def _finish(self, entry: StoredJob, state: JobState) -> None:
        with self._changed:
            self._append(entry, "", Finished(state=state))
            self._move_up()

    def _append(self, entry: StoredJob, subject_id: str, body: EventBody) -> None:
        with self._changed:
            entry.append(subject_id, body)
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
    _check_reference(job, names)
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
    for task in (job.task, *(subject.task for subject in job.subjects)):
        if task is not None and task.batch < 1:
            raise WrongInputError(f"job {job.job_id} asks for batch {task.batch}: expected >= 1")


def _check_reference(job: Job, names: Sequence[str]) -> None:
    reference = job.reference
    if reference is None:
        return
    if reference.subject_id not in names or len(names) < 2:
        raise WrongInputError(
            f"job {job.job_id} has the reference {reference.subject_id!r}: expected one of its "
            f"subjects {list(names)}, and another one to divide"
        )
    if reference.quiet_s is not None and reference.quiet_s <= 0:
        raise WrongInputError(
            f"job {job.job_id} says its reference takes {reference.quiet_s:g} s: expected a "
            "positive time, or none"
        )
