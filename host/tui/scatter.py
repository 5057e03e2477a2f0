"""The candidates of a run as a scatter of characters.

Everything can be told apart without colour: members of the front, the selected candidate and
three ages of the others have symbols of their own; colour only repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from boardfront.host.tui.canvas import Canvas
from boardfront.host.tui.frame import BELOW, LEFT, Frame
from boardfront.host.tui.scale import fit, time_unit
from boardfront.search.objective import ObjectiveKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host.view.run_view import CandidateView, RunView

_AGES = "·∘○"
_DIMMEST = 0.35
FRONT = ("◆", "bold $success")
SELECTED = ("◉", "bold $warning")
_LIMIT = ("┆", "┄", "$text-error")


@dataclass(frozen=True, kw_only=True, slots=True)
class Axes:
    """What is drawn against what: `target`'s time to the right, upwards accuracy or a time.

    Args:
        target: Name of the target; empty where the run has none.
        upwards: Name of the target whose time goes upwards; empty for accuracy.
    """

    target: str = ""
    upwards: str = ""

    @property
    def caption(self) -> str:
        """What goes upwards, with its unit where that is always the same."""
        return f"time on {self.upwards}" if self.upwards else "accuracy, %"

    def value(self, candidate: CandidateView) -> tuple[float, float] | None:
        """Return what stands to the right and upwards, seconds or percent; None: not known."""
        if self.target not in candidate.latencies:
            return None
        right = candidate.latencies[self.target].median_s
        if self.upwards:
            other = candidate.latencies.get(self.upwards)
            return None if other is None else (right, other.median_s)
        return None if candidate.accuracy is None else (right, candidate.accuracy * 100)


def axes_of(view: RunView) -> list[Axes]:
    """Return what can be drawn of a run, accuracy first."""
    names = [target.name for target in view.targets]
    upwards = ["", *(names if len(names) > 1 else ())]
    return [Axes(target=name, upwards=up) for up in upwards for name in names if name != up]


def draw(view: RunView, axes: Axes, selected: str | None, *, width: int, height: int) -> Canvas:
    """Draw the candidates that have both values; later ones cover earlier ones.

    A limit that is so far off that it would shrink the points is told and not drawn.

    Args:
        view: The run.
        axes: What is drawn against what.
        selected: The encoding that is marked.
        width: Cells.
        height: Rows; the first one holds the legend.
    """
    canvas = Canvas(width, height)
    points = [(one, at) for one in view.candidates if (at := axes.value(one)) is not None]
    if not points:
        canvas.put(2, height // 2, "no candidate has an accuracy and a time yet", "$text-muted")
        return canvas
    unit_s, unit = time_unit(max(right for _, (right, _) in points))
    up_s, up_unit = time_unit(max(up for _, (_, up) in points)) if axes.upwards else (1.0, "")
    scaled = [(one, right / unit_s, up / up_s) for one, (right, up) in points]
    limits = _limits(view, axes)
    rights, ups = (_near(limits[i], [at[i] for _, at in points]) for i in (0, 1))
    right_limits, up_limits = [one / unit_s for one in rights], [one / up_s for one in ups]
    frame = _frame(scaled, width, height, (right_limits, up_limits))
    frame.draw(canvas, unit)
    _draw_limits(canvas, frame, right_limits, up_limits)
    _draw_points(canvas, frame, scaled, selected)
    caption = f"{axes.caption}, {up_unit}" if up_unit else axes.caption
    far = _far(axes, limits, (rights, ups))
    _legend(canvas, caption, has_limit=bool(rights or ups), far=far)
    return canvas


def _frame(
    scaled: Sequence[tuple[CandidateView, float, float]],
    width: int,
    height: int,
    limits: tuple[Sequence[float], Sequence[float]],
) -> Frame:
    rights = [right for _, right, _ in scaled]
    ups = [up for _, _, up in scaled]
    return Frame(
        x=fit([*rights, *limits[0]], max(1, width - LEFT - 1), may_be_log=True),
        y=fit([*ups, *limits[1]], max(1, height - BELOW - 1)),
        top=1,
    )


def _near(limits: Sequence[float], values: Sequence[float]) -> list[float]:
    """Return the limits that are not so far off that drawing them would shrink the points."""
    low, high = min(values), max(values)
    room = (high - low) or high
    return [limit for limit in limits if low - room <= limit <= high + room]


def _far(
    axes: Axes,
    limits: tuple[Sequence[float], Sequence[float]],
    near: tuple[Sequence[float], Sequence[float]],
) -> list[str]:
    """Return the limits that are not drawn, with their units."""
    rights, ups = ([one for one in limits[i] if one not in near[i]] for i in (0, 1))
    times_s = [*rights, *ups] if axes.upwards else rights
    shares = [] if axes.upwards else ups
    units = [(limit_s, *time_unit(limit_s)) for limit_s in times_s]
    return [f"{s / unit_s:.4g} {unit}" for s, unit_s, unit in units] + [
        f"{share:.4g} %" for share in shares
    ]


def _limits(view: RunView, axes: Axes) -> tuple[list[float], list[float]]:
    """Return the hard limits to the right (seconds) and upwards (seconds or percent)."""
    right: list[float] = []
    up: list[float] = []
    for objective in view.objectives:
        if objective.limit is None:
            continue
        if objective.target is not None and objective.target == axes.target:
            right.append(objective.limit)
        elif objective.target is not None and objective.target == axes.upwards:
            up.append(objective.limit)
        elif objective.kind is ObjectiveKind.ACCURACY and not axes.upwards:
            up.append(objective.limit * 100)
    return right, up


def _draw_limits(
    canvas: Canvas, frame: Frame, rights: Sequence[float], ups: Sequence[float]
) -> None:
    upright, flat, style = _LIMIT
    for value in rights:
        column = frame.column(value)
        for row in range(frame.top, frame.top + frame.y.cells) if column is not None else ():
            canvas.put(column or 0, row, upright, style)
    for value in ups:
        row_at = frame.row(value)
        if row_at is not None:
            canvas.put(LEFT, row_at, flat * frame.x.cells, style)


def _draw_points(
    canvas: Canvas,
    frame: Frame,
    scaled: Sequence[tuple[CandidateView, float, float]],
    selected: str | None,
) -> None:
    """Draw the newest of each cell, above them the front, above all the selected one."""
    columns = frame.x.place(np.array([right for _, right, _ in scaled]))
    rows = frame.y.place(np.array([up for _, _, up in scaled]))
    last = max(one.generation for one, _, _ in scaled)
    top: dict[tuple[int, int], CandidateView] = {}
    for (one, _, _), column, row in zip(scaled, columns.tolist(), rows.tolist(), strict=True):
        at = column, row
        before = top.get(at)
        if before is None or _rank(one, selected) >= _rank(before, selected):
            top[at] = one
    for (column, row), one in top.items():
        if not (0 <= column < frame.x.cells and 0 <= row < frame.y.cells):
            continue
        symbol = _AGES[one.generation * len(_AGES) // (last + 1)]
        style = _shade(one.generation / last if last else 1.0)
        if one.is_on_front:
            symbol, style = FRONT
        if one.encoding == selected:
            symbol, style = SELECTED
        canvas.put(LEFT + column, frame.top + frame.y.cells - 1 - row, symbol, style)


def _rank(one: CandidateView, selected: str | None) -> int:
    return 2 if one.encoding == selected else int(one.is_on_front)


def _shade(age: float) -> str:
    """Return the style of a generation, 0 being the first and dimmest, 1 the last."""
    return f"$foreground {round(100 * (_DIMMEST + (1 - _DIMMEST) * age))}%"


def _legend(canvas: Canvas, caption: str, *, has_limit: bool, far: Sequence[str]) -> None:
    canvas.put(0, 0, caption, "bold")
    entries = [
        (FRONT[0] + " front", FRONT[1]),
        (SELECTED[0] + " selected", SELECTED[1]),
        # Before what is cut off where there is little room.
        *((f"limit {one}: far off", _LIMIT[2]) for one in far),
        (f"{_AGES} older to newer", ""),
    ]
    if has_limit:
        entries.append((f"{_LIMIT[0]} limit", _LIMIT[2]))
    length = sum(len(text) + 2 for text, _ in entries)
    column = max(len(caption) + 2, canvas.width - length)
    for text, style in entries:
        canvas.put(column, 0, text, style)
        column += len(text) + 2
