"""The search of a run: scoring candidates, journalling them, and showing where it stands."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from typing_extensions import override

from boardfront.host import journal_records as records
from boardfront.host import text
from boardfront.host.control import RunControl
from boardfront.host.training import UntrainableError
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import FailureKind
from boardfront.search.evaluation import (
    NO_ACCURACY,
    Candidate,
    CandidateEvaluator,
    EvaluationFailure,
)
from boardfront.search.loop import front_hypervolume
from boardfront.search.objective import minimised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from boardfront.host.experiment import Experiment
    from boardfront.host.journal import Journal
    from boardfront.host.progress import RunProgress
    from boardfront.host.run_folder import RunFolder
    from boardfront.host.supernet.progress import TrainingReport
    from boardfront.search.estimator import Estimator
    from boardfront.search.evaluation import LatencySource

SHOW_EPOCHS_AFTER_S = 2.0
_MOST_LOST_IN_A_ROW = 3
"""Candidates that a device may lose before the run ends: the front of what is left would be
poor, and nobody would know why."""


class DeviceLostError(BoardfrontError):
    """A device measures nothing any more."""


def known_candidates(
    history: Sequence[records.Record | records.UnknownRecord],
) -> dict[str, Candidate]:
    """Return what a run's journal says of each architecture.

    A device that was lost says nothing of the network: such a one is tried again.
    """
    return {
        record.encoding: Candidate(
            encoding=record.encoding,
            estimator_state_id=record.estimator_state_id,
            accuracy=NO_ACCURACY
            if record.validation_accuracy is None
            else record.validation_accuracy,
            latencies=record.latencies,
            failure=record.failure,
        )
        for record in history
        if isinstance(record, records.Evaluation)
        and (record.validation_accuracy is not None or record.failure is not None)
        and not _is_lost(record.failure)
    }


class RunEvaluator(CandidateEvaluator):
    """Scores candidates; one that cannot be trained is a failure.

    Args:
        estimator: Of accuracy.
        sources: Of times, by target name.
        known: Candidates of an earlier part of the run.
        put_right: Called after each candidate: measures again what was found wrong meanwhile.
    """

    def __init__(
        self,
        estimator: Estimator,
        sources: Mapping[str, LatencySource],
        known: Mapping[str, Candidate],
        put_right: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(estimator, sources, known)
        self._put_right = put_right

    @override
    def evaluate_all(
        self, encodings: Sequence[str], before: Callable[[int, str], None] = lambda *_: None
    ) -> Iterator[Candidate]:
        """Score architectures in order."""
        for candidate in super().evaluate_all(encodings, before):
            self._put_right()
            yield candidate

    @override
    def accuracy(self, encoding: str) -> float | EvaluationFailure:
        """Return the accuracy of an architecture, or why it cannot be trained."""
        try:
            return super().accuracy(encoding)
        except UntrainableError as error:
            return EvaluationFailure(message=str(error), kind=error.kind)


class RunObserver:
    """Writes what the search does into the journal, and shows it.

    Args:
        experiment: That is run.
        folder: Of the run; its control folder is obeyed.
        journal: Takes every candidate and every generation.
        progress: Shows them.
        known: Candidates that the journal has already.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: RunFolder,
        journal: Journal,
        progress: RunProgress,
        known: Mapping[str, Candidate],
    ) -> None:
        self._experiment = experiment
        self._control = RunControl(folder, progress.say)
        self._journal = journal
        self._progress = progress
        self._known = known
        self._began_s = time.monotonic()
        self._index = 0
        self._reference: tuple[float, ...] | None = None
        self._note = ""
        self._lost_in_a_row = 0
        self.seen: list[Candidate] = []

    def before(self, index: int, encoding: str) -> None:
        """Obey the control folder."""
        del encoding
        self._control.obey()
        self._began_s = time.monotonic()
        self._index = index

    def training(self, encoding: str, report: TrainingReport) -> None:
        """Show how far a candidate's training is, if a person waits for it."""
        if report.elapsed_s < SHOW_EPOCHS_AFTER_S:
            return
        self._progress.step(
            self._index,
            f"{encoding} epoch {report.epoch}/{report.epochs} loss {report.loss:.3f}{self._note}",
        )

    def scored(self, index: int, generation: int, candidate: Candidate) -> None:
        """Journal a fresh candidate and move the bar.

        Raises:
            DeviceLostError: It is one of several in a row that a device could not measure.
        """
        self.seen.append(candidate)
        if self._known.get(candidate.encoding) is not candidate:
            scores = candidate.scores(self._experiment.objectives)
            append = self._journal.append_lazily if _is_cheap(candidate) else self._journal.append
            append(
                records.Evaluation(
                    index=index,
                    generation=generation,
                    encoding=candidate.encoding,
                    scores={
                        o.name: _finite(scores.get(o.name)) for o in self._experiment.objectives
                    },
                    failure=candidate.failure,
                    validation_accuracy=_finite(candidate.accuracy),
                    latencies=candidate.latencies,
                    estimator_state_id=candidate.estimator_state_id,
                    elapsed_s=time.monotonic() - self._began_s,
                )
            )
            self._end_if_lost(candidate.failure)
        self._progress.step(index + 1, f"{_gist(candidate)}{self._note}")

    def _end_if_lost(self, failure: EvaluationFailure | None) -> None:
        self._lost_in_a_row = self._lost_in_a_row + 1 if _is_lost(failure) else 0
        if failure is not None and self._lost_in_a_row >= _MOST_LOST_IN_A_ROW:
            raise DeviceLostError(
                f"target {failure.target}: {self._lost_in_a_row} candidates in a row were not "
                f"measured, through no fault of theirs ({failure.message}): put the device right, "
                "then resume the run: they are tried again"
            )

    def generation_done(self, generation: int, front: Sequence[Candidate]) -> None:
        """Journal the generation with its hypervolume against the first one's worst scores."""
        objectives = self._experiment.objectives
        if self._reference is None and len(objectives) == 2:
            rows = [
                minimised(objectives, c.scores(objectives)) for c in self.seen if not c.failure
            ]
            self._reference = tuple(max(column) for column in zip(*rows, strict=True)) or None
        volume = None
        if self._reference is not None:
            volume = front_hypervolume(front, objectives, self._reference)
        self._note = f"  front of {len(front)} after generation {generation}"
        self._journal.append(
            records.GenerationDone(
                generation=generation, front_size=len(front), hypervolume=volume
            )
        )


def _is_lost(failure: EvaluationFailure | None) -> bool:
    """Return whether the device failed and not the network."""
    return failure is not None and failure.kind is FailureKind.DEVICE_LOST


def _is_cheap(candidate: Candidate) -> bool:
    """Return whether no device has worked for it."""
    failure = candidate.failure
    return (failure is None or failure.kind is None) and all(
        time_.predicted for time_ in candidate.latencies.values()
    )


def _gist(candidate: Candidate) -> str:
    if candidate.failure is not None:
        return f"{candidate.encoding} failed: {candidate.failure.message}"
    times = ", ".join(text.format_latency(t) for t in candidate.latencies.values())
    return f"{candidate.encoding} {candidate.accuracy:.1%} {times}"


def _finite(value: float | None) -> float | None:
    """Return a score as the journal has it: None where there is none."""
    return None if value is None or math.isnan(value) else value
