"""How far a job is, in the status line of a command that waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from boardfront.host import text
from boardfront.protos.records import Queued, Sampling, Working

if TYPE_CHECKING:
    from rich.status import Status

    from boardfront.protos.records import JobEvent


def show(status: Status, label: str, event: JobEvent) -> None:
    """Say what a job's event tells of the network called `label`."""
    body, name = event.body, escape(label)
    if isinstance(body, Queued):
        waits = f"queued, {body.position} before this one" if body.position else "starting"
        status.update(f"{name}: {waits}")
    elif isinstance(body, Working):
        status.update(f"{name}: {body.phase.value}")
    elif isinstance(body, Sampling):
        shown = f"{name}: sampling {body.elapsed_s:.0f} s, {text.format_time(body.median_s)}"
        if body.low_s is not None and body.high_s is not None:
            width = (body.high_s - body.low_s) / 2 / body.median_s
            shown += f" +-{width:.1%}"
        status.update(shown)
