"""What came of the looks of a build, and what follows from it for a block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.latency_models.table_looks import LookKind
from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    from boardfront.latency_models.table_looks import Look
    from boardfront.protos.records import Result


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came of a look.

    Args:
        look: It.
        ratio: To what it was compared with; of the base alone seconds.
        verdict: Whether that can be trusted.
        count: Samples that it rests on.
    """

    look: Look
    ratio: Span
    verdict: Verdict
    count: int

    @property
    def relative_half_width(self) -> float:
        """Half of the interval's width over the value."""
        return self.ratio.half_width / self.ratio.value

    def is_better_than(self, other: Answer) -> bool:
        """Return whether this one counts: by its verdict, then its interval, never its value."""
        good, others = self.verdict is Verdict.OK, other.verdict is Verdict.OK
        if good != others:
            return good
        # Other copies make other ratios; what counts is how closely the block is known.
        return self._uncertainty < other._uncertainty

    @property
    def _uncertainty(self) -> float:
        """Of a block by what one copy adds, of anything else relative to its time.

        Not relative to what is added: where that is little, the look that came out slower would
        seem the better one.
        """
        if self.look.kind is LookKind.ENTRY and not self.look.is_whole:
            return self.ratio.half_width / self.look.copies
        return self.relative_half_width


def added_by(ratio: Span, rest: Span, copies: int) -> Span:
    """Return what one copy of a block adds: (ratio - 1) * rest / copies, with its interval.

    The errors of the ratio and of the rest are independent: they were taken in different jobs.

    Args:
        ratio: Of the network with the copies to the one without.
        rest: Time of the one without.
        copies: How many.
    """
    value = (ratio.value - 1) * rest.value / copies
    shift = abs(ratio.value - 1)
    below = math.hypot((ratio.value - ratio.low) * rest.value, shift * rest.half_width)
    above = math.hypot((ratio.high - ratio.value) * rest.value, shift * rest.half_width)
    return Span(value=value, low=value - below / copies, high=value + above / copies)


def answer_of(look: Look, result: Result) -> Answer:
    """Return what a result says: the ratio where there is one, else seconds."""
    statistics, normalised = result.statistics, result.normalised
    if look.against is None or normalised is None:
        return Answer(
            look=look,
            ratio=Span(value=statistics.median_s, low=statistics.low_s, high=statistics.high_s),
            verdict=result.verdict,
            count=statistics.samples,
        )
    return Answer(
        look=look,
        ratio=Span(value=normalised.ratio, low=normalised.low, high=normalised.high),
        verdict=normalised.verdict,
        count=statistics.samples,
    )


def words_of(answer: Answer) -> str:
    """Return an answer for people."""
    mark = "" if answer.verdict is Verdict.OK else f" ({answer.verdict.value})"
    unit = " s" if answer.look.against is None else " x"
    return f"{answer.ratio.value:.4g}{unit} +-{answer.relative_half_width:.1%}{mark}"
