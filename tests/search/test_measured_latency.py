"""Times that are not good enough are measured again, and none is ever chosen by being fast."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.latency_models import samples

from boardfront.latency_models.store import MeasurementStore
from boardfront.protos.records import (
    FailureKind,
    Normalised,
    Precision,
    Purpose,
    Task,
    Verdict,
)
from boardfront.search.evaluation import CandidateEvaluator, EvaluationFailure, Latency
from boardfront.search.measured_latency import MeasuredLatency, TimingRule
from boardfront.search.reference import choose_reference
from boardfront.search.spaces import catalog
from boardfront.search.verdicts import MERIT, Reaction, VerdictPolicy, better

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from boardfront.latency_models.base import Measurement, TimeRequest
    from boardfront.protos.records import Failure, Result
    from boardfront.search.spaces.spos.space import SposSpace

_RULE = TimingRule(task=Task(), backend="fake")


class _Programmed:
    """A Measurer that answers with what it was given, in that order, and keeps the questions."""

    def __init__(self, *outcomes: Result | Failure) -> None:
        self.left = list(outcomes)
        self.asked: list[TimeRequest] = []

    def measure(self, requests: Sequence[TimeRequest]) -> Iterator[Measurement]:
        for request in requests:
            self.asked.append(request)
            number = len(self.asked)
            yield replace(
                samples.measurement(self.left.pop(0), job_id=f"job-{number}"),
                id=number,
                purpose=request.purpose,
            )


@pytest.fixture(scope="module")
def space() -> SposSpace:
    settings = {"resolution": 8, "classes": 10, "stem_channels": 8, "stages": [[16, 2]]}
    return catalog.load("spos", settings)  # type: ignore[return-value]


def _source(
    space: SposSpace,
    measurer: _Programmed,
    pauses: list[float] | None = None,
    **policy: object,
) -> MeasuredLatency:
    pauses = [] if pauses is None else pauses
    rule = replace(_RULE, policy=VerdictPolicy(**policy))  # type: ignore[arg-type]
    return MeasuredLatency(space, measurer, rule, job_seed="run here", sleep=pauses.append)


def _result(verdict: Verdict, median_s: float = 0.002, half: float = 0.01) -> Result:
    return samples.result(verdict=verdict, median_s=median_s, relative_half_width=half)


def test_an_ok_time_is_asked_for_once(space: SposSpace) -> None:
    measurer = _Programmed(_result(Verdict.OK))
    latency = _source(space, measurer).latency("33")
    assert isinstance(latency, Latency)
    assert (latency.verdict, latency.attempts, len(measurer.asked)) == (Verdict.OK, 1, 1)
    assert not measurer.asked[0].fresh


def test_by_default_it_is_measured_twice_more_after_a_pause(space: SposSpace) -> None:
    pauses: list[float] = []
    measurer = _Programmed(*(_result(Verdict.CONTENDED) for _ in range(3)))
    latency = _source(space, measurer, pauses, cool_down_s=7.0).latency("33")
    assert isinstance(latency, Latency)
    assert (latency.verdict, latency.attempts) == (Verdict.CONTENDED, 3)
    assert pauses == [7.0, 7.0]
    assert [request.purpose for request in measurer.asked] == [
        Purpose.CANDIDATE,
        Purpose.RETRY,
        Purpose.RETRY,
    ]
    assert [request.fresh for request in measurer.asked] == [False, True, True]
    assert len({request.job_seed for request in measurer.asked}) == 3


def test_a_retry_that_is_ok_ends_it(space: SposSpace) -> None:
    measurer = _Programmed(_result(Verdict.DRIFTED), _result(Verdict.OK, 0.009))
    latency = _source(space, measurer).latency("33")
    assert isinstance(latency, Latency)
    assert (latency.verdict, latency.median_s, latency.attempts) == (Verdict.OK, 0.009, 2)


def test_the_better_verdict_wins_then_the_narrower_interval_never_the_time(
    space: SposSpace,
) -> None:
    measurer = _Programmed(
        _result(Verdict.CONTENDED, 0.001, 0.001),
        _result(Verdict.UNSTABLE, 0.004, 0.05),
        _result(Verdict.UNSTABLE, 0.009, 0.04),
    )
    latency = _source(space, measurer).latency("33")
    assert isinstance(latency, Latency)
    assert (latency.verdict, latency.median_s, latency.attempts) == (Verdict.UNSTABLE, 0.009, 3)


def test_of_equals_the_first_is_kept() -> None:
    first = Latency(median_s=2.0, low_s=1.0, high_s=3.0, verdict=Verdict.OK, measurement_id=1)
    faster = replace(first, median_s=1.0, low_s=0.5, high_s=1.5, measurement_id=2)
    assert better(first, faster) is first
    assert better(faster, first) is faster


def test_every_verdict_has_its_merit() -> None:
    assert set(MERIT) == set(Verdict)
    assert MERIT[0] is Verdict.OK


def test_what_may_be_accepted_is_not_measured_again(space: SposSpace) -> None:
    measurer = _Programmed(_result(Verdict.CONTENDED))
    source = _source(space, measurer, reactions={Verdict.CONTENDED: Reaction.ACCEPT})
    latency = source.latency("33")
    assert isinstance(latency, Latency)
    assert (latency.verdict, latency.attempts) == (Verdict.CONTENDED, 1)


def test_what_shall_be_dropped_is_a_failure_and_no_number(space: SposSpace) -> None:
    measurer = _Programmed(_result(Verdict.THROTTLED))
    source = _source(space, measurer, reactions={Verdict.THROTTLED: Reaction.DROP})
    answer = source.latency("33")
    assert isinstance(answer, EvaluationFailure)
    assert answer.kind is FailureKind.UNSTABLE
    assert "throttled" in answer.message


def test_a_failure_is_told_and_not_retried(space: SposSpace) -> None:
    measurer = _Programmed(samples.failure())
    answer = _source(space, measurer).latency("33")
    assert answer == EvaluationFailure(message="signal 11", kind=FailureKind.CRASHED)
    assert len(measurer.asked) == 1


def test_a_retry_that_fails_keeps_what_there_was(space: SposSpace) -> None:
    measurer = _Programmed(_result(Verdict.UNSTABLE), samples.failure())
    latency = _source(space, measurer).latency("33")
    assert isinstance(latency, Latency)
    assert latency.verdict is Verdict.UNSTABLE


def test_with_a_reference_the_ratio_counts_and_its_verdict(space: SposSpace) -> None:
    raw = replace(_result(Verdict.DRIFTED, 0.009), normalised=_ratio(0.5, Verdict.OK))
    measurer = _Programmed(raw)
    source = _source(space, measurer)
    source.reference = source.reference_model("5x", quiet_s=0.004)
    latency = source.latency("33")
    assert isinstance(latency, Latency)
    assert latency.median_s == pytest.approx(0.002)
    assert latency.raw_median_s == 0.009
    assert (latency.verdict, latency.attempts) == (Verdict.OK, 1)
    asked = measurer.asked[0].reference
    assert asked is not None
    assert asked.label == "5x"
    assert asked.model != measurer.asked[0].model


def test_a_reference_that_failed_leaves_no_time(space: SposSpace) -> None:
    source = _source(space, _Programmed(_result(Verdict.OK)))
    source.reference = source.reference_model("5x", quiet_s=0.004)
    answer = source.latency("33")
    assert isinstance(answer, EvaluationFailure)
    assert "the reference failed" in answer.message


def test_alone_asks_without_the_reference(space: SposSpace) -> None:
    measurer = _Programmed(_result(Verdict.OK))
    source = _source(space, measurer)
    source.reference = source.reference_model("5x", quiet_s=0.004)
    answer = source.alone("5x", Precision(min_duration_s=3.0))
    assert isinstance(answer, Latency)
    assert measurer.asked[0].reference is None
    assert measurer.asked[0].precision.min_duration_s == 3.0
    # A level of another day, or of another board of the kind, is not this run's.
    assert measurer.asked[0].fresh
    assert measurer.asked[0].job_seed == "run here alone"


def test_the_reference_is_of_middling_size_and_follows_from_the_seed(space: SposSpace) -> None:
    chosen = choose_reference(space, np.random.default_rng(1))
    assert chosen == choose_reference(space, np.random.default_rng(1))
    sizes = sorted(space.count(f"{a}{b}").macs for a in "357x" for b in "357x")
    assert sizes[3] <= space.count(chosen).macs <= sizes[-4]


def _ratio(ratio: float, verdict: Verdict) -> Normalised:
    return Normalised(
        reference_subject_id="reference",
        reference_sha256="r" * 64,
        ratio=ratio,
        low=ratio * 0.99,
        high=ratio * 1.01,
        windows=6,
        merged=1,
        autocorrelation=None,
        elasticity=None,
        reference_median_s=0.003,
        reference_quiet_s=0.004,
        verdict=verdict,
        evidence=(),
    )


def test_a_time_that_was_found_wrong_is_replaced_in_the_front(space: SposSpace) -> None:
    measurer = _Programmed(_result(Verdict.OK, 0.002), _result(Verdict.OK, 0.003))
    source = _source(space, measurer)
    evaluator = CandidateEvaluator(_Sure(), {"here": source}, {})
    candidate = evaluator.evaluate("33")
    assert evaluator.corrected(candidate) is candidate
    old = replace(samples.measurement(), id=1)
    assert source.remeasured(old, replace(samples.measurement(_result(Verdict.OK, 0.009)), id=7))
    corrected = evaluator.corrected(candidate)
    assert corrected.latencies["here"].median_s == 0.009
    assert corrected.latencies["here"].measurement_id == 7
    assert source.remeasured(replace(old, id=99), old) is None
    # What replaced it may be found wrong in its turn.
    newest = replace(samples.measurement(_result(Verdict.OK, 0.008)), id=8)
    assert source.remeasured(replace(old, id=7), newest) == "33"
    assert evaluator.corrected(candidate).latencies["here"].median_s == 0.008


def test_times_of_an_earlier_part_can_be_measured_again(space: SposSpace, tmp_path: Path) -> None:
    with MeasurementStore(tmp_path / "store.db") as store:
        old = store.append(samples.measurement(_result(Verdict.OK, 0.002)))
        assert old.id is not None
        known = {"33": _latency(old.id, 0.002), "35": _latency(77, 0.003)}
        source = _source(space, _Programmed(_result(Verdict.OK, 0.004)))
        source.corrections["35"] = _latency(78, 0.005)
        assert source.recognise(known) == [old.id, 78]
        ((before, new),) = source.measure_again([old.id], store)
    assert before.id == old.id
    assert source.remeasured(before, new) == "33"
    assert source.corrections["33"].median_s == 0.004


def _latency(measurement_id: int, median_s: float) -> Latency:
    return Latency(
        median_s=median_s,
        low_s=median_s,
        high_s=median_s,
        verdict=Verdict.OK,
        measurement_id=measurement_id,
    )


class _Queue(_Programmed):
    """A Measurer that answers when it is attended, the last question first."""

    ahead = 3

    def __init__(self, *outcomes: Result | Failure) -> None:
        super().__init__(*outcomes)
        self.waiting: list[tuple[TimeRequest, Callable[[Measurement], None]]] = []
        self.delays_s: list[float] = []
        self.after: list[Measurement | None] = []

    def submit(
        self,
        request: TimeRequest,
        then: Callable[[Measurement], None],
        *,
        delay_s: float = 0.0,
        after: Measurement | None = None,
    ) -> None:
        self.waiting.append((request, then))
        self.delays_s.append(delay_s)
        self.after.append(after)

    def attend(self, *, wait: bool) -> None:
        if wait:
            request, then = self.waiting.pop()
            (measurement,) = self.measure([request])
            then(measurement)


def test_what_is_begun_goes_through_the_same_retries(space: SposSpace) -> None:
    queue = _Queue(
        _result(Verdict.OK, 0.004), _result(Verdict.THROTTLED), _result(Verdict.OK, 0.002)
    )
    rule = replace(_RULE, policy=VerdictPolicy(cool_down_s=7.0))
    source = MeasuredLatency(space, queue, rule, job_seed="run here", queue=queue)
    assert source.ahead == 3
    first, second = source.begin("33"), source.begin("55")
    done = [first.is_done]
    assert queue.asked == []
    got = second.result()
    assert isinstance(got, Latency)
    assert (got.median_s, got.attempts) == (0.004, 1)
    assert second.result() is got
    latency = first.result()
    assert isinstance(latency, Latency)
    assert (latency.verdict, latency.attempts) == (Verdict.OK, 2)
    assert [*done, first.is_done] == [False, True]
    assert queue.delays_s == [0.0, 0.0, 7.0]
    # The board that was throttled is the one that has to cool down.
    assert [one and one.id for one in queue.after] == [None, None, 2]
    assert queue.asked[-1].purpose is Purpose.RETRY


def test_without_a_queue_what_is_begun_waits_until_it_is_asked_for(space: SposSpace) -> None:
    measurer = _Programmed(_result(Verdict.OK))
    source = _source(space, measurer)
    assert source.ahead == 0
    pending = source.begin("33")
    assert (pending.is_done, measurer.asked) == (False, [])
    assert isinstance(pending.result(), Latency)
    assert pending.result() is pending.result()
    assert (pending.is_done, len(measurer.asked)) == (True, 1)


class _Sure:
    """An estimator that is always right."""

    state_id = "sure"

    def validation_accuracy(self, encoding: str) -> float:
        assert encoding
        return 1.0

    def test_accuracy(self, encoding: str) -> float:
        return self.validation_accuracy(encoding)
