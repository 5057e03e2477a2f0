"""Which hard limits a plot of a front shows: one that is far off would shrink it to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.report.findings import accuracy_limit, limit_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host.report.findings import Findings
    from boardfront.host.view.run_view import CandidateView


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnLimits:
    """Hard limits as a plot shows them.

    Args:
        time_s: Of the target; None where there is none near.
        accuracy: A fraction; None where there is none near.
        left_out: A sentence on those that are too far off to be drawn; empty for none.
    """

    time_s: float | None
    accuracy: float | None
    left_out: str


def drawn_limits(found: Findings, candidates: Sequence[CandidateView], target: str) -> DrawnLimits:
    """Return which limits are drawn: those not farther from the points than these spread.

    Args:
        found: The run.
        candidates: Those that are drawn.
        target: Its name.
    """
    pairs = [
        (latency.median_s, one.accuracy)
        for one in candidates
        if (latency := one.latencies.get(target)) and one.accuracy is not None
    ]
    times_s, accuracies = [time_s for time_s, _ in pairs], [accuracy for _, accuracy in pairs]
    times_s += [one.median_s for m in found.members if (one := m.times[target].measured)]
    time_s, accuracy = limit_s(found.view, target), accuracy_limit(found.view)
    far = []
    if time_s is not None and not _is_near(time_s, times_s):
        far.append(text.format_time(time_s))
        time_s = None
    if accuracy is not None and not _is_near(accuracy, accuracies):
        far.append(f"{accuracy:.1%}")
        accuracy = None
    word = "limits" if len(far) > 1 else "limit"
    verb = "are" if len(far) > 1 else "is"
    left_out = f"The {word} of {' and '.join(far)} {verb} too far off to be drawn." if far else ""
    return DrawnLimits(time_s=time_s, accuracy=accuracy, left_out=left_out)


def _is_near(limit: float, values: Sequence[float]) -> bool:
    """Return whether drawing a limit leaves the points at least a third of the axis or so.

    `host.tui.scatter` has the same rule, so that the two show the same.
    """
    low, high = min(values, default=limit), max(values, default=limit)
    room = (high - low) or high
    return low - room <= limit <= high + room
