"""The agent's queue: jobs outlive connections and the agent's own process.

One thread runs jobs, first come first served among those whose lease allows it; a job whose
device went to another lease is suspended until it is submitted again under a newer one. Every
event is kept until the job is acknowledged, so a watcher may come, go, and come back. A job that
twice took the agent down with it is not tried a third time.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from boardfront.device_agent import job_rules, protections, stored_job, sysfs
from boardfront.device_agent.activity import Activity
from boardfront.device_agent.admission import QueueLimits
from boardfront.device_agent.journal import AcknowledgedIds, JobFolder, read_all
from boardfront.device_agent.process import WorkerCancelledError
from boardfront.device_agent.protections import WorkerBounds
from boardfront.device_agent.runner import JobRun, Prepared
from boardfront.device_agent.spares import SpareWorkers
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

    from boardfront.device_agent.lease import Book
    from boardfront.device_agent.lease_desk import LeaseDesk
    from boardfront.protos.records import Job, JobEvent, Subject

    Prepare = Callable[[Job, Subject], Prepared | Failure]

_log = logging.getLogger(__name__)

_WAIT_S = 0.5
_LOOK_S = 1.0
"""A lease may end by silence: nobody tells those jobs that need none."""

_DEATHS = 2
"""So often may the agent die while it measures a job; once is anybody's power cut."""


