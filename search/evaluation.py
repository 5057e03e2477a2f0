"""Scoring a candidate: its accuracy by the estimator, its times by measuring or predicting."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

# At run time, because the journal's reader resolves the annotations.
from boardfront.protos.records import FailureKind, Verdict  # noqa: TC001
from boardfront.search.objective import Objective, ObjectiveKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from boardfront.latency_models.base import Measurement
    from boardfront.search.estimator import Estimator


NO_ACCURACY = math.nan
"""Of a candidate that can have none. Nothing can be done with it by mistake: a score that is no
number is refused."""

NO_DEVICE = 1 << 30
"""`LatencySource.ahead` of a source that asks no device: nothing has to be begun early."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """A time as it was measured, and where the store has the rest of it; or one predicted.

    Args:
        median_s: Seconds a run; with a reference, the ratio times the reference's quiet time.
        low_s: Of its 95 % interval: of the median measured, or of what measuring would say.
        high_s: Of its 95 % interval.
        verdict: Whether that can be trusted; None of a prediction: nothing was measured.
        measurement_id: In the store; None of a prediction.
        raw_median_s: What the clock said, where `median_s` was normalised by a reference.
        attempts: How often it was measured before this one was kept.
        predicted: Whether it was predicted, not measured.
    """

    median_s: float
    low_s: float
    high_s: float
    verdict: Verdict | None = None
    measurement_id: int | None = None
    raw_median_s: float | None = None
    attempts: int = 1
    predicted: bool = False

    def __post_init__(self) -> None:
        if self.predicted is not (self.verdict is None):
            raise ValueError(
                "expected a verdict of a measured time and none of a predicted one, got "
                f"{self.verdict} with predicted={self.predicted}"
            )

    @property
    def word(self) -> str:
        """How far it can be trusted, in a word: the verdict, or "predicted"."""
        return "predicted" if self.verdict is None else self.verdict.value

    @property
    def measured_verdict(self) -> Verdict:
        """The verdict of a measured time.

        Raises:
            ValueError: It was predicted.
        """
        if self.verdict is None:
            raise ValueError("expected a measured time, got a predicted one")
        return self.verdict

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


class PendingLatency(Protocol):
    """A time that was asked for."""

    @property
    def is_done(self) -> bool:
        """Whether `result` need not wait."""

    def result(self) -> Latency | EvaluationFailure:
        """Wait for the answer; may be asked again."""


class LatencySource(Protocol):
    """Knows what architectures of one space cost on one target.

    Guarantees: one answer an architecture; a failed measurement is an answer. Exceptions mean
    that nothing can be answered any more. For one thread.
    """

    @property
    def ahead(self) -> int:
        """Architectures that should be begun so that no device waits.

        0: nothing of ours may run beside a measurement; one is asked for at a time.
        `NO_DEVICE`: no device is asked.
        """

    @property
    def corrections(self) -> Mapping[str, Latency]:
        """Times by architecture that replace earlier answers, found wrong meanwhile."""

    def latency(self, encoding: str) -> Latency | EvaluationFailure:
        """Return the time of one architecture, or why there is none."""

    def begin(self, encoding: str) -> PendingLatency:
        """Begin to time one architecture and return at once; `latency` begins and waits."""


class CandidateEvaluator:
    """Scores candidates, and tells them in the order of asking.

    Where every device allows it, their work overlaps ours: networks are written and accuracies
    are found while earlier candidates are timed. Where one does not (the host's own machine, whose
    times our work would disturb), they are scored one by one and nothing else of ours runs while
    a time is taken. Both ways give the same candidates.

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

    @property
    def has_corrections(self) -> bool:
        """Whether some time that was told was found wrong."""
        return any(source.corrections for source in self._sources.values())

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
        """Score one architecture. What cannot be had is a failure in the result."""
        if self.is_known(encoding):
            return self._known[encoding]
        accuracy = self.accuracy(encoding)
        if isinstance(accuracy, EvaluationFailure):
            return self._candidate(encoding, accuracy, {})
        sources = self._sources.items()
        return self._candidate(
            encoding, accuracy, {name: _Asking(source, encoding) for name, source in sources}
        )

    def evaluate_all(
        self, encodings: Sequence[str], before: Callable[[int, str], None] = lambda *_: None
    ) -> Iterator[Candidate]:
        """Score architectures, each yielded in order as soon as it and all before it are known.

        Args:
            encodings: Different ones.
            before: Called with the place, from 0, and the encoding of each before it is waited
                for; what it raises ends the scoring.
        """
        ahead = min((source.ahead for source in self._sources.values()), default=0)
        if ahead == 0:
            for index, encoding in enumerate(encodings):
                before(index, encoding)
                yield self.evaluate(encoding)
            return
        line = [_Place(encoding) for encoding in encodings]
        if ahead >= NO_DEVICE:
            yield from self._score_without_devices(line, before)
            return
        for index, place in enumerate(line):
            before(index, place.encoding)
            self._work_until_done(line[index:], ahead)
            yield self._take(place)

    def accuracy(self, encoding: str) -> float | EvaluationFailure:
        """Return the accuracy of an architecture, or why it can have none."""
        return self._estimator.validation_accuracy(encoding)

    def _score_without_devices(
        self, line: Sequence[_Place], before: Callable[[int, str], None]
    ) -> Iterator[Candidate]:
        """Score in order; all are begun first, so that a source can answer them at one go."""
        for place in line:
            if not self.is_known(place.encoding):
                place.begin(self._sources)
        for index, place in enumerate(line):
            before(index, place.encoding)
            if not self.is_known(place.encoding):
                place.accuracy = self.accuracy(place.encoding)
            yield self._take(place)

    def _work_until_done(self, line: Sequence[_Place], ahead: int) -> None:
        """Work on candidates until the first one of the line only has to be waited for.

        First come the devices, then the accuracies in order, then what the devices will need
        once they have done what they have.
        """
        first = line[0]
        while not (self.is_known(first.encoding) or first.is_done):
            waiting = [place for place in line if not self.is_known(place.encoding)]
            begun = sum(place.begun and not place.is_timed for place in waiting)
            next_one = next((place for place in waiting if not place.begun), None)
            unscored = next((place for place in waiting if place.accuracy is None), None)
            if next_one is not None and (begun < ahead or unscored is None):
                next_one.begin(self._sources)
            elif unscored is not None:
                unscored.accuracy = self.accuracy(unscored.encoding)
            else:
                return

    def _take(self, place: _Place) -> Candidate:
        if self.is_known(place.encoding):
            return self._known[place.encoding]
        accuracy = place.accuracy
        if accuracy is None:
            raise AssertionError("all accuracies come before waiting")
        return self._candidate(place.encoding, accuracy, place.times)

    def _candidate(
        self,
        encoding: str,
        accuracy: float | EvaluationFailure,
        times: Mapping[str, PendingLatency],
    ) -> Candidate:
        """Put a candidate together; behind the first failure nothing counts."""
        failure = accuracy if isinstance(accuracy, EvaluationFailure) else None
        latencies: dict[str, Latency] = {}
        for target, time in times.items() if failure is None else ():
            answer = time.result()
            if isinstance(answer, EvaluationFailure):
                failure = replace(answer, target=target)
                break
            latencies[target] = answer
        return Candidate(
            encoding=encoding,
            estimator_state_id=self._estimator.state_id,
            accuracy=NO_ACCURACY if isinstance(accuracy, EvaluationFailure) else accuracy,
            latencies=latencies,
            failure=failure,
        )


class _Asking:
    """A PendingLatency that asks when it is waited for."""

    is_done = False

    def __init__(self, source: LatencySource, encoding: str) -> None:
        self._source = source
        self._encoding = encoding

    def result(self) -> Latency | EvaluationFailure:
        """Ask now."""
        return self._source.latency(self._encoding)


class _Place:
    """A candidate that is being scored."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.accuracy: float | EvaluationFailure | None = None
        self.begun = False
        self.times: dict[str, PendingLatency] = {}

    @property
    def is_timed(self) -> bool:
        """Whether no device has to do with it any more."""
        return self.begun and all(time.is_done for time in self.times.values())

    @property
    def is_done(self) -> bool:
        """Whether all is known of it."""
        failed = isinstance(self.accuracy, EvaluationFailure)
        return failed or (self.accuracy is not None and self.is_timed)

    def begin(self, sources: Mapping[str, LatencySource]) -> None:
        """Have it timed on all targets."""
        self.begun = True
        if not isinstance(self.accuracy, EvaluationFailure):
            self.times = {name: source.begin(self.encoding) for name, source in sources.items()}
