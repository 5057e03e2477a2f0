"""What a search does with a time that is not ok."""

from __future__ import annotations

import enum
from collections.abc import Mapping  # noqa: TC003 - the journal's reader resolves annotations
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    from boardfront.search.evaluation import Latency

MERIT = (
    Verdict.OK,
    Verdict.UNSTABLE,
    Verdict.DRIFTED,
    Verdict.CONTENDED,
    Verdict.THROTTLED,
)
"""Better verdicts first: an unstable time is about right, a throttled one is of another device."""


class Reaction(enum.Enum):
    """What to do with a time of some verdict."""

    RETRY = "retry"
    ACCEPT = "accept"
    DROP = "drop"


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictPolicy:
    """What to do with times that are not ok.

    Args:
        reactions: By verdict; those left out are measured again.
        retries: How often a candidate is measured again.
        cool_down_s: Pause before each retry.
    """

    reactions: Mapping[Verdict, Reaction] = field(default_factory=dict)
    retries: int = 2
    cool_down_s: float = 1.0

    def reaction(self, verdict: Verdict) -> Reaction:
        """Return what to do; an ok time is accepted."""
        if verdict is Verdict.OK:
            return Reaction.ACCEPT
        return self.reactions.get(verdict, Reaction.RETRY)


def better(first: Latency, second: Latency) -> Latency:
    """Return the one with the better verdict, then the narrower interval, then the first.

    Never chosen by the time itself: the fastest of several is biased.
    """
    return min(
        (first, second),
        key=lambda one: (MERIT.index(one.measured_verdict), one.relative_half_width),
    )
