"""How a run stands, in words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.view.run_view import RunState

if TYPE_CHECKING:
    from boardfront.host.view.run_view import RunView

_SILENT_S = 60.0
"""A run that says nothing for so long is told to."""


def phase_line(view: RunView) -> str:
    """Return what a run does and how long it takes, or why it does nothing."""
    phase = view.phase
    if not phase.name:
        return view.reason or "done, see report.txt"
    counted = f"{phase.done}/{phase.total}" if phase.total else str(phase.done)
    left = reason = ""
    if phase.left_s is not None:
        left = f", about {text.format_duration(phase.left_s)} left"
    if view.reason:
        reason = f": {view.reason}"
    return f"{phase.name} {counted}{left}{reason}"


def counts_line(view: RunView) -> str:
    """Return how many candidates there are; a search counts them itself."""
    parts = [] if view.phase.name == "search" else [f"{len(view.candidates)} candidates"]
    parts.append(f"front of {len(view.front)}")
    failed = sum(one.failure is not None for one in view.candidates)
    if failed:
        parts.append(f"{failed} failed")
    if view.remeasured:
        parts.append(f"{len(view.remeasured)} measured again")
    return ", ".join(parts)


def since_line(view: RunView, now_unix_s: float) -> str:
    """Return when a run began, how long it took, and whether it has been silent for long."""
    if view.started_unix_s is None:
        return ""
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(view.started_unix_s))
    end_s = view.ended_unix_s or now_unix_s
    lasted = text.format_duration(max(0.0, end_s - view.started_unix_s))
    silent_s = 0.0 if view.heard_unix_s is None else now_unix_s - view.heard_unix_s
    silent = ""
    if view.state is RunState.RUNNING and silent_s >= _SILENT_S:
        silent = f", last word {text.format_duration(silent_s)} ago"
    return f"began {began}, {lasted}{silent}"
