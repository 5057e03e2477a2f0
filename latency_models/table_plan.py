"""Which networks a table is built from, in which order, and how closely: pure planning.

A block that leaves the shape as it is, is inserted several times into a real network of the
space, the base; it costs (ratio - 1) * time of the base / copies. A block that changes the shape
is put at the end of a chain of as few blocks as lead to it, closed by a head of few channels; the
chain without it is what it is compared with.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

from boardfront.latency_models.blocks import HEAD, STEM, BlockKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from boardfront.latency_models.table_parts import TableEntry

Chain: TypeAlias = tuple[BlockKey, ...]
"""Blocks one after the other, the stem first, a head last. The empty chain is a call without any
block."""

CALL: Chain = ()

_THIN_CHANNELS = 8
"""Of the head that closes a chain which is not a whole network: it shall cost next to nothing."""

_MAX_COPIES = 64
_SHARE_TOLERANCE = 0.4
"""Copies shall be half of the network's time; from this share on they are not counted anew."""

_NARROWEST, _WIDEST = 0.001, 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainFile:
    """A chain as a device gets it."""

    content: bytes
    structure_hash: str


class ChainWriter(Protocol):
    """Writes the networks that a table is built from.

    Guarantees: pure, and the same chain gives the same bytes in every process.
    """

    def write(self, chain: Chain) -> ChainFile | None:
        """Write a chain; None for the empty one where a call cannot be timed alone.

        Raises:
            WrongInputError: The shapes of neighbours do not fit.
        """


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


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeNetwork:
    """A member of the space, as a build needs it."""

    encoding: str
    chain: Chain


def ratio_precision(precision: float, ratio: float) -> float:
    """Return how precisely a ratio has to be known for a block's time to be.

    The block's time is proportional to ratio - 1, so a relative error e of the ratio is one of
    e * ratio / (ratio - 1) of the block: a total that is known to 1 % may leave a block at 20 %.

    Args:
        precision: Asked of the block: half of the interval's width over its time.
        ratio: With the block over without it.

    Returns:
        Half of the interval's width over the ratio, from 0.001 to 0.05.
    """
    added = abs(ratio - 1)
    return min(_WIDEST, max(_NARROWEST, precision * added / ratio))


def copies_for(time_over_rest: float) -> int:
    """Return how many copies of a block take as long as the rest: then they are half of it all.

    Args:
        time_over_rest: The block's time over that of the network which it is inserted into.
    """
    if time_over_rest <= 1 / _MAX_COPIES:
        return _MAX_COPIES
    return math.ceil(1 / time_over_rest)


def better_copies(copies: int, time_over_rest: float) -> int:
    """Return with how many copies to look again: as many, unless they took far too little."""
    share = copies * time_over_rest / (1 + copies * time_over_rest)
    return copies if share >= _SHARE_TOLERANCE else copies_for(time_over_rest)


def insert(chain: Chain, block: BlockKey, copies: int) -> Chain | None:
    """Return the chain with copies of a block behind the last place where it fits; None: nowhere.

    Args:
        chain: A network.
        block: That leaves the shape as it is.
        copies: How many.
    """
    places = [
        index
        for index, before in enumerate(chain[:-1], 1)
        if (before.out_channels, before.out_resolution) == (block.in_channels, block.resolution)
    ]
    if not places:
        return None
    return (*chain[: places[-1]], *((block,) * copies), *chain[places[-1] :])


def shortened(chain: Chain) -> Chain:
    """Return the chain without the blocks that leave the shape as it is."""
    return tuple(block for block in chain if not block.is_stackable)


def thin_channels(classes: int) -> int:
    """Return the outputs of a thin head, never as many as a member's has."""
    return _THIN_CHANNELS if classes != _THIN_CHANNELS else _THIN_CHANNELS // 2


def closed(open_chain: Chain, head: BlockKey) -> Chain:
    """Return a chain that ends anywhere with a head of few channels behind it."""
    last = open_chain[-1]
    thin = replace(
        head,
        in_channels=last.out_channels,
        out_channels=thin_channels(head.out_channels),
        resolution=last.out_resolution,
    )
    return (*open_chain, thin)


