"""What a run's journal said so far, put together record by record."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from boardfront.host import journal_records as records
from boardfront.host import text
from boardfront.host.view.live_front import LiveFront
from boardfront.host.view.phases import RECENT
from boardfront.host.view.run_view import EventView

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boardfront.host.journal import AnyRecord
    from boardfront.search.objective import Objective


class RunHistory:
    """Takes the records in order. What a later part of a run says again is kept once.

    Args:
        objectives: Of the run's search.
    """

    def __init__(self, objectives: Sequence[Objective] = ()) -> None:
        self.front = LiveFront(objectives)
        self.heard_unix_s: float | None = None
        self.started_unix_s: float | None = None
        self.ended_unix_s: float | None = None
        self.versions: Mapping[str, str] = {}
        self.training: dict[int, records.TrainingProgress] = {}
        self.references: dict[str, records.ReferenceTimed] = {}
        self.generations: dict[int, records.GenerationDone] = {}
        self.finalists: dict[tuple[str, str], records.FinalistMeasured] = {}
        self.remeasured: list[records.Remeasured] = []
        self.interruptions: list[str] = []
        self.events: list[EventView] = []
        self.recent_s: deque[float] = deque(maxlen=RECENT)
        self._begin_part()

    def add(self, record: AnyRecord) -> None:
        """Take note of a record; one of a newer kind says nothing here."""
        take = _TAKES.get(type(record))
        if take is not None:
            take(self, record)

    def _begin_part(self) -> None:
        self.is_searching = False
        self.measured_whole = 0
        self.whole_since_unix_s: float | None = None
        self.interrupted: records.Interrupted | None = None
        self.finished: records.RunFinished | None = None

    def _started(self, record: records.RunStarted) -> None:
        self._begin_part()
        self.versions = record.versions
        again = self.started_unix_s is not None
        if self.started_unix_s is None:
            self.started_unix_s = record.time_unix_s
        self._note("the run goes on" if again else "the run began", record.time_unix_s)

    def _trained(self, record: records.TrainingProgress) -> None:
        self.training[record.epoch] = record

    def _ready(self, record: records.EstimatorReady) -> None:
        del record
        self.is_searching = True
        self._note("accuracies can be predicted: the search begins")

    def _timed(self, record: records.ReferenceTimed) -> None:
        self.references[record.target] = record
        time = text.format_latency(record.latency)
        self._note(f"{record.target}: the reference {record.encoding} alone takes {time}")

    def _scored(self, record: records.Evaluation) -> None:
        self.front.add(record)
        self.recent_s.append(record.elapsed_s)
        if record.failure is not None:
            what = f"candidate {record.index} {record.encoding} failed"
            self._note(f"{what}: {record.failure.message}", is_trouble=True)

    def _corrected(self, record: records.Remeasured) -> None:
        self.front.correct(record)
        self.remeasured.append(record)
        time = text.format_latency(record.latency)
        self._note(f"{record.target}: {record.encoding} was measured again: {time}")

    def _generation(self, record: records.GenerationDone) -> None:
        is_new = record.generation not in self.generations
        self.generations[record.generation] = record
        if is_new:
            grown = _growth(self.generations.get(record.generation - 1), record)
            self._note(f"generation {record.generation}: front of {record.front_size}{grown}")

    def _measured(self, record: records.FinalistMeasured) -> None:
        self.measured_whole += 1
        key = record.encoding, record.target
        self.finalists.pop(key, None)
        self.finalists[key] = record
        what = f"{record.target}: finalist {record.encoding}"
        if record.latency is None:
            why = record.failure.message if record.failure is not None else "no reason was told"
            self._note(f"{what} failed: {why}", is_trouble=True)
            return
        over = ", over the limit" if record.over_limit else ""
        time = text.format_latency(record.latency)
        self._note(f"{what} takes {time}{over}", is_trouble=record.over_limit)

    def _stopped(self, record: records.Interrupted) -> None:
        self.interrupted = record
        self.interruptions.append(record.reason)
        self.ended_unix_s = record.time_unix_s
        self._note(f"stopped: {record.reason}", record.time_unix_s, is_trouble=True)

    def _finished(self, record: records.RunFinished) -> None:
        self.finished = record
        self.ended_unix_s = record.time_unix_s
        why = f": {record.message}" if record.message else ""
        self._note(f"{record.status.value}{why}", record.time_unix_s)

    def _note(
        self, what: str, time_unix_s: float | None = None, *, is_trouble: bool = False
    ) -> None:
        self.events.append(EventView(text=what, time_unix_s=time_unix_s, is_trouble=is_trouble))


def _growth(before: records.GenerationDone | None, now: records.GenerationDone) -> str:
    """Return by how much a generation made the hypervolume larger."""
    if before is None or not before.hypervolume or now.hypervolume is None:
        return ""
    return f", hypervolume {now.hypervolume / before.hypervolume - 1:+.1%}"


_TAKES: dict[type, Callable[[RunHistory, Any], None]] = {
    records.RunStarted: RunHistory._started,  # noqa: SLF001 - of this module
    records.TrainingProgress: RunHistory._trained,  # noqa: SLF001
    records.EstimatorReady: RunHistory._ready,  # noqa: SLF001
    records.Evaluation: RunHistory._scored,  # noqa: SLF001
    records.ReferenceTimed: RunHistory._timed,  # noqa: SLF001
    records.Remeasured: RunHistory._corrected,  # noqa: SLF001
    records.GenerationDone: RunHistory._generation,  # noqa: SLF001
    records.FinalistMeasured: RunHistory._measured,  # noqa: SLF001
    records.Interrupted: RunHistory._stopped,  # noqa: SLF001
    records.RunFinished: RunHistory._finished,  # noqa: SLF001
}
