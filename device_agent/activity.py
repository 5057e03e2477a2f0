"""What the agent is busy with, and what came of its jobs, for whoever watches the device."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from boardfront.protos.records import (
    Failure,
    Finished,
    JobCounts,
    JobState,
    Phase,
    Result,
    RunningJob,
    Sampling,
    Working,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from boardfront.protos.records import EventBody, Job


class Activity:
    """Follows the events of the job that runs. Thread-safe.

    Args:
        clock: Monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._since_s = 0.0
        self._phase: Phase | None = None
        self._phase_since_s = 0.0
        self._budget_s: float | None = None
        self._windows = 0
        self._jobs = 0
        self._verdicts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()

    def begin(self, job: Job) -> None:
        """Note that a job runs now."""
        with self._lock:
            self._job = job
            self._since_s = self._clock()
            self._windows = 0
            self._enter(Phase.LOADING, "")

    def hear(self, job: Job, subject_id: str, body: EventBody) -> None:
        """Note an event of a job; those of jobs that do not run say nothing."""
        with self._lock:
            if self._job is None or self._job.job_id != job.job_id:
                return
            if isinstance(body, Working):
                self._enter(body.phase, subject_id)
            elif isinstance(body, Sampling):
                self._windows = body.windows
                if self._phase is not None:
                    self._enter(None, subject_id)
            elif isinstance(body, Finished):
                self._jobs += body.state is JobState.COMPLETED
                self._job = None
            elif isinstance(body, Result | Failure):
                self._count(subject_id, body)

    def end(self) -> None:
        """Note that no job runs; one that finished is gone already."""
        with self._lock:
            self._job = None

    def running(self) -> RunningJob | None:
        """Return what runs now."""
        with self._lock:
            if self._job is None:
                return None
            now_s = self._clock()
            return RunningJob(
                job_id=self._job.job_id,
                purpose=self._job.purpose,
                since_s=now_s - self._since_s,
                phase=self._phase,
                phase_since_s=now_s - self._phase_since_s,
                phase_budget_s=self._budget_s,
                windows=self._windows,
            )

    def counts(self) -> JobCounts:
        """Return what came of the jobs so far."""
        with self._lock:
            return JobCounts(
                jobs=self._jobs, verdicts=dict(self._verdicts), failures=dict(self._failures)
            )

    def _enter(self, phase: Phase | None, subject_id: str) -> None:
        if phase is self._phase and phase is not Phase.TUNING:
            # Of several subjects one after the other is in it.
            return
        self._phase = phase
        self._phase_since_s = self._clock()
        budget_s = self._tuning_budget_s(subject_id) if phase is Phase.TUNING else 0.0
        self._budget_s = budget_s or None

    def _tuning_budget_s(self, subject_id: str) -> float:
        subjects = () if self._job is None else self._job.subjects
        budgets_s = (one.tuning_budget_s for one in subjects if one.subject_id == subject_id)
        return next(budgets_s, 0.0)

    def _count(self, subject_id: str, body: Result | Failure) -> None:
        reference = self._job.reference if self._job is not None else None
        if reference is not None and reference.subject_id == subject_id:
            return
        if isinstance(body, Failure):
            self._failures[body.kind.value] += 1
            return
        verdict = body.normalised.verdict if body.normalised is not None else body.verdict
        self._verdicts[verdict.value] += 1