class Ways:
    """The fewest blocks that lead to a shape.

    Args:
        networks: Whose blocks may be used; of several ways to a shape the first one counts.
    """

    def __init__(self, networks: Iterable[Chain]) -> None:
        self._ways: dict[tuple[int, int], Chain] = {}
        for chain in networks:
            for index, before in enumerate(chain[:-1], 1):
                shape = (before.out_channels, before.out_resolution)
                if shape not in self._ways:
                    self._ways[shape] = shortened(chain[:index])

    def to(self, block: BlockKey) -> Chain | None:
        """Return the blocks to put before a block; None: no network has a place for it."""
        return self._ways.get((block.in_channels, block.resolution))


@dataclass(frozen=True, kw_only=True, slots=True)
class Members:
    """Networks of the space that a build needs.

    Args:
        base: Most blocks are inserted into it, and all levels are told in its time.
        calibration: To calibrate on.
        held_out: To judge by.
        repeats: How many of the held-out ones are measured again.
        guides: Chains whose blocks may lead to where a block fits; they are not measured.
    """

    base: WholeNetwork
    calibration: Sequence[WholeNetwork] = ()
    held_out: Sequence[WholeNetwork] = ()
    repeats: int = 0
    guides: Sequence[Chain] = ()


class Plan:
    """The looks of a build.

    Args:
        members: Networks of the space.
        kinds: Blocks to be measured, stems and heads among them.
        has_call: Whether the empty chain can be timed.
        chooser: Decides which blocks are measured; None: all of them.

    Attributes:
        base: The network whose time all levels are told in.
        entries: A look for each block.
        impossible: Blocks for which none of these networks has a place.
    """

    def __init__(
        self,
        members: Members,
        kinds: Sequence[BlockKey],
        *,
        has_call: bool = True,
        chooser: Chooser | None = None,
    ) -> None:
        self.chooser = chooser
        self.base = members.base
        self._members = members
        self._has_call = has_call
        networks = (one.chain for one in (*members.calibration, *members.held_out))
        self._ways = Ways((self.base.chain, *networks, *members.guides))
        looks = {block: self._entry(block) for block in kinds}
        self.entries = [look for look in looks.values() if look is not None]
        self.impossible = [block for block, look in looks.items() if look is None]

    def coarse(self) -> list[Look]:
        """Return the first round: everything once, in the order of measuring.

        The level first, then the chains that others are compared with; blocks and whole networks
        in turn, so that a drift of the device falls on both alike.
        """
        levels = self.levels()
        if self.chooser is not None:
            # Of many blocks few are measured: the others' levels are not needed.
            levels = [look for look in levels if look.kind is LookKind.CALL]
        first = [self.base_look(1), *levels]
        again = [self.base_look(2), self.base_look(3)]
        # Of many blocks the last ones may never come.
        most = len(self.entries) if self.chooser is None else self.chooser.most
        mixed = spread(self.entries[:most], [*self._network_looks(), *again])
        return [*first, *mixed, *self.entries[most:]]

    def base_look(self, number: int) -> Look:
        """Return a look at the base alone."""
        return Look(
            kind=LookKind.BASE, name=f"base, look {number}", chain=self.base.chain, against=None
        )

    def again(self, look: Look, *, time_over_rest: float) -> Look:
        """Return a closer look at a block whose time is about known.

        Args:
            look: The first one.
            time_over_rest: The block's time over that of the chain which it is compared with.
        """
        assert look.block is not None  # noqa: S101 - a look at a block
        copies = look.copies
        if look.block.is_stackable:
            copies = better_copies(copies, time_over_rest)
        closer = look if copies == look.copies else self._stacked(look.block, copies)
        assert closer is not None  # noqa: S101 - the first look had a place as well
        ratio = max(1e-3, 1 + copies * time_over_rest)
        return replace(closer, is_refined=True, ratio=ratio)

    def levels(self) -> list[Look]:
        """Return a look at each chain that others are compared with, besides the base."""
        chains = {look.against: None for look in self.entries}
        looks = [Look(kind=LookKind.CALL, name="call", chain=CALL, against=self.base.chain)]
        looks += [self.level(chain) for chain in chains if chain and chain != self.base.chain]
        return looks if self._has_call else looks[1:]

    def level(self, chain: Chain) -> Look:
        """Return a look at a chain that others are compared with."""
        return Look(
            kind=LookKind.LEVEL, name=_way_name(chain), chain=chain, against=self.base.chain
        )

    def _entry(self, block: BlockKey) -> Look | None:
        if block.kind == STEM:
            return self._stem(block)
        if block.is_stackable:
            return self._stacked(block, max(2, len(self.base.chain) - 2))
        way = self._ways.to(block)
        if way is None:
            return None
        if block.kind == HEAD:
            return _entry_look(block, (*way, block), closed(way, block))
        head = self.base.chain[-1]
        return _entry_look(block, closed((*way, block), head), closed(way, head))

    def _stacked(self, block: BlockKey, copies: int) -> Look | None:
        chain = insert(self.base.chain, block, copies)
        if chain is not None:
            return _entry_look(block, chain, self.base.chain, copies=copies)
        way = self._ways.to(block)
        if way is None:
            return None
        head = self.base.chain[-1]
        longer = closed((*way, *((block,) * copies)), head)
        return _entry_look(block, longer, closed(way, head), copies=copies)

    def _stem(self, block: BlockKey) -> Look:
        chain = closed((block,), self.base.chain[-1])
        if self._has_call:
            return _entry_look(block, chain, CALL)
        return replace(_entry_look(block, chain, self.base.chain), is_whole=True)

    def _network_looks(self) -> list[Look]:
        looks = [
            Look(
                kind=kind,
                name=f"{kind.value} {one.encoding}",
                chain=one.chain,
                against=self.base.chain,
                encoding=one.encoding,
            )
            for kind, networks in (
                (LookKind.CALIBRATION, self._members.calibration),
                (LookKind.HELD_OUT, self._members.held_out),
            )
            for one in networks
        ]
        half = len(self._members.calibration)
        mixed = spread(looks[half:], looks[:half])
        repeats = [
            Look(
                kind=LookKind.REPEAT,
                name=f"repeat {one.encoding}",
                chain=one.chain,
                against=self.base.chain,
                encoding=one.encoding,
            )
            for one in self._members.held_out[: self._members.repeats]
        ]
        return [*mixed, *repeats]


