"""Scores become minimised values and relative violations; nothing is made up."""

from __future__ import annotations

from typing import Any

import pytest

from boardfront.protos.errors import WrongInputError
from boardfront.search.objective import (
    Direction,
    Objective,
    ObjectiveKind,
    minimised,
    violations,
)

_ACCURACY = Objective(name="accuracy", kind=ObjectiveKind.ACCURACY, limit=0.8)
_LATENCY = Objective(name="latency", kind=ObjectiveKind.LATENCY, target="laptop", limit=0.010)
_FREE = Objective(name="other", kind=ObjectiveKind.LATENCY, target="board")
_ALL = (_ACCURACY, _LATENCY, _FREE)


def test_accuracy_is_maximised_and_latency_minimised() -> None:
    scores = {"accuracy": 0.9, "latency": 0.012, "other": 0.5, "unasked": 1.0}
    assert minimised(_ALL, scores) == (-0.9, 0.012, 0.5)


def test_violations_are_relative_to_the_limits() -> None:
    scores = {"accuracy": 0.6, "latency": 0.012, "other": 0.5}
    assert violations(_ALL, scores) == pytest.approx((0.25, 0.2))
    assert violations(_ALL, {"accuracy": 0.8, "latency": 0.010, "other": 9.0}) == (0.0, 0.0)


def test_the_direction_may_be_given() -> None:
    slow = Objective(
        name="slow",
        kind=ObjectiveKind.LATENCY,
        target="laptop",
        direction=Direction.MAXIMISE,
    )
    assert minimised((slow,), {"slow": 2.0}) == (-2.0,)


@pytest.mark.parametrize("scores", [{}, {"accuracy": float("nan")}])
def test_a_missing_score_is_no_number(scores: dict[str, float]) -> None:
    with pytest.raises(WrongInputError, match=r"finite score for objective 'accuracy'.*failure"):
        minimised((_ACCURACY,), scores)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": ObjectiveKind.LATENCY}, "a target for a latency"),
        ({"kind": ObjectiveKind.ACCURACY, "target": "laptop"}, "none for an accuracy"),
        ({"kind": ObjectiveKind.ACCURACY, "limit": 0.0}, "a limit above 0, got 0.0"),
        ({"kind": ObjectiveKind.ACCURACY, "limit": float("nan")}, "a limit above 0, got nan"),
    ],
)
def test_an_objective_that_makes_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(WrongInputError, match=message):
        Objective(name="x", **changes)
