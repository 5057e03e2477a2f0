"""A run as plain text, as a table and as JSON: for a pipe, or a script."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.view.words import counts_line, phase_line, since_line
from boardfront.latency_models import strict_json

if TYPE_CHECKING:
    from boardfront.host.view.run_view import CandidateView, RunView

_LAST = 8


def to_json(view: RunView) -> str:
    """Return everything that is known, seconds and fractions throughout."""
    content = {one.name: getattr(view, one.name) for one in fields(view)}
    encoded = strict_json.encode({**content, "folder": str(view.folder)}, "run")
    return json.dumps(encoded, indent=2)


def to_text(view: RunView, now_unix_s: float | None = None) -> str:
    """Return how a run stands, its last failures and what happened last.

    Args:
        view: The run.
        now_unix_s: The time; None takes the machine's.
    """
    now_s = time.time() if now_unix_s is None else now_unix_s
    lines = [f"{view.name}  {view.state.value}  {since_line(view, now_s)}".rstrip()]
    lines.append(phase_line(view))
    if view.training:
        last = view.training[-1]
        lines.append(f"training: epoch {last.epoch}/{last.epochs}, loss {last.loss:.3f}")
    if view.candidates:
        lines.append(counts_line(view))
    failures = [one for one in view.candidates if one.failure is not None][-_LAST:]
    if failures:
        lines += ["", "last failures", *(_failure(one) for one in failures)]
    if view.events:
        lines += ["", "log", *(f"  {event.text}" for event in view.events[-_LAST:])]
    return "\n".join(lines) + "\n"


def front_table(view: RunView) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the front as headings and rows, by the time on the first target."""
    names = [target.name for target in view.targets]
    rows: list[tuple[str, ...]] = []
    first = names[0] if names else ""
    for one in sorted(view.front, key=lambda c: _time_s(c, first)):
        accuracy = "-" if one.accuracy is None else f"{one.accuracy:.2%}"
        times = [
            text.format_latency(one.latencies[name]) if name in one.latencies else "-"
            for name in names
        ]
        rows.append((str(one.index), one.encoding, accuracy, *times))
    return ("#", "encoding", "accuracy", *names), rows


def _time_s(one: CandidateView, target: str) -> float:
    time_ = one.latencies.get(target)
    return float("inf") if time_ is None else time_.median_s


def _failure(one: CandidateView) -> str:
    assert one.failure is not None  # noqa: S101 - the caller chose those that failed
    return f"  {one.index} {one.encoding}: {one.failure.message}"
