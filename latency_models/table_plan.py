"""Which networks a table is built from, in which order, and how closely: pure planning.

A block that leaves the shape as it is, is inserted several times into a real network of the
space, the base; it costs (ratio - 1) * time of the base / copies. A block that changes the shape
is put at the end of a chain of as few blocks as lead to it, closed by a head of few channels; the
chain without it is what it is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boardfront.latency_models.blocks import HEAD, STEM, BlockKey
from boardfront.latency_models.table_chains import (
    CALL,
    MOST_COPIES,
    Chain,
    Ways,
    better_copies,
    closed,
    insert,
)
from boardfront.latency_models.table_looks import Chooser, Look, LookKind, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeNetwork:
    """A member of the space, as a build needs it."""

    encoding: str
    chain: Chain


_FEWEST_COPIES = 2


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
        params_of: A block's parameters; None where nobody knows. Copies have no more of them than
            the base: a network that is all weights waits for its memory as no member does.

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
        params_of: Callable[[BlockKey], float] | None = None,
    ) -> None:
        self.chooser = chooser
        self._params_of = params_of or (lambda _: 0.0)
        self.base = members.base
        self._base_params = sum(self._params_of(one) for one in self.base.chain)
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
        # Without stem and head no network has a time: a build that ends early must have them.
        entries = sorted(self.entries, key=lambda look: not (look.block and look.block.is_end))
        mixed = spread(entries[:most], [*self._network_looks(), *again])
        return [*first, *mixed, *entries[most:]]

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
        closer: Look | None = look
        if look.block.is_stackable:
            closer = self._stacked(look.block, better_copies(look.copies, time_over_rest))
        assert closer is not None  # noqa: S101 - the first look had a place as well
        ratio = max(1e-3, 1 + closer.copies * time_over_rest)
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
            return self._stacked(block, max(_FEWEST_COPIES, len(self.base.chain) - 2))
        way = self._ways.to(block)
        if way is None:
            return None
        if block.kind == HEAD:
            return _entry_look(block, (*way, block), closed(way, block))
        head = self.base.chain[-1]
        return _entry_look(block, closed((*way, block), head), closed(way, head))

    def _stacked(self, block: BlockKey, copies: int) -> Look | None:
        copies = min(copies, self._most_copies(block))
        chain = insert(self.base.chain, block, copies)
        if chain is not None:
            return _entry_look(block, chain, self.base.chain, copies=copies)
        way = self._ways.to(block)
        if way is None:
            return None
        head = self.base.chain[-1]
        longer = closed((*way, *((block,) * copies)), head)
        return _entry_look(block, longer, closed(way, head), copies=copies)

    def _most_copies(self, block: BlockKey) -> int:
        params = self._params_of(block)
        if params <= 0:
            return MOST_COPIES
        return max(_FEWEST_COPIES, min(MOST_COPIES, int(self._base_params / params)))

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
