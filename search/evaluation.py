"""Scoring a candidate: its accuracy by the estimator, its times by measuring it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

# At run time, because the journal's reader resolves the annotations.
from boardfront.protos.records import FailureKind, Verdict  # noqa: TC001
from boardfront.search.objective import Objective, ObjectiveKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boardfront.latency_models.base import Measurement
    from boardfront.search.estimator import Estimator


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """A time as it was measured, and where the store has the rest of it.

    Args:
        median_s: Seconds a run; with a reference, the ratio times the reference's quiet time.
        low_s: Of its 95 % interval.
        high_s: Of its 95 % interval.
        verdict: Whether that can be trusted.
        measurement_id: In the store.
        raw_median_s: What the clock said, where `median_s` was normalised by a reference.
        attempts: How often it was measured before this one was kept.
    """

    median_s: float
    low_s: float
    high_s: float
    verdict: Verdict
    measurement_id: int
    raw_median_s: float | None = None
    attempts: int = 1

    @property
    def relative_half_width(self) -> float:
        """Half of the interval's width over the median."""
        return (self.high_s - self.low_s) / 2 / self.median_s

    @classmethod
    def of(cls, measurement: Measurement, *, quiet_s: float | None = None) -> Latency:
        """Return the gist of a stored result.

        Args:
            measurement: The result.
            quiet_s: The reference's time on a quiet device; with it the ratio counts, without
                it the time as it was.

        Raises:
            ValueError: If it is a failure, was not stored, or has no ratio where one is wanted.
        """
        result = measurement.result
        if result is None or measurement.id is None:
            raise ValueError("expected a stored result")
        statistics = result.statistics
        if quiet_s is None:
            return cls(
                median_s=statistics.median_s,
                low_s=statistics.low_s,
                high_s=statistics.high_s,
                verdict=result.verdict,
                measurement_id=measurement.id,
            )
        ratio = result.normalised
        if ratio is None:
            raise ValueError("expected a ratio to the reference")
        return cls(
            median_s=ratio.ratio * quiet_s,
            low_s=ratio.low * quiet_s,
            high_s=ratio.high * quiet_s,
            verdict=ratio.verdict,
            measurement_id=measurement.id,
            raw_median_s=statistics.median_s,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationFailure:
    """Why an architecture has no scores. `target` is None where no target failed."""

    message: str
    kind: FailureKind | None = None
    target: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An architecture with what is known of it.

    Args:
        encoding: The architecture.
        estimator_state_id: The estimator's state that gave the accuracy.
        accuracy: On the validation images, a fraction.
        latencies: By target name.
        failure: Why a time is missing; None where none is.
    """

    encoding: str
    estimator_state_id: str
    accuracy: float
    latencies: Mapping[str, Latency] = field(default_factory=dict)
    failure: EvaluationFailure | None = None

    def scores(self, objectives: Sequence[Objective]) -> dict[str, float]:
        """Return its scores by objective name; those that are missing are left out."""
        found = {}
        for objective in objectives:
            if objective.kind is ObjectiveKind.ACCURACY:
                found[objective.name] = self.accuracy
            elif objective.target is not None and objective.target in self.latencies:
                found[objective.name] = self.latencies[objective.target].median_s
        return found


class LatencySource(Protocol):
    """Knows what architectures of one space cost on one target.

    Guarantees: one answer an architecture; a failed measurement is an answer. Exceptions mean
    that nothing can be answered any more.
    """

    @property
    def corrections(self) -> Mapping[str, Latency]:
        """Times by architecture that replace earlier answers, found wrong meanwhile."""

    def latency(self, encoding: str) -> Latency | EvaluationFailure:
        """Return the time of one architecture, or why there is none."""


class CandidateEvaluator:
    """Scores candidates one by one; nothing else of ours runs while a time is taken.

    Args:
        estimator: Of accuracy.
        sources: Of times, by target name.
        known: Candidates of an earlier part of the run, by encoding; they are not scored again
            as long as the estimator is in the state that scored them.
    """

    def __init__(
        self,
        estimator: Estimator,
        sources: Mapping[str, LatencySource],
        known: Mapping[str, Candidate],
    ) -> None:
        self._estimator = estimator
        self._sources = sources
        self._known = known

    def is_known(self, encoding: str) -> bool:
        """Return whether `evaluate` would only look the candidate up."""
        known = self._known.get(encoding)
        return known is not None and known.estimator_state_id == self._estimator.state_id

    def corrected(self, candidate: Candidate) -> Candidate:
        """Return the candidate with the times that replace those it was scored by."""
        changes = {
            target: source.corrections[candidate.encoding]
            for target, source in self._sources.items()
            if target in candidate.latencies and candidate.encoding in source.corrections
        }
        if not changes:
            return candidate
        return replace(candidate, latencies={**candidate.latencies, **changes})

    def evaluate(self, encoding: str) -> Candidate:
        """Score one architecture. A time that cannot be had is a failure in the result."""
        if self.is_known(encoding):
            return self._known[encoding]
        accuracy = self._estimator.validation_accuracy(encoding)
        latencies: dict[str, Latency] = {}
        failure = None
        for target, source in self._sources.items():
            answer = source.latency(encoding)
            if isinstance(answer, EvaluationFailure):
                failure = replace(answer, target=target)
                break
            latencies[target] = answer
        return Candidate(
            encoding=encoding,
            estimator_state_id=self._estimator.state_id,
            accuracy=accuracy,
            latencies=latencies,
            failure=failure,
        )