def spread(many: Sequence[Look], among: Sequence[Look]) -> list[Look]:
    """Return both lists as one, each in its order, evenly mixed."""
    placed = [((index + 0.5) / len(many), 0, index, look) for index, look in enumerate(many)]
    placed += [((index + 0.5) / len(among), 1, index, look) for index, look in enumerate(among)]
    return [look for *_, look in sorted(placed, key=lambda item: item[:3])]


def groups(looks: Sequence[Look], most: int) -> list[tuple[Look, ...]]:
    """Return which looks of a first round share a job.

    Only what is alternated with the same chain goes together, and only looks that are asked for
    equally closely. A network and its repeat never do.

    Args:
        looks: Of the first round, in order.
        most: Looks of one job.
    """
    alike: dict[tuple[LookKind, Chain], list[Look]] = {}
    for look in looks:
        if look.against is not None and may_share(look):
            kind = LookKind.HELD_OUT if look.kind is LookKind.CALIBRATION else look.kind
            alike.setdefault((kind, look.against), []).append(look)
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


def _entry_look(block: BlockKey, chain: Chain, against: Chain, *, copies: int = 1) -> Look:
    return Look(
        kind=LookKind.ENTRY,
        name=block.text,
        chain=chain,
        against=against,
        block=block,
        copies=copies,
    )


def _way_name(chain: Chain) -> str:
    *inner, _head = chain
    return f"the way to {inner[-1].out_channels} channels @{inner[-1].out_resolution}"
