"""What is timed at once for a table; which looks share a job, which fit a budget: pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.latency_models.blocks import BlockKey
    from boardfront.latency_models.table_chains import Chain
    from boardfront.latency_models.table_parts import TableEntry


class LookKind(enum.Enum):
    """What is learned from a look."""

    BASE = "base"
    LEVEL = "level"
    CALL = "call"
    ENTRY = "entry"
    CALIBRATION = "calibration"
    HELD_OUT = "held-out"
    REPEAT = "repeat"


NETWORKS = frozenset({LookKind.CALIBRATION, LookKind.HELD_OUT, LookKind.REPEAT})


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A chain to be timed, in turn with another one.

    Args:
        kind: What is learned.
        name: For people; no two looks of a round share it.
        chain: To be timed.
        against: What it is alternated with and divided by; None: it is timed alone.
        block: Whose time it gives, of an entry.
        copies: How many of that block the chain has more than `against`.
        is_whole: The block's time is the whole chain's, not what it has more than `against`.
        encoding: Of a whole network.
        is_refined: Whether it looks again, closer.
        ratio: What the ratio is thought to be; None: nobody knows yet.
    """

    kind: LookKind
    name: str
    chain: Chain
    against: Chain | None
    block: BlockKey | None = None
    copies: int = 1
    is_whole: bool = False
    encoding: str = ""
    is_refined: bool = False
    ratio: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredSum:
    """A whole network to learn from: what its blocks take together.

    Args:
        blocks: Of the network.
        time_s: Their time, without that of the call, in the unit of the entries.
        half_width_s: Of its 95 % interval.
    """

    blocks: Chain
    time_s: float
    half_width_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Filled:
    """Blocks that were not measured.

    Args:
        entries: Their times.
        error: Mean relative error of such times; None where it cannot be told.
    """

    entries: tuple[TableEntry, ...] = ()
    error: float | None = None


class Chooser(Protocol):
    """Decides which blocks of many are measured. The same answers give the same choices."""

    @property
    def most(self) -> int:
        """How many blocks are measured at most."""

    def next(self, waiting: list[Look], entries: Sequence[TableEntry]) -> list[Look]:
        """Return the looks that wait in a better order, without those that are not needed.

        Args:
            waiting: Of the first round.
            entries: Blocks that are measured, in times of the base.
        """

    def fill(
        self,
        blocks: Sequence[BlockKey],
        entries: Sequence[TableEntry],
        sums: Sequence[MeasuredSum] = (),
        *,
        closely: bool = True,
    ) -> Filled:
        """Return entries for blocks that were not measured, in the unit of `entries`.

        Args:
            blocks: That were not measured.
            entries: That were.
            sums: Whole networks to learn from.
            closely: Of what is known now; else what was found a few measured blocks ago will do.
        """


def spread(many: Sequence[Look], among: Sequence[Look]) -> list[Look]:
    """Return both lists as one, each in its order, evenly mixed."""
    placed = [((index + 0.5) / len(many), 0, index, look) for index, look in enumerate(many)]
    placed += [((index + 0.5) / len(among), 1, index, look) for index, look in enumerate(among)]
    return [look for *_, look in sorted(placed, key=lambda item: item[:3])]


def groups(looks: Sequence[Look], most: int) -> list[tuple[Look, ...]]:
    """Return which looks of a first round share a job.

    Only what is alternated with the same chain goes together, and only looks of one kind. So a
    build that is gone on with for more networks of a kind meets its jobs again.

    Args:
        looks: Of the first round, in order.
        most: Looks of one job.
    """
    alike: dict[tuple[LookKind, Chain], list[Look]] = {}
    for look in looks:
        if look.against is not None and may_share(look):
            alike.setdefault((look.kind, look.against), []).append(look)
    return [
        tuple(kind[index : index + most])
        for kind in alike.values()
        for index in range(0, len(kind), most)
    ]


def may_share(look: Look) -> bool:
    """Return whether a look of the first round may be in a job with others."""
    is_block = look.kind is LookKind.ENTRY and not look.is_whole
    return bool(look.against) and (look.kind in NETWORKS or is_block)


def fitted(
    looks: Sequence[Look], left_s: float, cost_s: Callable[[Look], float], *, fewest: int = 6
) -> list[Look]:
    """Return what fits into the time that is left: blocks before whole networks.

    A table without all blocks predicts nothing; one without many whole networks knows less of
    itself. So repeats go first, then whole networks, the last ones first, down to `fewest` of
    each kind, then those too.

    Args:
        looks: In the order of measuring.
        left_s: Seconds.
        cost_s: Of a look, seconds.
        fewest: Whole networks of a kind that are given up last.
    """
    kept = list(looks)
    total_s = sum(cost_s(look) for look in kept)
    for look in _in_order_of_need(kept, fewest):
        if total_s <= left_s:
            break
        kept.remove(look)
        total_s -= cost_s(look)
    return kept


def _in_order_of_need(looks: Sequence[Look], fewest: int) -> list[Look]:
    """Return the looks that can be done without, least needed first."""
    by_kind = {
        kind: [look for look in looks if look.kind is kind]
        for kind in (LookKind.REPEAT, LookKind.CALIBRATION, LookKind.HELD_OUT)
    }
    first = [look for looks_of in by_kind.values() for look in reversed(looks_of[fewest:])]
    last = [look for looks_of in by_kind.values() for look in reversed(looks_of[:fewest])]
    return [*first, *last]
