"""The two lines above the panels: how the run stands, and how long the rest takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from boardfront.host.view.run_view import RunState
from boardfront.host.view.words import counts_line, phase_line, since_line

if TYPE_CHECKING:
    from boardfront.host.view.run_view import RunView

_STYLES = {
    RunState.RUNNING: "bold $success",
    RunState.PAUSED: "bold $warning reverse",
    RunState.COMPLETED: "bold $success",
}


def header(view: RunView, now_unix_s: float, *, width: int, trouble: str = "") -> Content:
    """Return both lines.

    Args:
        view: The run.
        now_unix_s: The time.
        width: Cells; what does not fit is cut off at the right.
        trouble: Why the run cannot be read at this moment; stands instead of the second line.
    """
    state = (view.state.value, _STYLES.get(view.state, "bold $error"))
    first = Content.assemble((view.name, "bold"), "  ", state, "  ", since_line(view, now_unix_s))
    second = Content.styled(trouble, "$error") if trouble else _progress(view, width)
    return Content("\n").join(line.truncate(width, ellipsis=True) for line in (first, second))


def _progress(view: RunView, width: int) -> Content:
    phase = view.phase
    bar = ""
    if phase.total:
        cells = width // 8
        filled = min(cells, phase.done * cells // phase.total)
        bar = f"{'█' * filled}{'░' * (cells - filled)} "
    counts = f", {counts_line(view)}" if view.candidates else ""
    return Content(f"{bar}{phase_line(view)}{counts}")
