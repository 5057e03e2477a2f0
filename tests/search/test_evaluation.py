"""Scoring ahead of the devices gives what scoring one by one gives, and never waits in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from boardfront.protos.records import FailureKind, Verdict
from boardfront.search.evaluation import (
    Candidate,
    CandidateEvaluator,
    EvaluationFailure,
    Latency,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

ENCODINGS = [f"n{number}" for number in range(8)]


def _latency(encoding: str) -> Latency:
    time_s = 1e-3 * (1 + ENCODINGS.index(encoding))
    return Latency(
        median_s=time_s, low_s=time_s, high_s=time_s, verdict=Verdict.OK, measurement_id=1
    )


class _Device:
    """A LatencySource whose answers come when the test lets them, in any order."""

    def __init__(self, log: list[str], *, ahead: int = 3, fails: str = "") -> None:
        self.ahead = ahead
        self.corrections: Mapping[str, Latency] = {}
        self.arrived: set[str] = set()
        self.log = log
        self._fails = fails

    def latency(self, encoding: str) -> Latency | EvaluationFailure:
        self.log.append(f"time {encoding}")
        return self.answer(encoding)

    def begin(self, encoding: str) -> _Pending:
        self.log.append(f"begin {encoding}")
        return _Pending(self, encoding)

    def answer(self, encoding: str) -> Latency | EvaluationFailure:
        if encoding == self._fails:
            return EvaluationFailure(message="too big", kind=FailureKind.OUT_OF_MEMORY)
        return _latency(encoding)


class _Pending:
    def __init__(self, device: _Device, encoding: str) -> None:
        self._device = device
        self._encoding = encoding

    @property
    def is_done(self) -> bool:
        return self._encoding in self._device.arrived

    def result(self) -> Latency | EvaluationFailure:
        if not self.is_done:
            self._device.log.append(f"wait {self._encoding}")
            self._device.arrived.add(self._encoding)
        return self._device.answer(self._encoding)


class _Estimator:
    state_id = "s"

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def validation_accuracy(self, encoding: str) -> float:
        self._log.append(f"accuracy {encoding}")
        return 0.1 * ENCODINGS.index(encoding)


class _Evaluator(CandidateEvaluator):
    """Knows one that can have no accuracy."""

    @override
    def accuracy(self, encoding: str) -> float | EvaluationFailure:
        if encoding == "n4":
            return EvaluationFailure(message="its loss became infinite")
        return super().accuracy(encoding)


def _evaluator(
    devices: Mapping[str, _Device], log: list[str], known: Mapping[str, Candidate] | None = None
) -> CandidateEvaluator:
    return _Evaluator(_Estimator(log), devices, known or {})


def _gist(candidates: list[Candidate]) -> list[tuple[object, ...]]:
    return [
        (c.encoding, repr(c.accuracy), sorted(c.latencies.items()), c.failure) for c in candidates
    ]


def _scored(ahead: int, *, known: Mapping[str, Candidate] | None = None) -> list[Candidate]:
    log: list[str] = []
    devices = {"one": _Device(log, ahead=ahead, fails="n2"), "two": _Device(log, ahead=ahead)}
    return list(_evaluator(devices, log, known).evaluate_all(ENCODINGS))


@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_ahead_gives_what_one_by_one_gives(ahead: int) -> None:
    alone = _scored(0)
    assert _gist(_scored(ahead)) == _gist(alone)
    assert [candidate.encoding for candidate in alone] == ENCODINGS
    # Behind the first failure nothing counts, though it may have been measured.
    assert alone[2].failure == EvaluationFailure(
        message="too big", kind=FailureKind.OUT_OF_MEMORY, target="one"
    )
    assert alone[2].latencies == {}
    assert alone[4].latencies == {}
    assert alone[4].accuracy != alone[4].accuracy


def test_one_device_that_lets_nothing_overlap_rules_for_all() -> None:
    log: list[str] = []
    devices = {"far": _Device(log), "here": _Device(log, ahead=0)}
    list(_evaluator(devices, log).evaluate_all(ENCODINGS[:2]))
    assert log == [
        *("accuracy n0", "time n0", "time n0"),
        *("accuracy n1", "time n1", "time n1"),
    ]


def test_the_devices_are_fed_first_then_accuracies_are_found() -> None:
    log: list[str] = []
    device = _Device(log, ahead=2)
    scored = _evaluator({"far": device}, log).evaluate_all(ENCODINGS[:3])
    assert next(scored).encoding == "n0"
    # All work is done before anything is waited for.
    assert log == [
        *("begin n0", "begin n1", "accuracy n0", "accuracy n1", "accuracy n2"),
        *("begin n2", "wait n0"),
    ]


def test_a_slow_candidate_keeps_no_other_from_being_begun() -> None:
    log: list[str] = []
    device = _Device(log, ahead=2)
    scored = _evaluator({"far": device}, log).evaluate_all(ENCODINGS)
    next(scored)
    begun = [line for line in log if line.startswith("begin")]
    # n0 was waited for last of all, with every other one on its way.
    assert len(begun) == len(ENCODINGS) - 1  # n4 has no accuracy, which was known in time
    assert log[-1] == "wait n0"


def test_what_has_arrived_is_told_at_once() -> None:
    log: list[str] = []
    device = _Device(log, ahead=1)
    device.arrived.add("n0")
    scored = _evaluator({"far": device}, log).evaluate_all(ENCODINGS)
    assert next(scored).encoding == "n0"
    assert log == ["begin n0", "begin n1", "accuracy n0"]


def test_known_candidates_are_neither_scored_nor_timed() -> None:
    known = {c.encoding: c for c in _scored(0)[:6]}
    log: list[str] = []
    device = _Device(log)
    found = list(_evaluator({"one": device}, log, known).evaluate_all(ENCODINGS))
    assert [c.encoding for c in found] == ENCODINGS
    assert all(found[index] is known[encoding] for index, encoding in enumerate(ENCODINGS[:6]))
    assert not any(line.split()[1] in known for line in log)


def test_before_is_told_in_order_and_may_end_it() -> None:
    log: list[str] = []
    told: list[tuple[int, str]] = []

    def before(place: int, encoding: str) -> None:
        told.append((place, encoding))
        if place == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(_evaluator({"far": _Device(log)}, log).evaluate_all(ENCODINGS, before))
    assert told == [(0, "n0"), (1, "n1"), (2, "n2")]
