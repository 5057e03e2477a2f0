"""A network's time as the sum of its blocks' times, brought to the level of whole networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.predictors.base import (
    BlockIndex,
    FloatArray,
    Prediction,
    UnknownBlockError,
    check_times,
)
from boardfront.latency_models.predictors.intervals import (
    NORMAL_QUANTILE,
    around,
    student_quantile,
)
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from boardfront.latency_models.blocks import BlockKey, Decomposition
    from boardfront.latency_models.table import Table

_SLOPE_SPREAD = 0.25
"""How far, relative, a slope may well be from the plain ratio of measured to summed times. Where
all networks take nearly as long, the data say little about the slope and this decides."""

_ADDITIVITY = 0.03
"""Relative spread of whole networks about their sums that is supposed before any was measured;
weighs as one network."""

_ROWS = 4096
"""Networks at a time: bounds the memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockTimes:
    """Times of blocks with 95 % intervals, and what a call costs without any block.

    Args:
        blocks: Each once.
        times_s: Shape (blocks,), seconds.
        low_s: Shape (blocks,), seconds.
        high_s: Shape (blocks,), seconds.
        fixed_s: Seconds.
        fixed_half_s: Half of its interval's width, seconds.
        level: Half of the interval's width, relative, of a factor that all times share.
    """

    blocks: tuple[BlockKey, ...]
    times_s: FloatArray
    low_s: FloatArray
    high_s: FloatArray
    fixed_s: float = 0.0
    fixed_half_s: float = 0.0
    level: float = 0.0

    def __post_init__(self) -> None:
        shape = (len(self.blocks),)
        if not self.times_s.shape == self.low_s.shape == self.high_s.shape == shape:
            raise WrongInputError(
                f"expected three times a block, shape {shape}, got {self.times_s.shape}, "
                f"{self.low_s.shape}, {self.high_s.shape}: give a time and an interval each"
            )

    @classmethod
    def of_table(cls, table: Table) -> BlockTimes:
        """Return the times of a table's entries."""
        entries = table.entries
        return cls(
            blocks=tuple(entry.block for entry in entries),
            times_s=np.array([entry.time_s for entry in entries], float),
            low_s=np.array([entry.low_s for entry in entries], float),
            high_s=np.array([entry.high_s for entry in entries], float),
            fixed_s=table.fixed_s,
            fixed_half_s=(table.fixed_high_s - table.fixed_low_s) / 2,
            level=(table.base_high_s - table.base_low_s) / 2 / table.base_s,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Calibration:
    """A line from sums to times: mean_time + slope * (sum - mean_sum)."""

    networks: int = 0
    slope: float = 1.0
    mean_time_s: float = 0.0
    mean_sum_s: float = 0.0
    level_variance: float = 0.0
    """Of the line at mean_sum, s^2."""
    slope_variance: float = 0.0
    noise: float = 0.0
    """Relative variance of whole networks about the line."""
    freedom: float = math.inf
    entry_variance: float = 0.0
    """What the entries' errors explain of that noise on average, s^2."""


class AdditiveModel:
    """Blocks' times summed, plus the fixed part, calibrated on a few whole networks.

    Usable as it is made: the plain sum, with the interval of the entries and the fixed part
    alone, which promises nothing about whether blocks' times add up. `fit` finds a line from
    sums to measured times; its interval holds the entries' errors, the line's, and what whole
    networks were seen to be off the line.

    The line goes through the weighted mean of the networks. Its slope is held near the ratio of
    mean time to mean sum (a plain factor) by a normal prior, so that one network gives a factor,
    and many give the line of least squares.

    Args:
        times: The blocks' times.
        interpolate: Asked for blocks that `times` lacks; answers times with 95 % intervals. The
            errors of one network's such blocks count as going together, as all are told from the
            same others. None: such a block is an error.
    """

    def __init__(
        self,
        times: BlockTimes,
        interpolate: Callable[[Sequence[BlockKey]], Prediction] | None = None,
    ) -> None:
        self._times = times
        self._interpolate = interpolate
        self._index = BlockIndex(times.blocks)
        self._variances = ((times.high_s - times.low_s) / 2 / NORMAL_QUANTILE) ** 2
        self._mean_counts = np.zeros(len(times.blocks))
        self._calibration = _Calibration()

    @property
    def name(self) -> str:
        """What to call it in print."""
        return "additive"

    @property
    def blocks(self) -> tuple[BlockKey, ...]:
        """The columns of `predict_counts`."""
        return self._index.blocks

    @property
    def slope(self) -> float:
        """Of the calibration; 1 before it."""
        return self._calibration.slope

    @property
    def offset_s(self) -> float:
        """Of the calibration, seconds at a sum of 0; 0 before it."""
        line = self._calibration
        return line.mean_time_s - line.slope * line.mean_sum_s

    @property
    def networks(self) -> int:
        """How many the calibration was fitted on."""
        return self._calibration.networks

    def sums_s(self, decompositions: Sequence[Decomposition]) -> FloatArray:
        """Return the plain sums, shape (networks,), seconds, whatever the calibration."""
        counts, unknown = self._index.split(decompositions)
        extra_s, _ = self._interpolated(len(counts), unknown)
        return np.asarray(
            self._times.fixed_s + counts @ self._times.times_s + extra_s, dtype=np.float64
        )

    def fit(
        self,
        decompositions: Sequence[Decomposition],
        times_s: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        """Calibrate on measured networks, see `LatencyModel.fit`; none takes it back."""
        times, given = check_times(
            len(decompositions), times_s, weights, at_least=0, name=self.name
        )
        if not len(times):
            self._mean_counts = np.zeros(len(self.blocks))
            self._calibration = _Calibration()
            return
        counts, _ = self._index.split(decompositions)
        sums = self.sums_s(decompositions)
        if not (sums > 0).all():
            raise WrongInputError(
                f"expected blocks that sum to more than 0, got {float(sums.min()):.3g} s for a "
                "measured network: the table's entries are wrong; build it anew"
            )
        self._mean_counts = given @ counts / given.sum()
        # The line's slope is not known yet; that of its prior is near enough for this.
        ratio = float(given @ times / (given @ sums))
        entry_variance = ratio**2 * float(np.mean(self._away(counts)))
        self._calibration = _calibrate(sums, times, given, entry_variance)

    def predict(self, decompositions: Sequence[Decomposition]) -> Prediction:
        """Return the times of networks.

        Raises:
            UnknownBlockError: A network has a block without time, and nothing interpolates.
        """
        counts, unknown = self._index.split(decompositions)
        return self._predict(counts, *self._interpolated(len(counts), unknown))

    def predict_counts(self, counts: npt.NDArray[np.integer] | FloatArray) -> Prediction:
        """Return the times of networks given as block counts: the fast way.

        Args:
            counts: Shape (networks, blocks), in the order of `blocks`; small integers save
                memory.
        """
        nothing = np.zeros(len(counts))
        return self._predict(counts, nothing, nothing)

    def _predict(
        self,
        counts: npt.NDArray[np.integer] | FloatArray,
        extra_s: FloatArray,
        extra_variance: FloatArray,
    ) -> Prediction:
        median_s, half_s = np.empty(len(counts)), np.empty(len(counts))
        for start in range(0, len(counts), _ROWS):
            part = slice(start, start + _ROWS)
            rows = counts[part].astype(np.float64)
            sums = self._times.fixed_s + rows @ self._times.times_s + extra_s[part]
            entries = self._away(rows) + extra_variance[part]
            median_s[part], half_s[part] = self._calibrated(sums, entries)
        return around(median_s, half_s)

    def _calibrated(
        self, sums: FloatArray, entry_variance: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        line = self._calibration
        if not line.networks:
            shared = self._times.fixed_half_s**2 + (self._times.level * sums) ** 2
            return sums, np.sqrt(NORMAL_QUANTILE**2 * entry_variance + shared)
        away = sums - line.mean_sum_s
        median_s = line.mean_time_s + line.slope * away
        # The noise about the line holds the entries' errors already, as the calibration's
        # networks have them; only what a network has more than those comes on top.
        more = np.maximum(line.slope**2 * entry_variance - line.entry_variance, 0.0)
        variance = (
            line.noise * median_s**2 + more + line.level_variance + line.slope_variance * away**2
        )
        return median_s, student_quantile(line.freedom) * np.sqrt(variance)

    def _away(self, counts: FloatArray) -> FloatArray:
        """Variance of the sums by the entries' errors, about the calibration's mean network."""
        # The square is multiplied out, so that no second matrix of this size is made.
        mean, variances = self._mean_counts, self._variances
        found = (counts**2) @ variances - 2 * (counts @ (mean * variances))
        return np.maximum(found + float(mean**2 @ variances), 0.0)

    def _interpolated(
        self, networks: int, unknown: Mapping[int, Mapping[BlockKey, int]]
    ) -> tuple[FloatArray, FloatArray]:
        extra_s, deviation = np.zeros(networks), np.zeros(networks)
        blocks = sorted(_distinct(unknown.values()))
        if not blocks:
            return extra_s, deviation
        if self._interpolate is None:
            raise UnknownBlockError(blocks)
        answer = self._interpolate(blocks)
        spread = (answer.high_s - answer.low_s) / 2 / NORMAL_QUANTILE
        place = {block: position for position, block in enumerate(blocks)}
        for row, others in unknown.items():
            for block, number in others.items():
                extra_s[row] += number * answer.median_s[place[block]]
                deviation[row] += number * spread[place[block]]
        return extra_s, deviation**2


def _calibrate(
    sums: FloatArray, times: FloatArray, weights: FloatArray, entry_variance: float
) -> _Calibration:
    """Return the line of weighted least squares whose slope is held near the plain ratio."""
    networks, total = len(times), float(weights.sum())
    mean_sum, mean_time = float(weights @ sums) / total, float(weights @ times) / total
    away, rise = sums - mean_sum, times - mean_time
    ratio = mean_time / mean_sum
    spread = float(weights @ away**2)
    supposed = _ADDITIVITY**2 * float(np.mean(weights * times**2))
    # A first look at the noise decides how strongly the prior holds.
    first = supposed + float(weights @ (rise - ratio * away) ** 2)
    hold = first / networks / (_SLOPE_SPREAD * ratio) ** 2
    slope = (float(weights @ (away * rise)) + hold * ratio) / (spread + hold)
    used = 1 + spread / (spread + hold)
    freedom = 1 + max(networks - used, 0.0)
    noise = (supposed + float(weights @ (rise - slope * away) ** 2)) / freedom
    return _Calibration(
        networks=networks,
        slope=slope,
        mean_time_s=mean_time,
        mean_sum_s=mean_sum,
        level_variance=noise / total,
        slope_variance=noise / (spread + hold),
        noise=noise / float(np.mean(weights * times**2)),
        freedom=freedom,
        entry_variance=entry_variance,
    )


def _distinct(rows: Iterable[Mapping[BlockKey, int]]) -> set[BlockKey]:
    return {block for row in rows for block in row}
