"""SPOS networks as chains of blocks, and chains that are no member as networks."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from boardfront.latency_models.blocks import HEAD, STEM, BlockKey, Decomposition
from boardfront.protos.errors import WrongInputError
from boardfront.search.space import InvalidEncodingError
from boardfront.search.spaces.chain import check_chain, check_stride
from boardfront.search.spaces.conv import count_layers
from boardfront.search.spaces.spos.counting import count_head
from boardfront.search.spaces.spos.encoding import CHOICES, parse_choices
from boardfront.search.spaces.spos.plan import (
    BlockPlace,
    NetworkPlan,
    block_places,
    plan_block,
    plan_head,
    plan_stem,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from boardfront.search.space import Counts
    from boardfront.search.spaces.conv import ConvPlan
    from boardfront.search.spaces.spos.plan import BlockPlan
    from boardfront.search.spaces.spos.settings import SposSettings


def decompose(encoding: str, settings: SposSettings) -> Decomposition:
    """Return a member's stem, blocks and head.

    Raises:
        InvalidEncodingError: `encoding` is no member of the space.
    """
    choices = parse_choices(encoding, settings.repeats)
    stem, *places, head = _choices_by_place(settings)
    blocks = (place[choice] for choice, place in zip(choices, places, strict=True))
    return Decomposition(blocks=(stem[STEM], *blocks, head[HEAD]))


def list_block_kinds(settings: SposSettings) -> tuple[BlockKey, ...]:
    """List the stem, every choice at every place, and the head; equal places count once."""
    keys = (key for place in _choices_by_place(settings) for key in place.values())
    return tuple(dict.fromkeys(keys))


def plan_chain(chain: Sequence[BlockKey], settings: SposSettings) -> NetworkPlan:
    """Lay out a chain, of whatever length.

    Between stem and head, blocks of stride 1 keep their even channels, and blocks of stride 2
    add to them; which places the members have does not matter.

    Args:
        chain: The space's stem, blocks, a head.
        settings: Size of the space.

    Raises:
        InvalidEncodingError: A block's kind is no choice.
        WrongInputError: A block does not fit the one before, or has a shape that no block has.
    """
    blocks = check_chain(chain, stems=[_stem(settings)], classes=settings.classes)
    return NetworkPlan(
        resolution=settings.resolution,
        stem=plan_stem(settings),
        blocks=tuple(_plan_block(block) for block in blocks),
        head=_plan_head(chain[-1], settings),
        classes=settings.classes,
    )


def count_block(block: BlockKey, settings: SposSettings) -> Counts:
    """Count one block, stem or head for one image.

    Raises:
        InvalidEncodingError: The block's kind is no choice.
        WrongInputError: The block has a shape that no block has.
    """
    if block.kind == STEM:
        return count_layers([(plan_stem(settings), block.resolution)])
    if block.kind == HEAD:
        return count_head(_plan_head(block, settings), block.resolution, block.out_channels)
    return count_layers(_plan_block(block).convolutions(block.resolution))


@lru_cache(maxsize=16)
def _choices_by_place(settings: SposSettings) -> tuple[Mapping[str, BlockKey], ...]:
    """List the stem, each place and the head; kind -> block in each of them."""
    return tuple(
        {kind: replace(place, kind=kind) for kind in CHOICES}
        if place.kind in CHOICES
        else {place.kind: place}
        for place in _chain_of_places(settings)
    )


def _chain_of_places(settings: SposSettings) -> Iterator[BlockKey]:
    """Yield stem, places and head; a place's kind is the first choice."""
    before = _stem(settings)
    yield before
    for place in block_places(settings):
        before = BlockKey(
            kind=CHOICES[0],
            in_channels=place.inputs,
            out_channels=place.outputs,
            stride=place.stride,
            resolution=before.out_resolution,
        )
        yield before
    yield BlockKey(
        kind=HEAD,
        in_channels=before.out_channels,
        out_channels=settings.classes,
        stride=1,
        resolution=before.out_resolution,
    )


def _stem(settings: SposSettings) -> BlockKey:
    return BlockKey(
        kind=STEM,
        in_channels=settings.in_channels,
        out_channels=settings.stem_channels,
        stride=settings.stem_stride,
        resolution=settings.resolution,
    )


def _plan_head(head: BlockKey, settings: SposSettings) -> ConvPlan:
    return replace(plan_head(settings), inputs=head.in_channels)


def _plan_block(block: BlockKey) -> BlockPlan:
    if block.kind not in tuple(CHOICES):
        rule = f"expected a block, one of {', '.join(CHOICES)}, got {block.text}"
        raise InvalidEncodingError(block.kind, 0, rule)
    check_stride(block)
    inputs, outputs = block.in_channels, block.out_channels
    if outputs % 2 or (inputs != outputs if block.stride == 1 else inputs >= outputs):
        many = "as many channels out as in" if block.stride == 1 else "more channels out than in"
        raise WrongInputError(f"expected {many}, an even number, got {block.text}: correct it")
    return plan_block(block.kind, BlockPlace(inputs=inputs, outputs=outputs, stride=block.stride))
