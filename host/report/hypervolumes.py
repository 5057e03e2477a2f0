"""How the hypervolume of a run grew, evaluation by evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.search.objective import Objective, ObjectiveKind, minimised, violations
from boardfront.search.pareto import hypervolume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host.view.run_view import CandidateView, RunView


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """A run's hypervolume over accuracy and the time on one target.

    Args:
        name: Of the run.
        steps: (evaluations, volume) where it changed, and at both ends.
        reference: What counts as worst: (-accuracy, seconds). The same in runs that compare.
    """

    name: str
    steps: tuple[tuple[int, float], ...]
    reference: tuple[float, float]

    @property
    def last(self) -> float:
        """The volume in the end; fractions of accuracy times seconds."""
        return self.steps[-1][1] if self.steps else 0.0

    def evaluations_to(self, share: float) -> int | None:
        """Return after how many evaluations a share of the last volume was there."""
        if not self.last:
            return None
        return next((at for at, volume in self.steps if volume >= share * self.last), None)


def growths(views: Sequence[RunView], target: str) -> tuple[Growth, ...]:
    """Return how runs grew, all against the worst scores of all their first generations.

    Source of the reference point: the run's own journal takes the worst of its first generation.

    Args:
        views: Runs that time on the target; others are left out.
        target: Its name.
    """
    rows = {}
    for view in views:
        objectives = _pair(view, target)
        if objectives:
            rows[view.name] = _values(view.candidates, objectives)
    first = [
        values
        for found in rows.values()
        for generation, values, _ in found
        if values is not None and generation == 0
    ]
    if not first:
        return ()
    reference = (max(v[0] for v in first), max(v[1] for v in first))
    return tuple(
        Growth(name=name, steps=_steps(found, reference), reference=reference)
        for name, found in rows.items()
    )


def _pair(view: RunView, target: str) -> tuple[Objective, Objective] | None:
    accuracy = next((o for o in view.objectives if o.kind is ObjectiveKind.ACCURACY), None)
    latency = next((o for o in view.objectives if o.target == target), None)
    return (accuracy, latency) if accuracy and latency else None


_Row = tuple[int, "tuple[float, float] | None", bool]


def _values(
    candidates: Sequence[CandidateView], objectives: tuple[Objective, Objective]
) -> list[_Row]:
    """Return generation, minimised values (None: no scores), and whether all limits are kept."""
    rows: list[_Row] = []
    accuracy, latency = objectives
    for one in candidates:
        time = one.latencies.get(latency.target or "")
        if one.accuracy is None or time is None:
            rows.append((one.generation, None, False))
            continue
        scores = {accuracy.name: one.accuracy, latency.name: time.median_s}
        first, second = minimised(objectives, scores)
        rows.append((one.generation, (first, second), not any(violations(objectives, scores))))
    return rows


def _steps(rows: Sequence[_Row], reference: tuple[float, float]) -> tuple[tuple[int, float], ...]:
    front: list[tuple[float, float]] = []
    steps = [(0, 0.0)]
    for evaluations, (_, values, is_allowed) in enumerate(rows, 1):
        if values is None or not is_allowed or any(_covers(one, values) for one in front):
            continue
        front = [one for one in front if not _covers(values, one)] + [values]
        volume = hypervolume(front, reference)
        if volume > steps[-1][1]:
            steps.append((evaluations, volume))
    if len(rows) > steps[-1][0]:
        steps.append((len(rows), steps[-1][1]))
    return tuple(steps)


def _covers(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Return whether a is nowhere worse than b."""
    return a[0] <= b[0] and a[1] <= b[1]
