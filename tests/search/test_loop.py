"""The loop over a space that can be enumerated, with an evaluator that counts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.search.toy_space import ToySpace, toy_values
from typing_extensions import override

from boardfront.protos.records import Verdict
from boardfront.search.algorithms import catalog
from boardfront.search.evaluation import (
    Candidate,
    CandidateEvaluator,
    EvaluationFailure,
    Latency,
)
from boardfront.search.loop import Budget, front_hypervolume, front_of, search, told
from boardfront.search.objective import Objective, ObjectiveKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boardfront.search.algorithms.base import SearchAlgorithm

OBJECTIVES = (
    Objective(name="accuracy", kind=ObjectiveKind.ACCURACY),
    Objective(name="latency", kind=ObjectiveKind.LATENCY, target="here"),
)


def _candidate(
    encoding: str, accuracy: float, time_s: float | None, *, state: str = "s1"
) -> Candidate:
    if time_s is None:
        failure = EvaluationFailure(message="too big", target="here")
        return Candidate(
            encoding=encoding, estimator_state_id=state, accuracy=accuracy, failure=failure
        )
    latency = Latency(
        median_s=time_s, low_s=time_s, high_s=time_s, verdict=Verdict.OK, measurement_id=1
    )
    return Candidate(
        encoding=encoding,
        estimator_state_id=state,
        accuracy=accuracy,
        latencies={"here": latency},
    )


class _Counting(CandidateEvaluator):
    """Scores toys; those with a leading 3 fail."""

    def __init__(self, known: Mapping[str, Candidate] | None = None) -> None:
        super().__init__(_State(), {}, known or {})
        self.fresh: Counter[str] = Counter()

    @override
    def evaluate(self, encoding: str) -> Candidate:
        if self.is_known(encoding):
            return super().evaluate(encoding)
        self.fresh[encoding] += 1
        cost, loss = toy_values(encoding)
        return _candidate(
            encoding, 1.0 - loss / 1000, None if encoding.startswith("3") else 0.001 + cost
        )


class _State:
    state_id = "s1"

    def validation_accuracy(self, encoding: str) -> float:
        raise AssertionError(encoding)


class _Seen:
    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.candidates: list[Candidate] = []
        self.generations: list[tuple[int, int]] = []
        self.fronts: list[int] = []

    def before(self, index: int, encoding: str) -> None:
        del encoding
        assert index == len(self.candidates)
        if index == self.stop_at:
            raise KeyboardInterrupt

    def scored(self, index: int, generation: int, candidate: Candidate) -> None:
        self.candidates.append(candidate)
        self.generations.append((index, generation))

    def generation_done(self, generation: int, front: Sequence[Candidate]) -> None:
        assert generation == len(self.fronts)
        self.fronts.append(len(front))


def _algorithm(length: int = 5) -> SearchAlgorithm:
    return catalog.load("nsga2")(
        ToySpace(length),
        objectives=2,
        seed=5,
        population=8,
        crossover_probability=0.9,
        mutation_probability=0.8,
    )


def _search(
    evaluations: int, evaluator: _Counting, seen: _Seen, *, length: int = 5
) -> tuple[Candidate, ...]:
    budget = Budget(evaluations=evaluations)
    return search(_algorithm(length), evaluator, OBJECTIVES, budget, seen)


class _Comparing(_Seen):
    """Finds every front from all candidates so far."""

    @override
    def generation_done(self, generation: int, front: Sequence[Candidate]) -> None:
        super().generation_done(generation, front)
        assert tuple(front) == front_of(self.candidates, OBJECTIVES)


def test_each_generation_s_front_is_that_of_all_candidates() -> None:
    seen = _Comparing()
    front = _search(100, _Counting(), seen)
    assert len(seen.fronts) == 13
    assert front == front_of(seen.candidates, OBJECTIVES)


def test_the_budget_counts_distinct_candidates_and_cuts_a_generation() -> None:
    evaluator, seen = _Counting(), _Seen()
    front = _search(21, evaluator, seen)
    assert len(seen.candidates) == len(evaluator.fresh) == 21
    assert set(evaluator.fresh.values()) == {1}
    assert seen.generations == [(i, i // 8) for i in range(21)]
    assert len(seen.fronts) == 3
    assert front == front_of(seen.candidates, OBJECTIVES)


def test_a_space_that_is_smaller_than_the_budget_ends_the_search() -> None:
    evaluator, seen = _Counting(), _Seen()
    _search(100, evaluator, seen, length=2)
    assert sorted(evaluator.fresh) == sorted(ToySpace(2).members())


def test_failures_are_never_on_the_front() -> None:
    seen = _Seen()
    front = _search(60, _Counting(), seen)
    assert any(candidate.failure for candidate in seen.candidates)
    assert front
    assert all(candidate.failure is None for candidate in front)
    times_s = [candidate.latencies["here"].median_s for candidate in front]
    assert times_s == sorted(times_s)


def test_replay_scores_nothing_anew() -> None:
    seen = _Seen()
    front = _search(30, _Counting(), seen)
    known = {candidate.encoding: candidate for candidate in seen.candidates}
    again = _Counting(known)
    assert _search(30, again, _Seen()) == front
    assert not again.fresh


@pytest.mark.parametrize("stop_at", [0, 5, 8, 13, 29])
def test_an_interrupted_search_goes_on_to_the_same_front(stop_at: int) -> None:
    whole = _Seen()
    front = _search(30, _Counting(), whole)
    first, part = _Counting(), _Seen(stop_at)
    with pytest.raises(KeyboardInterrupt):
        _search(30, first, part)
    second, rest = _Counting({c.encoding: c for c in part.candidates}), _Seen()
    assert _search(30, second, rest) == front
    assert rest.candidates == whole.candidates
    assert not set(first.fresh) & set(second.fresh)


def test_an_accuracy_of_another_estimator_is_not_known() -> None:
    stale = _candidate("00000", 0.5, 1.0, state="s0")
    evaluator = _Counting({"00000": stale})
    assert evaluator.evaluate("00000") is not stale
    assert evaluator.fresh == {"00000": 1}


def test_front_of_keeps_limits_and_the_first_of_equals() -> None:
    candidates = [
        _candidate("a", 0.9, 3.0),
        _candidate("b", 0.8, 2.0),
        _candidate("c", 0.8, 2.0),
        _candidate("d", 0.7, 2.5),
        _candidate("e", 0.5, 1.0),
        _candidate("f", 0.99, None),
    ]
    assert [c.encoding for c in front_of(candidates, OBJECTIVES)] == ["e", "b", "a"]
    limited = (
        Objective(name="accuracy", kind=ObjectiveKind.ACCURACY, limit=0.6),
        Objective(name="latency", kind=ObjectiveKind.LATENCY, target="here", limit=2.2),
    )
    assert [c.encoding for c in front_of(candidates, limited)] == ["b"]
    assert front_of(candidates[3:], limited) == ()


def test_what_the_algorithm_is_told() -> None:
    limit = Objective(name="latency", kind=ObjectiveKind.LATENCY, target="here", limit=2.0)
    limited = (OBJECTIVES[0], limit)
    told_ok = told(_candidate("a", 0.9, 3.0), limited)
    assert (told_ok.encoding, getattr(told_ok, "values", None)) == ("a", (-0.9, 3.0))
    # One second above a limit of two.
    assert getattr(told_ok, "violations", None) == (0.5,)
    assert getattr(told(_candidate("f", 0.9, None), limited), "reason", None) == "too big"


def test_the_hypervolume_of_a_front() -> None:
    front = (_candidate("e", 0.5, 1.0), _candidate("a", 0.9, 3.0))
    # By hand, against accuracy 0 and 4 s: 0.5 x 3 + 0.4 x 1.
    assert front_hypervolume(front, OBJECTIVES, (0.0, 4.0)) == pytest.approx(1.9)
    assert front_hypervolume((), OBJECTIVES, (0.0, 4.0)) == 0.0
    assert front_hypervolume(front, OBJECTIVES[:1], (0.0,)) is None
