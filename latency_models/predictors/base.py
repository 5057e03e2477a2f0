"""What a model of latency answers, and how networks become rows of numbers for it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.latency_models.blocks import BlockKey, Decomposition

FloatArray: TypeAlias = npt.NDArray[np.float64]

SMALLEST_WEIGHT_TIME = 0.1
"""Errors count relative to the time, but no time less than this share of the median counts as
smaller: else one network of almost no time would outweigh all others."""

_ROWS = 4096
"""Networks at a time: bounds the memory."""


class NotFittedError(BoardfrontError):
    """A model was asked before it was fitted."""

    def __init__(self, name: str) -> None:
        super().__init__(f"expected a fitted model, got {name} as it was made: call fit first")


class UnknownBlockError(WrongInputError):
    """A network holds blocks of which the model knows nothing.

    Args:
        blocks: Which.
    """

    def __init__(self, blocks: Sequence[BlockKey]) -> None:
        self.blocks = tuple(blocks)
        super().__init__(
            f"expected networks of known blocks, got {len(blocks)} unknown ones, the first "
            f"{blocks[0].text!r}: measure them, or take a model that interpolates"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Times of networks with the intervals that 95 % of measured times shall lie in.

    Args:
        median_s: Shape (networks,), seconds.
        low_s: Shape (networks,), seconds.
        high_s: Shape (networks,), seconds.
    """

    median_s: FloatArray
    low_s: FloatArray
    high_s: FloatArray

    def __post_init__(self) -> None:
        if not self.median_s.shape == self.low_s.shape == self.high_s.shape:
            raise WrongInputError(
                f"expected three rows of one length, got {self.median_s.shape}, "
                f"{self.low_s.shape}, {self.high_s.shape}: give one interval a network"
            )
        if not ((self.low_s <= self.median_s) & (self.median_s <= self.high_s)).all():
            raise WrongInputError(
                "expected low_s <= median_s <= high_s, got an interval beside its median or nan: "
                "check what the model was fitted on"
            )

    def __len__(self) -> int:
        return len(self.median_s)


