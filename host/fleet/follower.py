"""What a host has seen of a job that it follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.protos import records

if TYPE_CHECKING:
    from collections.abc import Callable


class JobFollower:
    """Collects a job's events, however often the connection or the agent begins anew.

    The last event seen is asked for again at every attach. If another one stands in its place,
    the agent was killed before its events were on the disk, and has run the job again: then
    nothing that was seen counts, and the events are followed from the first one on.

    Args:
        on_event: Told every event once, in order; from the first one on again after `restart`.
    """

    def __init__(self, on_event: Callable[[records.JobEvent], None]) -> None:
        self._on_event = on_event
        self.restart()

    def restart(self) -> None:
        """Forget what was seen."""
        self.last: records.JobEvent | None = None
        self.state: records.JobState | None = None
        self.answers: dict[str, records.Result | records.Failure] = {}

    @property
    def finished(self) -> bool:
        """Whether the last event of all was seen."""
        return self.state is not None

    @property
    def from_event(self) -> int:
        """Index of the event to ask for first."""
        return 0 if self.last is None else self.last.index

    def take(self, event: records.JobEvent) -> bool:
        """Note an event; return whether it goes with what was seen before."""
        if self.last is not None and event.index == self.last.index:
            return event == self.last
        if event.index != (0 if self.last is None else self.last.index + 1):
            return False
        self.last = event
        if isinstance(event.body, records.Result | records.Failure):
            self.answers[event.subject_id] = event.body
        if isinstance(event.body, records.Finished):
            self.state = event.body.state
        self._on_event(event)
        return True
