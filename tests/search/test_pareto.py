"""Dominance against brute force, the rest against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from boardfront.protos.errors import WrongInputError
from boardfront.search.pareto import crowding_distance, fronts, hypervolume, non_dominated


def _brute_force(points: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> list[bool]:
    return [
        not any(np.all(other <= point) and np.any(other < point) for other in points)
        for point in points
    ]


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("levels", [3, 1000])
def test_non_dominated_is_what_the_definition_says(objectives: int, levels: int) -> None:
    rng = np.random.default_rng(objectives)
    for count in (1, 2, 7, 60):
        points = rng.integers(levels, size=(count, objectives)).astype(float)
        assert non_dominated(points).tolist() == _brute_force(points)


def test_equal_points_are_all_kept() -> None:
    assert non_dominated([[1, 2], [1, 2], [2, 2]]).tolist() == [True, True, False]


def test_no_points() -> None:
    assert non_dominated([]).tolist() == []
    assert fronts([]) == ()
    assert hypervolume([], (1, 1)) == 0.0
    assert crowding_distance([]).tolist() == []


def test_fronts_partition_the_points() -> None:
    found = fronts([[1, 4], [2, 2], [4, 1], [3, 3], [4, 4]])
    assert [front.tolist() for front in found] == [[0, 1, 2], [3], [4]]


def test_crowding_distance() -> None:
    # By hand: neighbours of (2, 2) span (4 - 1) / 3 in both objectives.
    assert crowding_distance([[1, 4], [2, 2], [4, 1]]).tolist() == [np.inf, 2.0, np.inf]
    assert crowding_distance([[1, 1], [1, 1]]).tolist() == [0.0, 0.0]
    assert crowding_distance([[1, 1]]).tolist() == [0.0]


def test_hypervolume() -> None:
    # By hand, reference (5, 5): 4 * 1 + 3 * 2 + 1 * 1.
    points = [[1, 4], [2, 2], [4, 1]]
    assert hypervolume(points, (5, 5)) == pytest.approx(11.0)
    assert hypervolume([*points, [3, 3], [9, 0], [2, 2]], (5, 5)) == pytest.approx(11.0)
    assert hypervolume([[5, 1]], (5, 5)) == 0.0


def test_hypervolume_against_counting() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(20, size=(30, 2))
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(20)), axis=-1).reshape(-1, 1, 2)
    covered = np.count_nonzero(np.any(np.all(points <= grid, axis=2), axis=1))
    assert hypervolume(points, (20, 20)) == covered


@pytest.mark.parametrize("values", [[[1.0, float("nan")]], [[float("inf"), 1.0]], [1.0, 2.0]])
def test_what_is_no_set_of_points_is_refused(values: object) -> None:
    with pytest.raises(WrongInputError, match="expected finite values of shape"):
        non_dominated(values)  # type: ignore[arg-type]


def test_hypervolume_of_three_objectives_is_refused() -> None:
    with pytest.raises(WrongInputError, match=r"expected two objectives, got points \(1, 3\)"):
        hypervolume([[1, 1, 1]], (2, 2, 2))
