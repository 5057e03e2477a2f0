"""Progress of a run on a terminal, or as plain lines where there is none.

Nothing is drawn between the calls: on the host's own machine a redraw would fall into timed
windows.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from boardfront.host import text

if TYPE_CHECKING:
    from rich.progress import TaskID

_REDRAW_EVERY_S = 0.25
_LINE_EVERY_S = 10.0


class RunProgress(Protocol):
    """Shows where a run stands. Phases come one after the other."""

    def phase(self, name: str, total: int, done: int = 0) -> None:
        """Begin a phase of `total` steps, of which `done` were done before."""

    def step(self, done: int, note: str) -> None:
        """Say how many steps are done, and something worth seeing."""

    def say(self, line: str) -> None:
        """Print a line that stays."""

    def close(self) -> None:
        """Stop drawing."""


def make_progress() -> RunProgress:
    """Return bars on a terminal, plain lines elsewhere; both on standard error."""
    console = Console(stderr=True)
    return BarProgress(console) if console.is_terminal else LineProgress(console)


class BarProgress:
    """One bar a phase, with elapsed time and time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            auto_refresh=False,
            # A search's steps differ a lot: average over many.
            speed_estimate_period=120.0,
        )
        self._bars.start()
        self._task: TaskID | None = None
        self._drawn_s = float("-inf")

    def phase(self, name: str, total: int, done: int = 0) -> None:
        """Begin a bar."""
        self._task = self._bars.add_task(name, total=total, completed=done, note="")
        self._bars.refresh()

    def step(self, done: int, note: str) -> None:
        """Move the bar."""
        if self._task is None:
            return
        self._bars.update(self._task, completed=done, note=note)
        now_s = time.monotonic()
        if now_s - self._drawn_s >= _REDRAW_EVERY_S or self._bars.finished:
            self._drawn_s = now_s
            self._bars.refresh()

    def say(self, line: str) -> None:
        """Print above the bars."""
        self._console.print(line, highlight=False, markup=False)

    def close(self) -> None:
        """Leave the bars as they are."""
        self._bars.refresh()
        self._bars.stop()


class LineProgress:
    """A line every ten seconds and at the end of each phase."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name = ""
        self._total = 0
        self._before = 0
        self._started_s = time.monotonic()
        self._said_s = float("-inf")

    def phase(self, name: str, total: int, done: int = 0) -> None:
        """Remember what is counted."""
        self._name, self._total, self._before = name, total, done
        self._started_s = time.monotonic()
        self._said_s = self._started_s

    def step(self, done: int, note: str) -> None:
        """Print a line if it is time to."""
        now_s = time.monotonic()
        if done < self._total and now_s - self._said_s < _LINE_EVERY_S:
            return
        self._said_s = now_s
        fresh = done - self._before
        left = ""
        if fresh > 0 and done < self._total:
            left_s = (now_s - self._started_s) / fresh * (self._total - done)
            left = f", {text.format_duration(left_s)} left"
        self.say(f"{self._name} {done}/{self._total}{left}  {note}".rstrip())

    def say(self, line: str) -> None:
        """Print the line."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Do nothing: every line stands already."""
