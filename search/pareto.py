"""Dominance and what is computed from it, for minimised values."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]


def non_dominated(values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Mark the points that no other point dominates.

    A point dominates another where it is nowhere larger and somewhere smaller. Equal points do
    not dominate each other: all of them are marked.

    Args:
        values: Shape (points, objectives), all minimised, finite.

    Returns:
        Shape (points,).
    """
    points = _points(values)
    order = np.lexsort(points.T[::-1])
    alive = points[order]
    indices = order
    i = 0
    while i < len(alive):
        # In lexicographic order a point is dominated by earlier ones only: alive[i] stays.
        keep = np.any(alive < alive[i], axis=1) | np.all(alive == alive[i], axis=1)
        alive, indices = alive[keep], indices[keep]
        i = int(np.count_nonzero(keep[: i + 1]))
    mask = np.zeros(len(points), dtype=np.bool_)
    mask[indices] = True
    return mask


def fronts(values: npt.ArrayLike) -> tuple[npt.NDArray[np.intp], ...]:
    """Sort points into fronts: the non-dominated, those non-dominated without them, and so on.

    Args:
        values: Shape (points, objectives), all minimised, finite.

    Returns:
        Ascending indices into `values`, one array a front; each point is in exactly one.

    Source: Deb, Pratap, Agarwal, Meyarivan 2002, "A fast and elitist multiobjective genetic
    algorithm: NSGA-II", section III-A. Deviation: fronts are peeled off one by one, which gives
    the same fronts.
    """
    points = _points(values)
    left = np.arange(len(points))
    found = []
    while len(left):
        mask = non_dominated(points[left])
        found.append(left[mask])
        left = left[~mask]
    return tuple(found)


def crowding_distance(values: npt.ArrayLike) -> Floats:
    """Tell how far apart each point's neighbours in its front are.

    Args:
        values: One front, shape (points, objectives).

    Returns:
        Shape (points,); infinite at either end of any objective, else the sum over objectives of
        the neighbours' distance over the objective's range. An objective that has no range adds
        nothing.

    Source: Deb et al. 2002, section III-B.
    """
    points = _points(values)
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        if len(points) == 0 or ordered[-1] == ordered[0]:
            continue
        gaps = (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
        distance[order[1:-1]] += gaps
        distance[order[[0, -1]]] = np.inf
    return distance


def hypervolume(values: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Measure the area that points dominate up to a reference point, exactly.

    Args:
        values: Shape (points, 2), minimised; dominated points and points that are not below the
            reference in both objectives add nothing.
        reference: Shape (2,); it stays the same where areas are compared.

    Returns:
        The area in the product of both objectives' units; 0 without points.

    Raises:
        WrongInputError: There are not two objectives.

    Source: Zitzler, Thiele 1999, "Multiobjective evolutionary algorithms: a comparative case
    study and the strength Pareto approach", section 3 (size of the space covered).
    """
    points = _points(values)
    corner = np.asarray(reference, dtype=np.float64)
    if points.shape[1] != 2 or corner.shape != (2,):
        raise WrongInputError(
            f"expected two objectives, got points {points.shape} and reference {corner.shape}: "
            "pick the two columns to compare",
        )
    inside = points[np.all(points < corner, axis=1)]
    inside = inside[np.lexsort(inside.T[::-1])]
    lowest = np.minimum.accumulate(np.append(corner[1], inside[:, 1]))
    widths = corner[0] - inside[:, 0]
    return float(np.sum(widths * (lowest[:-1] - lowest[1:])))


def _points(values: npt.ArrayLike) -> Floats:
    points = np.asarray(values, dtype=np.float64)
    if points.size == 0 and points.ndim == 1:
        points = points.reshape(0, 2)
    if points.ndim != 2 or not np.all(np.isfinite(points)):
        raise WrongInputError(
            f"expected finite values of shape (points, objectives), got shape {points.shape} "
            f"with {np.count_nonzero(~np.isfinite(points))} that are not: leave failures out",
        )
    return points
