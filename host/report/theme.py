"""Colours and units of the plots. A page names colours by CSS variables, a file has its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FONT = "'Liberation Sans', Arial, Helvetica, sans-serif"
"""One metric everywhere: places of words are fixed when a plot is drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Colours:
    """What a plot is drawn in.

    Args:
        paper: Behind it.
        ink: Of words that matter.
        muted: Of axes and their words.
        line: Of grids.
        candidate: Of what was seen.
        front: Of what nothing is better than.
        measured: Of what was measured again.
        bad: Of limits and failures.
        series: Of things side by side; told apart by their shapes too.
    """

    paper: str
    ink: str
    muted: str
    line: str
    candidate: str
    front: str
    measured: str
    bad: str
    series: tuple[str, ...]


PAPER = Colours(
    paper="#ffffff",
    ink="#1b2026",
    muted="#56606c",
    line="#e1e5ea",
    candidate="#6b7785",
    front="#0b5cad",
    measured="#b35900",
    bad="#b42318",
    series=(
        "#0b5cad",
        "#b35900",
        "#1a7347",
        "#7a3fa0",
        "#b42318",
        "#0f7173",
        "#8a6100",
        "#56606c",
    ),
)
"""On white: for files and for print."""

PAGE = Colours(
    paper="transparent",
    ink="var(--ink)",
    muted="var(--muted)",
    line="var(--line)",
    candidate="var(--candidate)",
    front="var(--front)",
    measured="var(--measured)",
    bad="var(--bad)",
    series=tuple(f"var(--series-{number})" for number in range(len(PAPER.series))),
)
"""Inside a page, which is light or dark."""

_TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeUnit:
    """One unit for a whole axis. `scale_s` is how many seconds it has."""

    scale_s: float
    name: str

    def of(self, time_s: float) -> float:
        """Return a time in this unit."""
        return time_s / self.scale_s


def time_unit(times_s: Iterable[float]) -> TimeUnit:
    """Return the unit in which the longest of some times is at least 1."""
    longest_s = max(times_s, default=1e-3)
    for scale_s, name in _TIME_UNITS:
        if longest_s >= scale_s:
            return TimeUnit(scale_s=scale_s, name=name)
    return TimeUnit(scale_s=1e-9, name="ns")
