"""The search: ask, score, tell, until the budget is spent."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from boardfront.search.algorithms.base import Evaluated, Failed, Scored
from boardfront.search.objective import Objective, minimised, violations
from boardfront.search.pareto import hypervolume, non_dominated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.search.algorithms.base import SearchAlgorithm
    from boardfront.search.evaluation import Candidate, CandidateEvaluator


class SearchObserver(Protocol):
    """Follows a search. What it raises ends the search; all told before is kept."""

    def before(self, index: int, encoding: str) -> None:
        """Called before a candidate is waited for: the place to pause or to stop."""

    def scored(self, index: int, generation: int, candidate: Candidate) -> None:
        """Called for every candidate, known ones too, with its number from 0."""

    def generation_done(self, generation: int, front: Sequence[Candidate]) -> None:
        """Called after each generation with the front so far, fastest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """When a search ends: after this many distinct candidates."""

    evaluations: int


def search(
    algorithm: SearchAlgorithm,
    evaluator: CandidateEvaluator,
    objectives: Sequence[Objective],
    budget: Budget,
    observer: SearchObserver,
) -> tuple[Candidate, ...]:
    """Run a search and return its front.

    The algorithm is deterministic, so an interrupted search is resumed by running it again with
    the earlier candidates known to the evaluator: it asks for the same ones in the same order.

    Args:
        algorithm: Asks for candidates.
        evaluator: Scores them.
        objectives: What counts.
        budget: When to end. A last generation that it cuts short is scored, but not told.
        observer: Told about everything.

    Returns:
        The non-dominated candidates that keep every limit, sorted by the first minimised
        objective (latency, if there is one).
    """
    seen: list[Candidate] = []
    front: tuple[Candidate, ...] = ()
    generation = 0
    while len(seen) < budget.evaluations:
        asked = algorithm.ask()
        if not asked:
            break
        answers: list[Scored] = []
        wanted = asked[: budget.evaluations - len(seen)]
        before = functools.partial(_before, observer, len(seen))
        for candidate in evaluator.evaluate_all(wanted, before):
            observer.scored(len(seen), generation, candidate)
            seen.append(candidate)
            answers.append(told(candidate, objectives))
        if evaluator.has_corrections:
            # What was told stays told; a front never rests on a time that was found wrong.
            seen = [evaluator.corrected(candidate) for candidate in seen]
            front = front_of(seen, objectives)
        else:
            # What was dominated stays so.
            front = front_of([*front, *seen[-len(answers) :]], objectives)
        observer.generation_done(generation, front)
        if len(answers) < len(asked):
            break
        algorithm.tell(answers)
        generation += 1
    return front


def _before(observer: SearchObserver, first: int, place: int, encoding: str) -> None:
    observer.before(first + place, encoding)


def told(candidate: Candidate, objectives: Sequence[Objective]) -> Scored:
    """Return what an algorithm is told of a candidate."""
    if candidate.failure is not None:
        return Failed(encoding=candidate.encoding, reason=candidate.failure.message)
    scores = candidate.scores(objectives)
    return Evaluated(
        encoding=candidate.encoding,
        values=minimised(objectives, scores),
        violations=violations(objectives, scores),
    )


def front_of(
    candidates: Sequence[Candidate], objectives: Sequence[Objective]
) -> tuple[Candidate, ...]:
    """Return the non-dominated candidates among those that were scored and keep every limit.

    Of candidates with equal scores the first one stands for all.
    """
    rows: dict[tuple[float, ...], Candidate] = {}
    for candidate in candidates:
        answer = told(candidate, objectives)
        if isinstance(answer, Evaluated) and not any(answer.violations):
            rows.setdefault(answer.values, candidate)
    if not rows:
        return ()
    values = np.array(list(rows))
    mask = non_dominated(values)
    order = _sort_column(objectives)
    kept = sorted(
        (values for values, is_member in zip(rows, mask, strict=True) if is_member),
        key=lambda values: values[order],
    )
    return tuple(rows[values] for values in kept)


def front_hypervolume(
    front: Sequence[Candidate], objectives: Sequence[Objective], reference: Sequence[float]
) -> float | None:
    """Return the hypervolume of a front against a fixed point; None unless two objectives.

    Args:
        front: Scored candidates.
        objectives: Two of them.
        reference: Minimised values that count as worst.
    """
    if len(objectives) != 2:
        return None
    if not front:
        return 0.0
    values = np.array([minimised(objectives, c.scores(objectives)) for c in front])
    return float(hypervolume(values, np.asarray(reference, dtype=float)))


def _sort_column(objectives: Sequence[Objective]) -> int:
    return next((i for i, o in enumerate(objectives) if not o.is_maximised), 0)
