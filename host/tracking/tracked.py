"""Telling a run while it goes on: the journal is followed at the run's own steps.

Nothing runs beside the run: it is told between two measurements, on the run's own thread, and
seldom enough to take about a hundredth of its time. Whatever a tracker does wrong is one line.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boardfront.host import journal_records as records
from boardfront.host.tracking.points import Series
from boardfront.host.tracking.sink import Ending, open_mlflow, open_tensorboard
from boardfront.host.view.journal_tail import JournalTail
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable

    from boardfront.host.journal import AnyRecord
    from boardfront.host.progress import RunProgress
    from boardfront.host.run_folder import RunFolder
    from boardfront.host.tracking.points import Point
    from boardfront.host.tracking.sink import TrackingChoice, TrackingSink

_REST = 99.0
"""So many times as long as telling took, nothing is told."""

_LONGEST_REST_S = 60.0

_ENDINGS = {
    records.RunStatus.COMPLETED: Ending.COMPLETED,
    records.RunStatus.CANCELLED: Ending.STOPPED,
    records.RunStatus.FAILED: Ending.FAILED,
}


@dataclass(kw_only=True, slots=True)
class _Told:
    """A tracker, and what it has."""

    name: str
    sink: TrackingSink
    steps: dict[str, int] = field(default_factory=dict)

    def write(self, points: list[Point]) -> None:
        """Write the points that it has not, each step of a series once."""
        fresh = []
        for point in points:
            if point.step > self.steps.get(point.tag, -1):
                self.steps[point.tag] = point.step
                fresh.append(point)
        if fresh:
            self.sink.write(fresh)


class Tracker:
    """Follows a run's journal and tells trackers what is new.

    A run that is told again, from an earlier part or from its beginning, doubles nothing: each
    tracker is asked what it has.

    Args:
        folder: The run's.
        choice: Which trackers.
        warn: Told, in one line, of each tracker that fails; it is left alone afterwards.
        clock: Monotonic, seconds.
    """

    def __init__(
        self,
        folder: RunFolder,
        choice: TrackingChoice,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._choice = choice
        self._warn = warn
        self._clock = clock
        self._tail = JournalTail(folder.journal)
        self._series = Series()
        self._ending = Ending.STOPPED
        self._rest_until_s = float("-inf")
        self._told: list[_Told] | None = None

    def tell(self) -> None:
        """Tell what is new, unless it was told a moment ago."""
        begun_s = self._clock()
        if begun_s < self._rest_until_s:
            return
        if self._told is None:
            # Not before the run's first step: only then it is certain that the run is ours.
            self._told = self._open()
        self._tell(self._told)
        took_s = self._clock() - begun_s
        self._rest_until_s = self._clock() + min(_REST * took_s, _LONGEST_REST_S)

    def close(self) -> None:
        """Tell the rest, and how the run ended."""
        trackers, self._told = self._told or [], []
        self._tell(trackers)
        for one in tuple(trackers):
            self._try(trackers, one, lambda told: told.sink.finish(self._folder, self._ending))
        for one in tuple(trackers):
            self._try(trackers, one, lambda told: told.sink.close())

    def _open(self) -> list[_Told]:
        found = []
        if self._choice.tensorboard is not None:
            found.append(self._opened("TensorBoard", open_tensorboard))
        if self._choice.mlflow:
            found.append(self._opened("MLflow", open_mlflow))
        return [one for one in found if one is not None]

    def _opened(
        self, name: str, make: Callable[[RunFolder, TrackingChoice], TrackingSink]
    ) -> _Told | None:
        try:
            sink = make(self._folder, self._choice)
            return _Told(name=name, sink=sink, steps=dict(sink.known_steps()))
        except Exception as problem:  # noqa: BLE001 - a client may raise anything, a run goes on
            self._warn(_one_line(name, problem))
            return None

    def _tell(self, trackers: list[_Told]) -> None:
        if not trackers:
            return
        try:
            fresh, is_anew = self._tail.read()
        except BoardfrontError as problem:
            self._warn(f"nothing more is told to trackers: {problem}")
            trackers.clear()
            return
        if is_anew:
            self._series = Series()
        points = [point for record in fresh for point in self._points(record)]
        for one in tuple(trackers):
            self._try(trackers, one, lambda told: told.write(points))

    def _points(self, record: AnyRecord) -> list[Point]:
        if isinstance(record, records.RunFinished):
            self._ending = _ENDINGS[record.status]
        elif isinstance(record, records.RunStarted | records.Interrupted):
            self._ending = Ending.STOPPED
        return list(self._series.points(record))

    def _try(self, trackers: list[_Told], told: _Told, call: Callable[[_Told], None]) -> None:
        try:
            call(told)
        except Exception as problem:  # noqa: BLE001 - a client may raise anything, a run goes on
            trackers.remove(told)
            self._warn(_one_line(told.name, problem))


class TrackedProgress:
    """Shows a run as another progress does, and tells trackers at each step.

    Implements `RunProgress`.

    Args:
        shown: What people see.
        tracker: Told what is new.
    """

    def __init__(self, shown: RunProgress, tracker: Tracker) -> None:
        self._shown = shown
        self._tracker = tracker

    def phase(self, name: str, total: int, done: int = 0) -> None:
        """Begin a phase."""
        self._shown.phase(name, total, done)
        self._tracker.tell()

    def step(self, done: int, note: str) -> None:
        """Say how many steps are done."""
        self._shown.step(done, note)
        self._tracker.tell()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._shown.say(line)

    def close(self) -> None:
        """Tell the rest, and stop drawing."""
        try:
            self._tracker.close()
        finally:
            self._shown.close()


def with_tracking(progress: RunProgress, folder: RunFolder, choice: TrackingChoice) -> RunProgress:
    """Return a progress that also tells the trackers; the same one where there is none."""
    if not choice:
        return progress
    return TrackedProgress(progress, Tracker(folder, choice, progress.say))


def _one_line(name: str, problem: Exception) -> str:
    words = " ".join(str(problem).split()) or type(problem).__name__
    short = words if len(words) <= 200 else f"{words[:200]}..."
    return f"{name} is told no more of this run, which goes on: {short}"
