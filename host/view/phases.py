"""How far a run is and how long the rest will take, from what its journal says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.host.view.run_view import PhaseView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host import journal_records as records
    from boardfront.host.experiment import Experiment

RECENT = 32
"""So many of the last candidates tell how long the next ones take."""

_RECENT_EPOCHS = 8

_STARTS_S = 1.0
"""About what starting and warming up a process takes, where no candidate says it."""


def references_phase(experiment: Experiment, done: int) -> PhaseView:
    """Return how far the timing of references is; nobody knows how long one takes."""
    return PhaseView(name="references", done=done, total=len(experiment.targets))


def training_phase(
    experiment: Experiment, epochs: Sequence[records.TrainingProgress], waited_s: float
) -> PhaseView:
    """Return how far the estimator's training is.

    Args:
        experiment: One with a supernet.
        epochs: That are done.
        waited_s: Time since the last of them was journalled.
    """
    total = 0 if experiment.supernet is None else experiment.supernet.epochs
    done = epochs[-1].epoch if epochs else 0
    left_s = None
    if epochs:
        first = epochs[-_RECENT_EPOCHS - 1] if len(epochs) > _RECENT_EPOCHS else None
        since_s, since = (first.elapsed_s, first.epoch) if first else (0.0, 0)
        epoch_s = (epochs[-1].elapsed_s - since_s) / max(1, done - since)
        left_s = _left(epoch_s, total - done, waited_s)
    return PhaseView(name="training", done=done, total=total, left_s=left_s)


def search_phase(
    experiment: Experiment, done: int, recent_s: Sequence[float], waited_s: float
) -> PhaseView:
    """Return how far the search is.

    Args:
        experiment: The run's.
        done: Candidates that are scored.
        recent_s: What scoring the last ones took. Their mean counts: where several boards work,
            most candidates are there at once and a few had to be waited for.
        waited_s: Time since the last of them was journalled.
    """
    total = experiment.search.evaluations
    left_s = None
    if recent_s:
        left_s = _left(sum(recent_s) / len(recent_s), total - done, waited_s)
    return PhaseView(name="search", done=done, total=total, left_s=left_s)


def finalists_phase(
    experiment: Experiment, done: int, front_size: int, finalist_s: float, waited_s: float
) -> PhaseView:
    """Return how far the measuring of whole networks is.

    Args:
        experiment: The run's.
        done: Measured networks, each target counted.
        front_size: Networks to measure on each target.
        finalist_s: What one takes, measured on the targets that are done, or expected.
        waited_s: Time since the last target was done; a target's networks are told at once.
    """
    total = front_size * len(experiment.targets)
    left_s = max(0.0, finalist_s * max(0, total - done) - max(0.0, waited_s))
    return PhaseView(name="finalists", done=done, total=total, left_s=left_s)


def expected_finalist_s(experiment: Experiment, recent_s: Sequence[float]) -> float:
    """Guess what measuring a network whole takes, before one was: longer looks, several of them.

    Each in a process that has to start, also where candidates took no time, as a table told them.

    Args:
        experiment: The run's.
        recent_s: What scoring the last candidates took.
    """
    scoring_s = sum(recent_s) / len(recent_s) if recent_s else 0.0
    target_s = sum(target.min_duration_s for target in experiment.targets)
    longer_s = experiment.finalists.min_duration_s - target_s / len(experiment.targets)
    shortest_s = experiment.finalists.min_duration_s + _STARTS_S
    return experiment.finalists.processes * max(scoring_s + max(0.0, longer_s), shortest_s)


def _left(step_s: float, steps: int, waited_s: float) -> float:
    """Return what is left; of the step that runs, what was waited is over."""
    return max(0.0, step_s * steps - min(max(0.0, waited_s), step_s))
