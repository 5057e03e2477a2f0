"""Spaces with too many blocks to measure: which to measure next, and what the others take.

A Gaussian process over a block's size tells the logarithm of its time and how sure that is.
Blocks are measured where it is least sure, until it is sure enough of the rest; those stay
interpolated, with intervals, and are marked. Whole networks correct what is interpolated.

Source: C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, 2006,
    chapters 2 and 5; choosing by the largest variance: D. J. C. MacKay, Information-based
    objective functions for active data selection, Neural Computation 4, 1992. Deviation: the
    variance is weighed by the block's time and how often it occurs, as sums of times are wanted.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from boardfront.latency_models.blocks import HEAD, STEM
from boardfront.latency_models.table_looks import Filled, LookKind, MeasuredSum
from boardfront.latency_models.table_parts import EntryOrigin, TableEntry
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from boardfront.latency_models.blocks import BlockKey
    from boardfront.latency_models.table_chains import Chain
    from boardfront.latency_models.table_looks import Look

    _Array = npt.NDArray[np.float64]

_NORMAL = 1.96
_FOLDS = 5
_SUM_ERROR = 0.015
"""How far, relatively, a network is from the sum of its blocks, as a standard deviation."""

_FARTHEST = 3.0
_HASTY_BATCHES = 4
"""Batches of measured blocks after which what is interpolated meanwhile is renewed."""
FEWEST = 12
"""Measured blocks that a process is fitted on at least."""


class Interpolator:
    """Times of blocks from those of others.

    scikit-learn is imported when it is fitted.

    Args:
        sizes: Of a block, e.g. multiply-accumulates, activations, parameters; 0 or above.
    """

    def __init__(self, sizes: Callable[[BlockKey], Sequence[float]]) -> None:
        self._sizes = sizes
        self._process: Any = None
        self._middle: _Array = np.zeros(0)
        self._scale: _Array = np.ones(0)

    def fit(self, entries: Sequence[TableEntry]) -> None:
        """Learn from measured blocks.

        Raises:
            WrongInputError: Fewer than `FEWEST` have a time above 0.
        """
        known = usable(entries)
        if len(known) < FEWEST:
            raise WrongInputError(
                f"expected at least {FEWEST} measured blocks to interpolate from, got "
                f"{len(known)}: measure more"
            )
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import (
            ConstantKernel,
            DotProduct,
            Matern,
            WhiteKernel,
        )

        rows = self._rows([one.block for one in known])
        self._middle, self._scale = rows.mean(axis=0), rows.std(axis=0)
        self._scale[self._scale == 0] = 1.0
        logs = np.log([one.time_s for one in known])
        noise = np.array([(one.half_width_s / _NORMAL / one.time_s) ** 2 for one in known])
        # Of the logarithms; the process adds it to those that it has divided by their deviation.
        noise = np.minimum(1.0, noise) / max(float(np.var(logs)), 1e-8)
        kernel = ConstantKernel(1.0) * DotProduct(1.0) + ConstantKernel(0.1) * Matern(
            length_scale=np.ones(rows.shape[1]), nu=1.5
        )
        self._process = GaussianProcessRegressor(
            kernel + WhiteKernel(1e-3),
            alpha=np.maximum(1e-8, noise),
            normalize_y=True,
        )
        with warnings.catch_warnings():
            # A parameter at the end of its range is an answer as well.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._process.fit((rows - self._middle) / self._scale, logs)

    def predict(self, blocks: Sequence[BlockKey]) -> tuple[_Array, _Array]:
        """Return times and the relative half-widths of their 95 % intervals, both (blocks,)."""
        if self._process is None:
            raise AssertionError("fitted before it is asked")
        rows = (self._rows(blocks) - self._middle) / self._scale
        logs, deviations = self._process.predict(rows, return_std=True)
        return np.exp(logs), np.expm1(_NORMAL * np.minimum(deviations, 3.0))

    def predict_together(self, blocks: Sequence[BlockKey]) -> tuple[_Array, _Array]:
        """Return times, shape (blocks,), and their covariance, shape (blocks, blocks)."""
        if self._process is None:
            raise AssertionError("fitted before it is asked")
        rows = (self._rows(blocks) - self._middle) / self._scale
        logs, covariance = self._process.predict(rows, return_cov=True)
        times = np.exp(logs)
        return times, covariance * np.outer(times, times)

    def _rows(self, blocks: Sequence[BlockKey]) -> _Array:
        return np.array(
            [
                [
                    *(math.log1p(size) for size in self._sizes(block)),
                    math.log(block.in_channels),
                    math.log(block.out_channels),
                    math.log(block.resolution),
                    math.log(block.stride),
                ]
                for block in blocks
            ]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """Blocks that were not measured, as far as they are known: normal, together.

    Args:
        blocks: Each once.
        times: Shape (blocks,).
        covariance: Of the times, shape (blocks, blocks).
    """

    blocks: Sequence[BlockKey]
    times: _Array
    covariance: _Array


def learn_from_sums(
    guess: Guess, entries: Sequence[TableEntry], sums: Sequence[MeasuredSum]
) -> tuple[_Array, _Array]:
    """Return the times and the covariance of guessed blocks, given what networks take.

    A network's time is a sum of its blocks', so it says something of all of those that were not
    measured at once: the more, the less was known of them. What was measured stays as it is.

    Args:
        guess: Before.
        entries: Measured blocks.
        sums: Networks; those with a block that is neither guessed nor measured say nothing.

    Source: conditioning of a normal distribution on linear functions, C. M. Bishop, Pattern
        Recognition and Machine Learning, 2006, section 2.3.3.
    """
    place = {block: index for index, block in enumerate(guess.blocks)}
    measured = {one.block: one for one in entries}
    rows, targets, noises = [], [], []
    for one in sums:
        if not all(block in place or block in measured for block in one.blocks):
            continue
        row, rest = np.zeros(len(place)), 0.0
        noise = (one.half_width_s / _NORMAL) ** 2 + (_SUM_ERROR * one.time_s) ** 2
        for block, count in Counter(one.blocks).items():
            if block in place:
                row[place[block]] = count
            else:
                rest += count * measured[block].time_s
                noise += (count * measured[block].half_width_s / _NORMAL) ** 2
        rows.append(row)
        targets.append(one.time_s - rest)
        noises.append(noise)
    if not rows:
        return guess.times, guess.covariance
    counts = np.array(rows)
    across = guess.covariance @ counts.T
    gain = np.linalg.solve(counts @ across + np.diag(noises), across.T).T
    times = guess.times + gain @ (np.array(targets) - counts @ guess.times)
    covariance = guess.covariance - gain @ across.T
    # The normal law stands for one of logarithms: far from the guess it is none.
    return np.clip(times, guess.times / _FARTHEST, guess.times * _FARTHEST), covariance


@dataclass(frozen=True, kw_only=True, slots=True)
class ActiveRule:
    """When to choose anew, and when to stop.

    Args:
        first: Blocks that are measured in the order of the plan before anything is chosen.
        batch: Blocks that are measured between two choices.
        target: Relative half-width at which a block need not be measured, of the median block.
        most: Blocks that are measured at most.
    """

    first: int = 24
    batch: int = 8
    target: float = 0.15
    most: int = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class _Filled:
    """What was interpolated last, from how many measured blocks."""

    measured: int
    entries: dict[BlockKey, TableEntry]
    error: float | None


class ActiveChooser:
    """Puts the blocks first of which the least is known; implements `table_plan.Chooser`.

    The same answers give the same choices, so a build that is gone on with asks the same.

    Args:
        interpolator: Of the blocks' times.
        networks: Whose blocks count, as often as they occur.
        rule: When.
    """

    def __init__(
        self, interpolator: Interpolator, networks: Iterable[Chain], rule: ActiveRule
    ) -> None:
        self._interpolator = interpolator
        self._rule = rule
        self._often: Counter[BlockKey] = Counter(block for chain in networks for block in chain)
        self._chosen_at = 0
        self._done = False
        self._filled: _Filled | None = None

    @property
    def most(self) -> int:
        """How many blocks are measured at most."""
        return self._rule.most

    def next(self, waiting: list[Look], entries: Sequence[TableEntry]) -> list[Look]:
        """Return the looks that wait in a better order, without those that are not needed."""
        rule = self._rule
        places = [i for i, look in enumerate(waiting) if look.kind is LookKind.ENTRY]
        due = self._chosen_at + rule.batch if self._chosen_at else rule.first
        if len(entries) >= rule.most:
            self._done = True
        elif len(entries) >= max(due, FEWEST) and not self._done:
            self._chosen_at = len(entries)
            waiting = self._ranked(waiting, places, entries)
        if self._done:
            return [look for look in waiting if look.kind is not LookKind.ENTRY]
        return waiting

    def fill(
        self,
        blocks: Sequence[BlockKey],
        entries: Sequence[TableEntry],
        sums: Sequence[MeasuredSum] = (),
        *,
        closely: bool = True,
    ) -> Filled:
        """Return entries for blocks that were not measured; none while too few are.

        Stems and heads are like nothing else: those stay without.
        """
        blocks = [block for block in blocks if block.kind not in {STEM, HEAD}]
        before = self._filled
        hasty = _HASTY_BATCHES * self._rule.batch
        if closely or before is None or len(entries) - before.measured >= hasty:
            before = self._filled = _Filled(
                measured=len(entries),
                entries={one.block: one for one in self._interpolated(blocks, entries, sums)},
                error=self._error(entries) if closely else None,
            )
        found = [before.entries[block] for block in blocks if block in before.entries]
        return Filled(entries=tuple(found), error=before.error if found else None)

    def _interpolated(
        self,
        blocks: Sequence[BlockKey],
        entries: Sequence[TableEntry],
        sums: Sequence[MeasuredSum],
    ) -> list[TableEntry]:
        try:
            self._interpolator.fit(entries)
        except WrongInputError:
            return []
        if not blocks:
            return []
        times, covariance = self._interpolator.predict_together(blocks)
        times, covariance = learn_from_sums(
            Guess(blocks=blocks, times=times, covariance=covariance), entries, sums
        )
        relative = np.sqrt(np.maximum(np.diag(covariance), 0.0)) / times
        widths = np.expm1(_NORMAL * np.minimum(relative, 3.0))
        return [
            TableEntry(
                block=block,
                time_s=float(time_s),
                low_s=float(time_s / (1 + width)),
                high_s=float(time_s * (1 + width)),
                verdict=Verdict.OK,
                count=0,
                origin=EntryOrigin.INTERPOLATED,
            )
            for block, time_s, width in zip(blocks, times, widths, strict=True)
        ]

    def _error(self, entries: Sequence[TableEntry]) -> float | None:
        """Return the mean relative error on measured blocks left out; None where they are few."""
        known = usable(entries)
        if len(known) < 2 * FEWEST:
            return None
        errors = []
        for fold in range(_FOLDS):
            self._interpolator.fit([one for i, one in enumerate(known) if i % _FOLDS != fold])
            left_out = known[fold::_FOLDS]
            times, _ = self._interpolator.predict([one.block for one in left_out])
            errors += [abs(t / one.time_s - 1) for t, one in zip(times, left_out, strict=True)]
        return float(np.mean(errors))

    def _ranked(
        self, waiting: list[Look], places: list[int], entries: Sequence[TableEntry]
    ) -> list[Look]:
        looks = [waiting[place] for place in places]
        blocks = [look.block for look in looks if look.block is not None]
        try:
            self._interpolator.fit(entries)
        except WrongInputError:
            return waiting
        if not blocks:
            return waiting
        times, widths = self._interpolator.predict(blocks)
        if float(np.median(widths)) <= self._rule.target:
            self._done = True
            return waiting
        often = np.array([max(1, self._often[block]) for block in blocks])
        order = np.argsort(-(times * widths * often), kind="stable")
        ranked = list(waiting)
        for place, index in zip(places, order.tolist(), strict=True):
            ranked[place] = looks[index]
        return ranked


def usable(entries: Sequence[TableEntry]) -> list[TableEntry]:
    """Return what others can be told from."""
    return [one for one in entries if one.time_s > 0 and one.block.kind not in {STEM, HEAD}]
