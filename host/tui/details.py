"""What is known of one candidate, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from boardfront.host import text
from boardfront.host.tui.scatter import FRONT

if TYPE_CHECKING:
    from boardfront.host.journal_records import FinalistMeasured
    from boardfront.host.view.run_view import CandidateView, RunView
    from boardfront.search.evaluation import Latency


def describe(view: RunView, one: CandidateView) -> Content:
    """Return a candidate's accuracy and times: searched by, and measured whole where it was."""
    accuracy = "no accuracy" if one.accuracy is None else f"{one.accuracy:.2%} right"
    place = ", on the front" if one.is_on_front else ""
    lines = [
        Content.assemble(
            (f"{FRONT[0]} " if one.is_on_front else "", FRONT[1]),
            (one.encoding, "bold"),
            f"  {accuracy}, candidate {one.index} of generation {one.generation}{place}",
        )
    ]
    width = max((len(target.name) for target in view.targets), default=0)
    for target in view.targets:
        lines += _times(view, one, target.name, width + 1)
    if one.failure is not None:
        lines.append(Content.styled(f"failed: {one.failure.message}", "$error"))
    return Content("\n").join(lines)


def _times(view: RunView, one: CandidateView, target: str, width: int) -> list[Content]:
    searched = one.latencies.get(target)
    wholes = [f for f in view.finalists if f.encoding == one.encoding and f.target == target]
    name = f"{target}:".ljust(width)
    lines = [] if searched is None else [_line(name, "searched", searched)]
    if wholes:
        lines.append(_whole(name, wholes[-1], searched))
    return lines


def _line(name: str, what: str, latency: Latency) -> Content:
    word = latency.word
    return Content.assemble(
        (f"{name} ", "bold"),
        f"{what:<8} {text.format_time(latency.median_s)} "
        f"({text.format_interval(latency.low_s, latency.high_s)}), ",
        (word, "$success" if word == "ok" else "" if latency.predicted else "$warning"),
    )


def _whole(name: str, found: FinalistMeasured, searched: Latency | None) -> Content:
    """Return what measuring the network whole gave, and how far off the search was."""
    if found.latency is None:
        why = found.failure.message if found.failure else "no reason was told"
        return Content.styled(f"{name} could not be measured whole: {why}", "$error")
    expected_s = found.predicted_s or (searched.median_s if searched else None)
    notes = []
    if expected_s:
        # As the report has it: what the search went by, against what was measured whole.
        notes.append(f"search off by {expected_s / found.latency.median_s - 1:+.1%}")
    if found.over_limit:
        notes.append("over the limit")
    return _line(name, "whole", found.latency).append(f", {', '.join(notes)}" if notes else "")
