"""Times of a space's architectures predicted from a latency table: no device is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.search.evaluation import NO_DEVICE, EvaluationFailure, Latency

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from boardfront.latency_models.blocks import BlockKey, Decomposition
    from boardfront.latency_models.predictors import LatencyModel
    from boardfront.search.space import DecomposableSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """How far the level of a table's seconds may be off: of its base's 95 % interval, relative.

    Args:
        below: From the base's time down, 0..1.
        above: From it up.
    """

    below: float = 0.0
    above: float = 0.0


class TableLatency:
    """A LatencySource that predicts; what it does not cover is a failure with its reason.

    Architectures that were begun are predicted together when the first of them is asked for.

    Args:
        space: Of the architectures.
        model: Predicts their times, fitted.
        blocks: Those that the table has times of.
        interpolates: Asked whether the model can tell one that the table has not; None: it can
            tell none.
        level: Widens the intervals: all times shift with it alike.
    """

    def __init__(
        self,
        space: DecomposableSpace,
        model: LatencyModel,
        blocks: Collection[BlockKey],
        *,
        interpolates: Callable[[BlockKey], bool] | None = None,
        level: Level | None = None,
    ) -> None:
        self._interpolates = interpolates or (lambda _: False)
        self._level = level or Level()
        self._space = space
        self._model = model
        self._blocks = frozenset(blocks)
        self._begun: list[_Predicted] = []
        self.corrections: Mapping[str, Latency] = {}

    @property
    def ahead(self) -> int:
        """`NO_DEVICE`: no device waits for anything."""
        return NO_DEVICE

    def latency(self, encoding: str) -> Latency | EvaluationFailure:
        """Predict the time of one architecture, or say why there is none."""
        return self.begin(encoding).result()

    def begin(self, encoding: str) -> _Predicted:
        """Note an architecture to be predicted together with others."""
        place = _Predicted(self, encoding)
        self._begun.append(place)
        return place

    def predict(self, encodings: Sequence[str]) -> list[Latency | EvaluationFailure]:
        """Predict architectures, in their order."""
        networks = [self._space.decompose(encoding) for encoding in encodings]
        answers: list[Latency | EvaluationFailure | None] = [
            self._refusal(network) for network in networks
        ]
        covered = [place for place, answer in enumerate(answers) if answer is None]
        found = self._model.predict([networks[place] for place in covered])
        rows = zip(
            found.median_s.tolist(), found.low_s.tolist(), found.high_s.tolist(), strict=True
        )
        for place, (median_s, low_s, high_s) in zip(covered, rows, strict=True):
            answers[place] = _latency(median_s, low_s, high_s, self._level)
        return [answer for answer in answers if answer is not None]

    def settle(self) -> None:
        """Predict all that was begun."""
        begun, self._begun = self._begun, []
        answers = self.predict([place.encoding for place in begun])
        for place, answer in zip(begun, answers, strict=True):
            place.answer = answer

    def _refusal(self, network: Decomposition) -> EvaluationFailure | None:
        """Return why a network cannot be predicted, or None."""
        if self._blocks.issuperset(network.blocks):
            return None
        lacking = [
            block
            for block in network.counts
            if block not in self._blocks and not self._interpolates(block)
        ]
        if not lacking:
            return None
        return EvaluationFailure(
            message=f"the table has no block {lacking[0].text!r} ({len(lacking)} of the network's "
            f"{len(network.counts)} blocks are not in it)"
        )


class _Predicted:
    """A PendingLatency of a table."""

    is_done = True

    def __init__(self, source: TableLatency, encoding: str) -> None:
        self._source = source
        self.encoding = encoding
        self.answer: Latency | EvaluationFailure | None = None

    def result(self) -> Latency | EvaluationFailure:
        """Predict it, with whatever else was begun."""
        if self.answer is None:
            self._source.settle()
        if self.answer is None:
            raise AssertionError("what was begun is settled")
        return self.answer


def _latency(
    median_s: float, low_s: float, high_s: float, level: Level
) -> Latency | EvaluationFailure:
    if median_s <= 0:
        return EvaluationFailure(
            message="the table's blocks come to no time above 0: measure them more closely"
        )
    return Latency(
        median_s=_rounded(median_s),
        low_s=_rounded(max(0.0, median_s - math.hypot(median_s - low_s, level.below * median_s))),
        high_s=_rounded(median_s + math.hypot(high_s - median_s, level.above * median_s)),
        predicted=True,
    )


def _rounded(time_s: float) -> float:
    """Leave out the digits that depend on which networks were predicted together.

    A matrix product sums in another order for other numbers of rows, and a resumed search asks
    for other rows at a time.
    """
    return float(f"{time_s:.9g}")
