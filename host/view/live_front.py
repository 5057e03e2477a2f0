"""The candidates of a run with the front among them, kept up to date record by record."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from boardfront.host.view.run_view import CandidateView
from boardfront.search.objective import minimised, violations
from boardfront.search.pareto import non_dominated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from boardfront.host import journal_records as records
    from boardfront.search.evaluation import Latency
    from boardfront.search.objective import Objective


class LiveFront:
    """Candidates in order of evaluation, each encoding once, and which of them nothing beats.

    Guarantees: the front is the one that `search.loop.front_of` gives; what comes new is compared
    with the front alone, so that following a long search stays cheap.

    Args:
        objectives: Of the search; none while they are not known, and then there is no front.
    """

    def __init__(self, objectives: Sequence[Objective] = ()) -> None:
        self._objectives = tuple(objectives)
        self._candidates: dict[str, CandidateView] = {}
        self._scores: dict[str, dict[str, float]] = {}
        self._values: dict[str, tuple[float, ...]] = {}
        self._corrections: dict[str, dict[str, Latency]] = {}
        self._front: list[str] = []
        self._fresh: list[str] = []
        self._is_stale = False
        self._all: tuple[CandidateView, ...] = ()

    def __len__(self) -> int:
        return len(self._candidates)

    def add(self, record: records.Evaluation) -> None:
        """Take a candidate; one that was scored before is replaced in its place."""
        encoding = record.encoding
        self._is_stale |= encoding in self._candidates
        corrections = self._corrections.get(encoding, {})
        self._candidates[encoding] = CandidateView(
            index=record.index,
            generation=record.generation,
            encoding=encoding,
            accuracy=record.validation_accuracy,
            latencies={**record.latencies, **corrections},
            failure=record.failure,
            elapsed_s=record.elapsed_s,
        )
        self._scores[encoding] = {
            name: score for name, score in record.scores.items() if score is not None
        }
        self._value(encoding, corrections)
        self._fresh.append(encoding)

    def correct(self, record: records.Remeasured) -> None:
        """Take a time that replaces an earlier one, also of candidates that are still to come."""
        encoding = record.encoding
        self._corrections.setdefault(encoding, {})[record.target] = record.latency
        candidate = self._candidates.get(encoding)
        if candidate is not None and record.target in candidate.latencies:
            self._candidates[encoding] = replace(
                candidate, latencies={**candidate.latencies, record.target: record.latency}
            )
            self._value(encoding, self._corrections[encoding])
            self._is_stale = True

    def candidates(self) -> tuple[CandidateView, ...]:
        """Return all, marked as they stand now; the same tuple as long as nothing changed."""
        if not (self._is_stale or self._fresh):
            return self._all
        self._mark(self._candidates if self._is_stale else [*self._front, *self._fresh])
        self._fresh.clear()
        self._is_stale = False
        self._all = tuple(self._candidates.values())
        return self._all

    @property
    def front_size(self) -> int:
        """How many nothing beats, as last marked."""
        return len(self._front)

    def _value(self, encoding: str, corrections: dict[str, Latency]) -> None:
        """Find what a candidate is compared by; none where a score is missing or over a limit."""
        scores = dict(self._scores[encoding])
        for objective in self._objectives:
            if objective.target in corrections and objective.target is not None:
                scores[objective.name] = corrections[objective.target].median_s
        self._values.pop(encoding, None)
        names = {objective.name for objective in self._objectives}
        is_whole = names <= {name for name, score in scores.items() if math.isfinite(score)}
        if not names or not is_whole or self._candidates[encoding].failure is not None:
            return
        if not any(violations(self._objectives, scores)):
            self._values[encoding] = minimised(self._objectives, scores)

    def _mark(self, compared: Iterable[str]) -> None:
        """Find the front of some candidates. Of equal ones the first stands for all."""
        first: dict[tuple[float, ...], str] = {}
        for encoding in compared:
            if encoding in self._values:
                first.setdefault(self._values[encoding], encoding)
        mask = non_dominated(np.array(list(first))) if first else ()
        front = [encoding for encoding, kept in zip(first.values(), mask, strict=True) if kept]
        members = set(front)
        for encoding in members.union(self._front):
            candidate = self._candidates[encoding]
            if candidate.is_on_front != (encoding in members):
                self._candidates[encoding] = replace(
                    candidate, is_on_front=not candidate.is_on_front
                )
        self._front = front
