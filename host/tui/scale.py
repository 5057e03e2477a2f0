"""An axis of a drawing: where a value stands, and what is written beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_LOG_FROM = 20.0
"""Values that differ by this factor are drawn by their logarithm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """A range of values over cells.

    Args:
        low: The smallest value.
        high: The largest one, above `low`.
        cells: How many cells there are, at least 1.
        is_log: Whether equal factors take equal lengths.
    """

    low: float
    high: float
    cells: int
    is_log: bool = False

    def cell(self, value: float) -> int | None:
        """Return the cell of a value, from 0; None where it is outside."""
        at = int(self.place(np.array([value]))[0])
        return at if 0 <= at < self.cells else None

    def place(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        """Return the cells of many values, shape (values,); what is outside is so here too."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, values = math.log(low), math.log(high), np.log(values)
        at = np.floor((values - low) / (high - low) * self.cells)
        return np.where(values == high, self.cells - 1, at).astype(np.intp)

    def ticks(self, most: int) -> list[float]:
        """Return round values inside the range, at most so many and at least one."""
        if self.is_log:
            found = _log_ticks(self.low, self.high)
            every = -(-len(found) // most) if found else 1
            return found[::every] or [self.low]
        step = _round_up((self.high - self.low) / max(1, most))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)][:most] or [self.low]


def fit(values: Iterable[float], cells: int, *, may_be_log: bool = False) -> Scale:
    """Return a scale that all values fit in, with a little room at both ends."""
    known = list(values)
    low, high = min(known, default=0.0), max(known, default=1.0)
    if may_be_log and low > 0 and high / low >= _LOG_FROM:
        return Scale(low=low / 1.1, high=high * 1.1, cells=cells, is_log=True)
    room = (high - low) * 0.04 or abs(high) * 0.05 or 1.0
    bottom = low - room
    if low >= 0:
        bottom = max(0.0, bottom)
    return Scale(low=bottom, high=high + room, cells=cells)


def time_unit(high_s: float) -> tuple[float, str]:
    """Return (seconds, name) of the unit in which times up to `high_s` read well."""
    return next((unit for unit in _UNITS if high_s >= unit[0]), _UNITS[-1])


def short(value: float) -> str:
    """Write a number for an axis, without digits that say nothing."""
    return f"{value:.4g}"


def _round_up(step: float) -> float:
    if step <= 0 or not math.isfinite(step):
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return float(next(power * s for s in _STEPS if power * s >= step * (1 - 1e-9)))


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = (10.0**decade * digit for decade in decades for digit in (1, 2, 5))
    return [value for value in values if low <= value <= high]
