"""What a run's journal may say."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

# At run time, because strict_json reads the annotations.
from boardfront.search.evaluation import EvaluationFailure, Latency  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Mapping


class RunStatus(enum.Enum):
    """How a run ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    """A run, or a part of one after an interruption, began.

    `versions` maps the names of libraries and of boardfront itself to their versions.
    """

    experiment_digest: str
    seed: int
    time_unix_s: float
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingProgress:
    """An epoch of the estimator's training ended. `epoch` counts from 1."""

    epoch: int
    epochs: int
    loss: float
    learning_rate: float
    elapsed_s: float
    validation_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EstimatorReady:
    """Accuracies are predicted by the estimator in this state from here on."""

    state_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceTimed:
    """From here on the target's times are ratios to this architecture times its time alone."""

    target: str
    encoding: str
    latency: Latency


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """An architecture was scored, or failed.

    Args:
        index: Counts the run's evaluations from 0.
        generation: Counts from 0.
        encoding: The architecture.
        scores: By objective name, fractions and seconds; None where there is no score.
        failure: Why scores are missing; None where none is.
        validation_accuracy: A fraction, as the estimator said.
        latencies: By target name.
        estimator_state_id: The estimator's state that said it.
        elapsed_s: What this evaluation took.
    """

    index: int
    generation: int
    encoding: str
    scores: Mapping[str, float | None]
    failure: EvaluationFailure | None = None
    validation_accuracy: float | None = None
    latencies: Mapping[str, Latency] = field(default_factory=dict)
    estimator_state_id: str
    elapsed_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Remeasured:
    """A candidate's time was found wrong, and this one replaces it from here on."""

    target: str
    encoding: str
    latency: Latency


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationDone:
    """Every evaluation of a generation stands above. `hypervolume` needs two objectives."""

    generation: int
    front_size: int
    hypervolume: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalistMeasured:
    """A member of the front was measured whole on a target, or failed there.

    Args:
        encoding: The architecture.
        target: The target's name.
        predicted_s: What the search went by; None where it had nothing. Measured like any
            candidate, or predicted by a latency table: see `predicted_by`.
        predicted_low_s: Of its 95 % interval.
        predicted_high_s: Of its 95 % interval.
        predicted_by: The model that predicted it; empty where the search had measured it.
        level: Where it was predicted: what the table's base takes in this run over what it takes
            in the table. `predicted_s * level` compares at one level of the device. None where
            that is not known.
        latency: What the target said, over all processes; None for a failure.
        process_medians_s: The median of each fresh process.
        measurement_ids: Of those processes in the store.
        limit_s: The hard limit; None where there is none.
        over_limit: Whether the measured time breaks it, by however little.
        failure: Why there is no time.
    """

    encoding: str
    target: str
    predicted_s: float | None = None
    predicted_low_s: float | None = None
    predicted_high_s: float | None = None
    predicted_by: str = ""
    level: float | None = None
    latency: Latency | None = None
    process_medians_s: tuple[float, ...] = ()
    measurement_ids: tuple[int, ...] = ()
    limit_s: float | None = None
    over_limit: bool = False
    failure: EvaluationFailure | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Interrupted:
    """The run stopped and can be resumed."""

    reason: str
    time_unix_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFinished:
    """The run's last record."""

    status: RunStatus
    time_unix_s: float
    message: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnknownRecord:
    """A record of a type or version that a newer boardfront writes, as it stands in the file."""

    type: str
    version: int
    body: Mapping[str, object]


Record: TypeAlias = (
    RunStarted
    | TrainingProgress
    | EstimatorReady
    | ReferenceTimed
    | Evaluation
    | Remeasured
    | GenerationDone
    | FinalistMeasured
    | Interrupted
    | RunFinished
)

TYPES: dict[str, type[Record]] = {
    "run_started": RunStarted,
    "training_progress": TrainingProgress,
    "estimator_ready": EstimatorReady,
    "reference_timed": ReferenceTimed,
    "evaluation": Evaluation,
    "remeasured": Remeasured,
    "generation_done": GenerationDone,
    "finalist_measured": FinalistMeasured,
    "interrupted": Interrupted,
    "run_finished": RunFinished,
}
"""The name in the file of each record type."""
