"""One job of the queue: what was asked, how it stands, and its events."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from boardfront.protos.records import (
    Failure,
    Finished,
    Interrupted,
    JobEvent,
    JobState,
    Queued,
    Result,
    Working,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.device_agent.journal import JobFolder
    from boardfront.protos.records import EventBody, Job

STOPPED = "the agent was stopped"
WAITED = "the agent stopped and started again"
DIED = "the agent died while it measured this"
SUSPENDED = "the device went to another lease"

_EXACT_POSITIONS = 16


class StoredJob:
    """A job with its events, which only ever grow.

    A finished job's events are read from the disk when somebody asks for them: a host that never
    acknowledges must not fill the agent's memory. Not thread-safe but for `cancelled` and, once
    the state is final, `events_from`.
    """

    def __init__(self, job: Job, folder: JobFolder, events: Sequence[JobEvent] = ()) -> None:
        self.job = job
        self.folder = folder
        self.submitted_s = time.monotonic()
        self.state = JobState.QUEUED
        self.cancelled = threading.Event()
        """Set to end its run, for whatever reason."""
        self.unwanted = False
        """Whether somebody cancelled it, rather than the device being another's now."""
        self.count = len(events)
        self._position: int | None = None
        self._events: list[JobEvent] | None = list(events)
        if events and isinstance(events[-1].body, Finished):
            self._settle(events[-1].body.state)

    def events_from(self, index: int) -> Sequence[JobEvent]:
        """Return the events from `index` on.

        Raises:
            BoardfrontError: If they are on the disk alone and cannot be read.
        """
        if index >= self.count:
            return ()
        events = self.folder.read_events() if self._events is None else self._events
        return events[index:]

    def append(self, subject_id: str, body: EventBody) -> None:
        """Add an event, in memory and on the disk; Finished is the last one."""
        assert self._events is not None  # noqa: S101 - only a finished job has none
        event = JobEvent(
            index=self.count, time_unix_s=time.time(), subject_id=subject_id, body=body
        )
        self._events.append(event)
        self.count += 1
        self.folder.append(event)
        if isinstance(body, Finished):
            self._settle(body.state)

    def enter(self, position: int) -> None:
        """Say how many jobs are ahead."""
        self._position = position
        self.append("", Queued(position=position))

    def is_of(self, job: Job) -> bool:
        """Whether this is the same job, under whatever lease."""
        return replace(self.job, fencing_token=0) == replace(job, fencing_token=0)

    def suspend(self) -> None:
        """Wait again after an interrupted run; what was answered stays."""
        self.cancelled.clear()
        self.state = JobState.QUEUED
        self.append("", Interrupted(reason=SUSPENDED))

    def continue_under(self, job: Job) -> None:
        """Take over a newer lease; the time without one was no waiting in the queue."""
        self.job = job
        self.submitted_s = time.monotonic()
        self.folder.rewrite(job)

    def move_up(self, position: int) -> None:
        """Say it again if it has changed; far behind, only every so often.

        Else a queue of n jobs would write n * n events.
        """
        if position == self._position:
            return
        step = max(1, (1 << position.bit_length()) // _EXACT_POSITIONS)
        if position % step == 0:
            self.enter(position)

    def interrupt(self) -> None:
        """Say, at the start of an agent, what became of the job under the one before it."""
        events = self.events_from(0)
        began = [index for index, event in enumerate(events) if _is_interruption(event)]
        if began and began[-1] == len(events) - 1 and _reason(events[-1]) in (STOPPED, SUSPENDED):
            return
        since = events[began[-1] :] if began else events
        ran = any(isinstance(event.body, Working) for event in since)
        self.append("", Interrupted(reason=DIED if ran else WAITED))

    @property
    def deaths(self) -> int:
        """How often the agent, or its whole device, died while it measured this."""
        return sum(_reason(event) == DIED for event in self.events_from(0))

    def unanswered(self) -> list[str]:
        """Return the subjects that have neither result nor failure, in the job's order."""
        answered = {
            event.subject_id
            for event in self.events_from(0)
            if isinstance(event.body, Result | Failure)
        }
        names = (subject.subject_id for subject in self.job.subjects)
        return [name for name in names if name not in answered]

    def _settle(self, state: JobState) -> None:
        self.state = state
        if self.folder.is_whole:
            self._events = None


def _is_interruption(event: JobEvent) -> bool:
    return isinstance(event.body, Interrupted)


def _reason(event: JobEvent) -> str:
    return event.body.reason if isinstance(event.body, Interrupted) else ""
