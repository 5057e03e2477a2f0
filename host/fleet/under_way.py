"""The jobs of a run that are under way, so that a person can end one of them.

A job is known by its id from the moment it is sent to its device. Who ends it is another thread
than the one that waits for its answers.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import Failure, FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from boardfront.protos.records import Job, Result

_SHORTEST_ID = 6
"""Of a beginning of a job's id; fewer letters could mean any job."""

_CANCELLED = Failure(kind=FailureKind.CANCELLED, message="cancelled by the user")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Way:
    """A job that is under way.

    Args:
        label: What is measured, for people.
        end: Ends it on its device; called from any thread.
        turn: Orders the jobs that run by when they were begun; None: it waits on the device.
    """

    label: str
    end: Callable[[str], None]
    turn: int | None = None


class JobsUnderWay:
    """Keeps the jobs, and those that somebody wants to end. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, _Way] = {}
        self._unwanted: set[str] = set()
        self._turns = 0

    def send(self, job_id: str, label: str, end: Callable[[str], None]) -> None:
        """Note a job that goes into the queue of its device.

        Args:
            job_id: Of the job.
            label: What is measured, for people.
            end: Ends it on its device; called from any thread. Must not forget its answers.
        """
        with self._lock:
            self._jobs[job_id] = _Way(label=label, end=end)

    @contextlib.contextmanager
    def running(self, job_id: str, label: str, end: Callable[[str], None]) -> Iterator[None]:
        """Note a job that is waited for, until the end of the context."""
        with self._lock:
            self._turns += 1
            self._jobs[job_id] = _Way(label=label, end=end, turn=self._turns)
        try:
            yield
        finally:
            with self._lock:
                self._jobs.pop(job_id, None)

    def is_unwanted(self, job_id: str) -> bool:
        """Whether somebody wants the job to end."""
        with self._lock:
            return job_id in self._unwanted

    def cancel(self, job_id: str = "") -> str:
        """Have a job ended.

        Args:
            job_id: Its id or a beginning of it; empty: the one that was begun first of those
                that run.

        Returns:
            What becomes of it, as a line for people.
        """
        with self._lock:
            found = self._find(job_id)
            if len(found) != 1:
                which = f" called {job_id}" if job_id else ""
                known = ", ".join(f"{one[:8]} {way.label}" for one, way in self._jobs.items())
                return f"no job{which} to cancel: under way are {known or 'none'}"
            self._unwanted.add(found[0])
            return f"cancelling job {found[0][:8]}, {self._jobs[found[0]].label}"

    def end_unwanted(self) -> None:
        """End what shall end, again and again: a device may be away, or not have the job yet."""
        with self._lock:
            ends = {one: self._jobs[one].end for one in self._unwanted & self._jobs.keys()}
        for job_id, end in ends.items():
            with contextlib.suppress(BoardfrontError):
                end(job_id)

    def answers(
        self, job: Job, answered: Mapping[str, Result | Failure]
    ) -> dict[str, Result | Failure]:
        """Return the answers of a job that was ended: what was answered before stays."""
        return {
            subject.subject_id: answered.get(subject.subject_id, _CANCELLED)
            for subject in job.subjects
        }

    def _find(self, job_id: str) -> list[str]:
        if job_id:
            is_long = len(job_id) >= _SHORTEST_ID
            return [one for one in self._jobs if is_long and one.startswith(job_id)]
        turns = {way.turn: one for one, way in self._jobs.items() if way.turn is not None}
        return [turns[min(turns)]] if turns else []
