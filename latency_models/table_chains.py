"""The networks that a block is measured in: chains of blocks, pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

from boardfront.latency_models.blocks import BlockKey

if TYPE_CHECKING:
    from collections.abc import Iterable

Chain: TypeAlias = tuple[BlockKey, ...]
"""Blocks one after the other, the stem first, a head last. The empty chain is a call without any
block."""

CALL: Chain = ()

_THIN_CHANNELS = 8
"""Of the head that closes a chain which is not a whole network: it shall cost next to nothing."""

MOST_COPIES = 64
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
    if time_over_rest <= 1 / MOST_COPIES:
        return MOST_COPIES
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