@runtime_checkable
class LatencyModel(Protocol):
    """Predicts whole networks' times, with uncertainty.

    Guarantees:
        - `predict` before `fit` raises NotFittedError; fitting anew forgets the fit before.
        - The same networks, times and seed give the same predictions; nothing is global.
        - Answers come in the order of the networks, one each, low <= median <= high, low >= 0.
        - A block that the model can say nothing about raises UnknownBlockError.
        - Arguments are not kept or changed. Not safe for several threads while it is fitted.
    """

    @property
    def name(self) -> str:
        """What to call it in print, e.g. "ridge"."""

    def fit(
        self,
        decompositions: Sequence[Decomposition],
        times_s: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        """Learn from measured networks.

        Args:
            decompositions: The networks.
            times_s: Shape (networks,), seconds, above 0.
            weights: Shape (networks,), above 0: what a squared error in seconds counts; None
                weighs errors relative to the times, see `relative_weights`.

        Raises:
            WrongInputError: The rows do not fit each other, or are too few for the model.
        """

    def predict(self, decompositions: Sequence[Decomposition]) -> Prediction:
        """Return the times of networks."""


@runtime_checkable
class NetworkFeatures(Protocol):
    """What is known of a network without measuring, e.g. its multiply-accumulates."""

    @property
    def names(self) -> Sequence[str]:
        """One name a feature."""

    def sums(self, decompositions: Sequence[Decomposition]) -> FloatArray:
        """Return the features, each the sum over a network's blocks: (networks, features)."""


class BlockIndex:
    """Blocks in a fixed order, so that networks become rows of counts.

    Args:
        blocks: Each once.

    Raises:
        WrongInputError: A block comes twice.
    """

    def __init__(self, blocks: Sequence[BlockKey]) -> None:
        self.blocks = tuple(blocks)
        self._columns = {block: column for column, block in enumerate(self.blocks)}
        if len(self._columns) != len(self.blocks):
            raise WrongInputError(
                f"expected each block once, got {len(self.blocks)} with "
                f"{len(self._columns)} distinct ones: leave out the repeated"
            )

    @classmethod
    def of(cls, decompositions: Sequence[Decomposition]) -> BlockIndex:
        """Return an index of all blocks that occur, in their own order."""
        return cls(sorted({block for each in decompositions for block in each.blocks}))

    def counts(self, decompositions: Sequence[Decomposition]) -> FloatArray:
        """Return how often each network has each block, shape (networks, blocks).

        Raises:
            UnknownBlockError: A network has a block that is not in the index.
        """
        found, unknown = self.split(decompositions)
        if unknown:
            raise UnknownBlockError(sorted({block for row in unknown.values() for block in row}))
        return found

    def split(
        self, decompositions: Sequence[Decomposition]
    ) -> tuple[FloatArray, dict[int, dict[BlockKey, int]]]:
        """Return the counts of known blocks, and by network those of others."""
        found = np.zeros((len(decompositions), len(self.blocks)))
        unknown: dict[int, dict[BlockKey, int]] = {}
        for start in range(0, len(decompositions), _ROWS):
            part = decompositions[start : start + _ROWS]
            blocks = list(chain.from_iterable(each.blocks for each in part))
            rows = start + np.repeat(np.arange(len(part)), [len(each.blocks) for each in part])
            columns = self._find(blocks)
            known = columns >= 0
            np.add.at(found, (rows[known], columns[known]), 1)
            for position in np.flatnonzero(~known):
                others = unknown.setdefault(int(rows[position]), {})
                others[blocks[position]] = others.get(blocks[position], 0) + 1
        return found, unknown

    def _find(self, blocks: Sequence[BlockKey]) -> npt.NDArray[np.intp]:
        """Return each block's column, -1 for an unknown one.

        Networks of a space share few block objects, and an object's address is hashed much faster
        than its fields: each object is looked up once. `blocks` keeps them all alive meanwhile.
        """
        addresses = np.fromiter(map(id, blocks), np.uint64, len(blocks))
        _, first, inverse = np.unique(addresses, return_index=True, return_inverse=True)
        found = [self._columns.get(blocks[position], -1) for position in first]
        return np.array(found, np.intp)[inverse]


class BlockFeatures:
    """Features of networks as sums of features of their blocks, given as an array.

    Args:
        blocks: Each once.
        values: Shape (blocks, features), e.g. multiply-accumulates, activations, parameters.
        names: One a feature.

    Raises:
        WrongInputError: The shapes do not fit, or a value is not finite.
    """

    def __init__(
        self, blocks: Sequence[BlockKey], values: npt.ArrayLike, names: Sequence[str]
    ) -> None:
        self._index = BlockIndex(blocks)
        self._values = np.array(values, float)
        self._names = tuple(names)
        expected = (len(self._index.blocks), len(self._names))
        if self._values.shape != expected or not np.isfinite(self._values).all():
            raise WrongInputError(
                f"expected finite features of shape {expected} (blocks, names), got shape "
                f"{self._values.shape}: give one row a block and one name a column"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """One name a feature."""
        return self._names

    def sums(self, decompositions: Sequence[Decomposition]) -> FloatArray:
        """Return the networks' features, shape (networks, features).

        Raises:
            UnknownBlockError: A network has a block without features.
        """
        return np.asarray(self._index.counts(decompositions) @ self._values, dtype=np.float64)


class CountedFeatures:
    """Features of networks as sums of features of their blocks, asked for block by block.

    Args:
        of: Features of any block of the space.
        names: One a feature.
    """

    def __init__(self, of: Callable[[BlockKey], Sequence[float]], names: Sequence[str]) -> None:
        self._of = of
        self._names = tuple(names)

    @property
    def names(self) -> tuple[str, ...]:
        """One name a feature."""
        return self._names

    def sums(self, decompositions: Sequence[Decomposition]) -> FloatArray:
        """Return the networks' features, shape (networks, features)."""
        index = BlockIndex.of(decompositions)
        values = np.array([self._of(block) for block in index.blocks], float)
        found = index.counts(decompositions) @ values.reshape(-1, len(self._names))
        return np.asarray(found, dtype=np.float64)


def check_times(
    networks: int,
    times_s: npt.ArrayLike,
    weights: npt.ArrayLike | None,
    *,
    at_least: int,
    name: str,
) -> tuple[FloatArray, FloatArray]:
    """Return times and weights as arrays of shape (networks,), copied.

    Args:
        networks: How many were given.
        times_s: Their times, seconds.
        weights: As for `LatencyModel.fit`.
        at_least: How many the model needs.
        name: Of the model, for the error's text.

    Raises:
        WrongInputError: They are too few, do not fit each other, or are not positive and finite.
    """
    times = np.array(times_s, float)
    given = relative_weights(times) if weights is None else np.array(weights, float)
    if times.shape != (networks,) or given.shape != (networks,):
        raise WrongInputError(
            f"expected a time and a weight for each of {networks} networks, got shapes "
            f"{times.shape} and {given.shape}: give one each"
        )
    if networks < at_least:
        raise WrongInputError(
            f"expected at least {at_least} measured networks for {name}, got {networks}: "
            "measure more"
        )
    for values, what in ((times, "times"), (given, "weights")):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise WrongInputError(
                f"expected {what} above 0, got some that are not: leave out what failed"
            )
    return times, given


def relative_weights(times_s: FloatArray) -> FloatArray:
    """Return weights under which errors count relative to the times, shape (networks,)."""
    if not len(times_s):
        return times_s
    floor = SMALLEST_WEIGHT_TIME * np.median(times_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 / np.maximum(times_s, floor) ** 2, dtype=np.float64)
