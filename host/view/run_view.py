"""What is known of a run at one moment, for whoever shows it: plain values, nothing to compute.

`host.view.follow` reads it from a run's folder; plots, pages and screens are made of it alone.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boardfront.host import journal_records as records
    from boardfront.host.experiment import TargetSettings
    from boardfront.search.evaluation import EvaluationFailure, Latency
    from boardfront.search.objective import Objective


class RunState(enum.Enum):
    """How a run stands."""

    RUNNING = "running"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseView:
    """What a run is doing.

    Args:
        name: "references", "training", "search", "finalists", or "" for a run that does nothing.
        done: Steps that are done.
        total: Steps in all; 0 where nobody knows.
        left_s: Seconds that the rest is expected to take; None where nobody knows.
    """

    name: str = ""
    done: int = 0
    total: int = 0
    left_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateView:
    """An architecture that was scored, or failed.

    Args:
        index: Counts the run's evaluations from 0.
        generation: Counts from 0.
        encoding: The architecture.
        accuracy: On the validation images, a fraction; None where there is none.
        latencies: By target name, corrected by what was measured again.
        failure: Why scores are missing; None where none is.
        elapsed_s: What scoring it took.
        is_on_front: Whether nothing seen so far is better in all objectives, within the limits.
    """

    index: int
    generation: int
    encoding: str
    accuracy: float | None
    latencies: Mapping[str, Latency] = field(default_factory=dict)
    failure: EvaluationFailure | None = None
    elapsed_s: float
    is_on_front: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class EventView:
    """Something that happened to a run, as a line.

    Args:
        text: What happened.
        time_unix_s: When; None where nobody wrote it.
        is_trouble: Whether somebody may have to do something.
    """

    text: str
    time_unix_s: float | None = None
    is_trouble: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """A run at one moment.

    Args:
        name: Of the run's folder.
        folder: The run's.
        state: How it stands.
        phase: What it does, or did last.
        reason: Why it stopped, as it was told; empty where it did not.
        started_unix_s: When its first part began; None before.
        ended_unix_s: When its last part ended; None while it goes on, or where nobody wrote it.
        seed: Of the run.
        versions: Of the libraries by name.
        experiment_text: The experiment file.
        objectives: Of the search, in order.
        targets: In order.
        evaluations: How many architectures are asked for.
        training: Epochs of the estimator's training, in order.
        references: By target name.
        candidates: In order of evaluation, each encoding once.
        generations: In order.
        finalists: In the order of measuring; a later entry of one architecture on one target
            replaces an earlier one.
        remeasured: Times found wrong and replaced, in order.
        interruptions: Reasons, in order.
        events: What happened beside epochs and candidates, in order.
        heard_unix_s: When the run wrote its journal last; None before.
        said: The last lines that it said beside its journal.
    """

    name: str
    folder: Path
    state: RunState
    phase: PhaseView = field(default_factory=PhaseView)
    reason: str = ""
    started_unix_s: float | None = None
    ended_unix_s: float | None = None
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    experiment_text: str = ""
    objectives: tuple[Objective, ...] = ()
    targets: tuple[TargetSettings, ...] = ()
    evaluations: int = 0
    training: tuple[records.TrainingProgress, ...] = ()
    references: Mapping[str, records.ReferenceTimed] = field(default_factory=dict)
    candidates: tuple[CandidateView, ...] = ()
    generations: tuple[records.GenerationDone, ...] = ()
    finalists: tuple[records.FinalistMeasured, ...] = ()
    remeasured: tuple[records.Remeasured, ...] = ()
    interruptions: tuple[str, ...] = ()
    events: tuple[EventView, ...] = ()
    heard_unix_s: float | None = None
    said: tuple[str, ...] = ()

    @property
    def front(self) -> tuple[CandidateView, ...]:
        """The candidates that nothing is better than, in order of evaluation."""
        return tuple(one for one in self.candidates if one.is_on_front)