class JobQueue:
    """Takes jobs, runs them one at a time, keeps their events.

    Args:
        folder: Where jobs are kept.
        prepare: Turns a subject into what a worker needs, or into its failure; called when the
            job starts, because the device may have changed while it waited.
        leases: Says whose jobs may be submitted and may run.
        bounds: What a worker may take and is kept from; None: the default.
        limits: How many jobs are kept; None: the default.
        root: Where the device's files are.

    Thread-safe. `start` recovers the jobs of an earlier process: finished ones keep their
    results, an interrupted one runs again unless it killed the agent before.
    """

    def __init__(
        self,
        folder: Path,
        prepare: Prepare,
        leases: LeaseDesk,
        *,
        bounds: WorkerBounds | None = None,
        limits: QueueLimits | None = None,
        root: Path = sysfs.ROOT,
    ) -> None:
        self._folder = folder
        self._prepare = prepare
        self._leases = leases
        self._bounds = bounds or WorkerBounds()
        self._limits = limits or QueueLimits()
        self._root = root
        self._entries: OrderedDict[str, StoredJob] = OrderedDict()
        self._acknowledged = AcknowledgedIds(folder)
        self._changed = threading.Condition()
        self.activity = Activity()
        """What runs, and what came of what ran."""
        self._running: StoredJob | None = None
        self._newest_ns = 0
        self._stopping = False
        self._spares = SpareWorkers(self._workers_of_next)
        self._thread = threading.Thread(target=self._run_forever, name="jobs", daemon=True)

    def start(self) -> None:
        """Recover earlier jobs and begin to run."""
        with self._changed:
            for folder, job, events in read_all(self._folder):
                self._newest_ns = folder.created_ns
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
            LeaseLostError: If its token is not that of the lease of the moment.
            OverLimitError: If the agent keeps as many jobs as it may.
        """
        job_rules.check(job)
        with self._changed:
            if job.job_id in self._acknowledged:
                return JobState.ACKNOWLEDGED, False
            known = self._entries.get(job.job_id)
            if known is not None and not known.is_of(job):
                raise JobConflictError(
                    f"job {job.job_id} exists with other content: choose another id"
                )
            self.check_lease(job)
            if known is not None:
                self._continue(known, job)
                return known.state, False
            waiting = sum(not entry.state.is_final for entry in self._entries.values())
            self._limits.check(waiting=waiting, kept=len(self._entries))
            entry = StoredJob(job, JobFolder(self._folder / job.job_id))
            entry.folder.create(job, after_ns=self._newest_ns)
            self._newest_ns = entry.folder.created_ns
            position = self._ahead()
            self._entries[job.job_id] = entry
            entry.enter(position)
            self._changed.notify_all()
            return entry.state, True

    def check_lease(self, job: Job) -> None:
        """Raise unless a job may be submitted now.

        What is finished may always be asked after: results wait for their owner. So may a job
        without a lease that is here already: it waits for the device.

        Raises:
            LeaseLostError: If its token is not that of the lease of the moment.
        """
        with self._changed:
            known = self._entries.get(job.job_id)
            if job.job_id in self._acknowledged or (known and known.state.is_final):
                return
            if known and known.job.fencing_token == job.fencing_token == 0:
                return
            if not self._leases.book().accepts(job.fencing_token):
                raise self._leases.refusal(job.fencing_token)

    def obey_leases(self) -> None:
        """Interrupt the running job if the device went to another; call it when it may have."""
        with self._changed:
            running = self._running
            if running is not None and not self._leases.book().keeps(running.job.fencing_token):
                running.cancelled.set()
            self._changed.notify_all()

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
            LeaseLostError: If it is suspended until it comes under a newer lease.
        """
        entry = self._entry(job_id)
        index = from_event
        while is_active():
            with self._changed:
                if index >= entry.count and not entry.state.is_final:
                    self._changed.wait(timeout=_WAIT_S)
                final = entry.state.is_final
                suspended = self._is_suspended(entry)
                fresh = () if final else entry.events_from(index)
            if final:
                # Nothing is added any more: the disk is read without holding up anybody.
                fresh = self._kept(entry, index)
            yield from fresh
            index += len(fresh)
            if final and not fresh:
                return
            if suspended and not fresh:
                raise self._leases.refusal(entry.job.fencing_token)

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
                entry.unwanted = True
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

    def _continue(self, entry: StoredJob, job: Job) -> None:
        """Let a job that is not finished go on under the lease that it came under now."""
        if entry.state.is_final or entry.job.fencing_token == job.fencing_token:
            return
        was_suspended = self._is_suspended(entry)
        position = self._ahead()
        entry.continue_under(job)
        if was_suspended:
            entry.enter(position)
        self._changed.notify_all()

    def _is_suspended(self, entry: StoredJob) -> bool:
        """Whether a job waits for its owner; one without a lease only waits for the device."""
        token = entry.job.fencing_token
        if entry.state is not JobState.QUEUED or token == 0:
            return False
        return not self._leases.book().keeps(token)

    def _in_line(self, book: Book) -> list[StoredJob]:
        """Return the jobs that run or may run, in order."""
        return [
            entry
            for entry in self._entries.values()
            if not entry.state.is_final and book.keeps(entry.job.fencing_token)
        ]

    def _ahead(self) -> int:
        return len(self._in_line(self._leases.book()))

    def _move_up(self) -> None:
        """Tell those that wait how many are ahead of them now."""
        for ahead, entry in enumerate(self._in_line(self._leases.book())):
            if entry.state is JobState.QUEUED:
                entry.move_up(ahead)

    def _run_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._stopping or self._next() is not None, timeout=_LOOK_S
                )
                if self._stopping:
                    return
                entry = self._next()
                if entry is None:
                    continue
                self._running = entry
                self.activity.begin(entry.job)
                entry.state = JobState.RUNNING
            try:
                self._run(entry)
            finally:
                self._running = None
                self.activity.end()
                self._spares.end_unwanted()

    def _workers_of_next(self) -> int:
        """Return how many workers the next job will need."""
        with self._changed:
            entry = None if self._stopping else self._next()
            return 0 if entry is None else len(entry.unanswered())

    def _next(self) -> StoredJob | None:
        in_line = self._in_line(self._leases.book())
        return next((entry for entry in in_line if entry.state is JobState.QUEUED), None)

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
                self._spares,
            )
            with protections.workers(self._bounds):
                run.execute()
        except WorkerCancelledError:
            if self._stopping:
                self._append(entry, "", Interrupted(reason=stored_job.STOPPED))
                return
            if self._suspend(entry):
                return
            state = JobState.CANCELLED
        except Exception as error:  # noqa: BLE001 - the next job must still run
            _log.exception("job %s", entry.job.job_id)
            self._fail_rest(entry, _failure_of(error))
        self._finish(entry, state)

    def _suspend(self, entry: StoredJob) -> bool:
        """Put an interrupted job back, unless it was cancelled or had all its answers."""
        with self._changed:
            if not entry.unwanted and not entry.unanswered():
                self._finish(entry, JobState.COMPLETED)
            elif not entry.unwanted:
                entry.suspend()
            self._changed.notify_all()
            return not entry.unwanted

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
            self.activity.hear(entry.job, subject_id, body)
            self._changed.notify_all()


def _failure_of(error: Exception) -> Failure:
    """Return what an error outside any worker makes of a job's subjects."""
    if isinstance(error, OSError):
        # No fault of the network: the device has no room for a worker.
        return Failure(
            kind=FailureKind.DEVICE_LOST,
            message=f"this device cannot start it ({error}): check its free space in "
            f"{tempfile.gettempdir()}, its memory and its open files, then submit it anew",
        )
    return Failure(
        kind=FailureKind.CRASHED, message=f"the agent failed: {type(error).__name__}: {error}"
    )
