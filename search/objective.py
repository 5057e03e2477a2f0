"""What a search asks for, and how named scores become values to minimise."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ObjectiveKind(enum.Enum):
    """What a score is. Accuracies are fractions from 0 to 1, latencies are seconds."""

    ACCURACY = "accuracy"
    LATENCY = "latency"


class Direction(enum.Enum):
    """Which scores are better."""

    MAXIMISE = "max"
    MINIMISE = "min"


_NATURAL = {
    ObjectiveKind.ACCURACY: Direction.MAXIMISE,
    ObjectiveKind.LATENCY: Direction.MINIMISE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """One thing to be good at.

    Args:
        name: By which scores are named.
        kind: What the score is.
        direction: Which scores are better; None takes the kind's natural one.
        target: The name of the target whose latency it is; None for an accuracy.
        limit: A hard limit in the kind's unit (fraction or seconds): a maximised score must be
            at least, a minimised one at most this. None is no limit.
    """

    name: str
    kind: ObjectiveKind
    direction: Direction | None = None
    target: str | None = None
    limit: float | None = None

    def __post_init__(self) -> None:
        if (self.kind is ObjectiveKind.LATENCY) != (self.target is not None):
            raise WrongInputError(
                f"objective {self.name!r}: expected a target for a latency and none for an "
                f"accuracy, got {self.kind.value} with target {self.target!r}: correct the target",
            )
        if self.limit is not None and not (math.isfinite(self.limit) and self.limit > 0):
            raise WrongInputError(
                f"objective {self.name!r}: expected a limit above 0, got {self.limit}: "
                "leave it out for no limit",
            )

    @property
    def is_maximised(self) -> bool:
        """Whether larger scores are better."""
        return (self.direction or _NATURAL[self.kind]) is Direction.MAXIMISE


def minimised(
    objectives: Sequence[Objective],
    scores: Mapping[str, float],
) -> tuple[float, ...]:
    """Turn named scores into one value an objective, smaller being better.

    Args:
        objectives: In the order of the result.
        scores: By objective name; fractions and seconds.

    Raises:
        WrongInputError: A score is missing, or is no finite number.
    """
    return tuple(
        -_score(objective, scores) if objective.is_maximised else _score(objective, scores)
        for objective in objectives
    )


def violations(
    objectives: Sequence[Objective],
    scores: Mapping[str, float],
) -> tuple[float, ...]:
    """Tell by how much scores break the hard limits.

    Returns:
        One number for each objective that has a limit, in their order: 0 where it is kept, else
        the distance from the limit over the limit, so that fractions and seconds add up.

    Raises:
        WrongInputError: A score is missing, or is no finite number.
    """
    found = []
    for objective in objectives:
        if objective.limit is None:
            continue
        excess = _score(objective, scores) - objective.limit
        excess = -excess if objective.is_maximised else excess
        found.append(max(0.0, excess / objective.limit))
    return tuple(found)


def _score(objective: Objective, scores: Mapping[str, float]) -> float:
    score = scores.get(objective.name)
    if score is None or not math.isfinite(score):
        raise WrongInputError(
            f"expected a finite score for objective {objective.name!r}, got {score}: "
            "tell a failure where there is no score",
        )
    return score
