"""From a journal's records to named series of numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host import journal_records as records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from boardfront.host.journal import AnyRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One number of a series.

    Args:
        tag: Name of the series; a time's ends in `_s`.
        step: The epoch, the evaluation's or the generation's number, or the place on the front.
        value: Finite.
    """

    tag: str
    step: int
    value: float


class Series:
    """Turns records into points, in the journal's order.

    A series never goes back: its steps rise, so whoever has some of it needs those behind only.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._accuracies: dict[str, float] = {}
        self._finalists: dict[tuple[str, str], records.FinalistMeasured] = {}

    def points(self, record: AnyRecord) -> Iterator[Point]:
        """Yield what a record adds."""
        if isinstance(record, records.TrainingProgress):
            yield from _of_epoch(record)
        elif isinstance(record, records.Evaluation):
            yield from self._of_evaluation(record)
        elif isinstance(record, records.GenerationDone):
            yield from _of_generation(record)
        elif isinstance(record, records.FinalistMeasured):
            # One that is measured again, after an interruption, replaces what was there: they
            # are told when the run has ended.
            self._finalists[(record.target, record.encoding)] = record
        elif isinstance(record, records.RunFinished):
            yield from self._of_finalists()

    def _of_evaluation(self, record: records.Evaluation) -> Iterator[Point]:
        step = record.index
        if record.failure is not None:
            self._failures += 1
        yield Point(tag="search/failures", step=step, value=self._failures)
        if record.validation_accuracy is not None:
            self._accuracies[record.encoding] = record.validation_accuracy
            yield Point(tag="search/accuracy", step=step, value=record.validation_accuracy)
        for target, latency in record.latencies.items():
            yield Point(tag=f"search/{_name(target)}/time_s", step=step, value=latency.median_s)
        yield Point(tag="search/evaluation_s", step=step, value=record.elapsed_s)

    def _of_finalists(self) -> Iterator[Point]:
        counts: dict[str, int] = {}
        for (target, encoding), record in self._finalists.items():
            step = counts.get(target, 0)
            counts[target] = step + 1
            values: Mapping[str, float | None] = {
                "predicted_s": record.predicted_s,
                "measured_s": record.latency.median_s if record.latency else None,
                "accuracy": self._accuracies.get(encoding),
            }
            for what, value in values.items():
                if value is not None:
                    yield Point(tag=f"finalists/{_name(target)}/{what}", step=step, value=value)


def _of_epoch(record: records.TrainingProgress) -> Iterator[Point]:
    yield Point(tag="training/loss", step=record.epoch, value=record.loss)
    if record.validation_accuracy is not None:
        yield Point(tag="training/accuracy", step=record.epoch, value=record.validation_accuracy)


def _of_generation(record: records.GenerationDone) -> Iterator[Point]:
    yield Point(tag="front/size", step=record.generation, value=record.front_size)
    if record.hypervolume is not None:
        yield Point(tag="front/hypervolume", step=record.generation, value=record.hypervolume)


def _name(target: str) -> str:
    """Return a target's name as both trackers take it."""
    return re.sub(r"[^\w.-]", "_", target, flags=re.ASCII)
