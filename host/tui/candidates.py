"""The candidates of a run as rows: in which order, and what stands in them."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.tui.scatter import FRONT, SELECTED
from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host.view.run_view import CandidateView, RunView

_ACCURACY = 9
_TIME = 11


class Order(enum.Enum):
    """How the rows are sorted; the value is what a person reads."""

    FRONT = "front first"
    FASTEST = "fastest first"
    ACCURATE = "most accurate first"
    NEWEST = "newest first"

    @property
    def next(self) -> Order:
        """The order after this one, round and round."""
        orders = list(Order)
        return orders[(orders.index(self) + 1) % len(orders)]


def arrange(candidates: Sequence[CandidateView], order: Order, target: str) -> list[CandidateView]:
    """Sort candidates, the first being the best; those without a value come last."""
    if order is Order.NEWEST:
        return sorted(candidates, key=lambda one: -one.index)

    def key(one: CandidateView) -> tuple[float, ...]:
        time = one.latencies.get(target)
        time_s = math.inf if time is None else time.median_s
        loss = math.inf if one.accuracy is None else -one.accuracy
        if order is Order.FRONT:
            return not one.is_on_front, time_s, loss
        return (loss, time_s) if order is Order.ACCURATE else (time_s, loss)

    return sorted(candidates, key=key)


def heading(view: RunView, target: str, width: int) -> str:
    """Return the line above the rows."""
    cells = [f"  {'#':>5}  {'encoding':<{_encoding_width(view)}}", f"{'accuracy':>{_ACCURACY}}"]
    cells += [f"{name[:_TIME]:>{_TIME}}" for name in _targets(view, target, width)]
    return "  ".join([*cells, "remarks"])[:width]


def row(view: RunView, one: CandidateView, target: str, width: int, *, is_selected: bool) -> str:
    """Return a candidate's row; what does not fit is cut off."""
    mark = SELECTED[0] if is_selected else FRONT[0] if one.is_on_front else " "
    encoding = _short(one.encoding, _encoding_width(view))
    accuracy = "-" if one.accuracy is None else f"{one.accuracy:.2%}"
    cells = [
        f"{mark} {one.index:>5}  {encoding:<{_encoding_width(view)}}",
        f"{accuracy:>{_ACCURACY}}",
    ]
    for name in _targets(view, target, width):
        time = one.latencies.get(name)
        cells.append(f"{'-' if time is None else text.format_time(time.median_s):>{_TIME}}")
    return "  ".join([*cells, _remarks(view, one)])[:width].rstrip()


def _remarks(view: RunView, one: CandidateView) -> str:
    if one.failure is not None:
        return f"failed: {one.failure.message}"
    notes = [
        f"{name}: {time.word}"
        for name, time in one.latencies.items()
        if time.verdict not in {Verdict.OK, None}
    ]
    over = {o.target for o in view.objectives if o.target and _is_over(one, o.target, o.limit)}
    notes += [f"over the limit on {name}" for name in sorted(over)]
    return ", ".join(notes)


def _is_over(one: CandidateView, target: str, limit_s: float | None) -> bool:
    time = one.latencies.get(target)
    return limit_s is not None and time is not None and time.median_s > limit_s


def _targets(view: RunView, target: str, width: int) -> list[str]:
    """Return the targets whose times fit, the chosen one first."""
    names = [target, *(t.name for t in view.targets if t.name != target)]
    room = width - 9 - _encoding_width(view) - _ACCURACY - 2 - 8
    return [name for name in names if name][: max(1, room // (_TIME + 2))]


def _encoding_width(view: RunView) -> int:
    longest = max((len(one.encoding) for one in view.candidates[:50]), default=8)
    return max(8, min(longest, 30))


def _short(encoding: str, width: int) -> str:
    return encoding if len(encoding) <= width else f"{encoding[: width - 1]}…"
