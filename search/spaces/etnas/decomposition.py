"""ET-NAS networks as chains of blocks, and chains that are no member as networks."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from boardfront.latency_models.blocks import HEAD, STEM, BlockKey, Decomposition
from boardfront.protos.errors import WrongInputError
from boardfront.search.spaces.chain import check_chain, check_stride
from boardfront.search.spaces.conv import count_layers
from boardfront.search.spaces.etnas.block import count_blocks, format_block, parse_block
from boardfront.search.spaces.etnas.counting import count_block as count_planned
from boardfront.search.spaces.etnas.counting import count_classifier
from boardfront.search.spaces.etnas.encoding import decode
from boardfront.search.spaces.etnas.places import find_places
from boardfront.search.spaces.etnas.plan import (
    BlockPlace,
    NetworkPlan,
    block_places,
    plan_block,
    plan_stem,
)
from boardfront.search.spaces.etnas.settings import CHANNEL_STEP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.search.space import Counts
    from boardfront.search.spaces.etnas.plan import BlockPlan
    from boardfront.search.spaces.etnas.settings import EtnasSettings

MOST_KINDS = 10_000
"""More distinct blocks than this are not listed: at a second each, hours of measuring."""


def decompose(encoding: str, settings: EtnasSettings) -> Decomposition:
    """Return a member's stem, blocks and head.

    Raises:
        InvalidEncodingError: `encoding` is no member of the space.
    """
    architecture = decode(encoding, settings)
    kind = format_block(architecture.block)
    places = tuple(block_places(architecture, settings))
    stem = _stem(architecture.channels, settings)
    head = _head(places[-1].outputs, places[-1].output_resolution, settings)
    return Decomposition(blocks=(stem, *(_key(kind, place) for place in places), head))


def list_block_kinds(settings: EtnasSettings) -> tuple[BlockKey, ...] | None:
    """List stems, every block at every place that a member has, and heads.

    Returns:
        None where there are over `MOST_KINDS`, as there are unless the settings list the blocks.
    """
    places = find_places(settings)
    if (len(settings.blocks) or count_blocks()) * len(places.blocks) > MOST_KINDS:
        return None
    return (
        *(_stem(channels, settings) for channels in places.stems),
        *(_key(block, place) for block in settings.blocks for place in places.blocks),
        *(_head(channels, places.last_resolution, settings) for channels in places.heads),
    )


def plan_chain(chain: Sequence[BlockKey], settings: EtnasSettings) -> NetworkPlan:
    """Lay out a chain, of whatever length, of any blocks one after the other.

    Channels are multiples of 16, as in members; where strides stand and by how much channels
    grow does not matter, nor do the blocks, numbers of blocks and last channels of the settings.

    Args:
        chain: A stem of the space, blocks, a head.
        settings: Limits of the space.

    Raises:
        InvalidEncodingError: A block's kind is no block.
        WrongInputError: A block does not fit the one before, or has a shape that no block has.
    """
    stems = [_stem(channels, settings) for channels in settings.channels]
    blocks = check_chain(chain, stems=stems, classes=settings.classes)
    return NetworkPlan(
        resolution=settings.resolution,
        stem=plan_stem(chain[0].out_channels, settings),
        blocks=tuple(_plan_block(block) for block in blocks),
        classes=settings.classes,
    )


def count_block(block: BlockKey, settings: EtnasSettings) -> Counts:
    """Count one block, stem or head for one image.

    Raises:
        InvalidEncodingError: The block's kind is no block.
        WrongInputError: The block has a shape that no block has.
    """
    if block.kind == STEM:
        stem = plan_stem(block.out_channels, settings)
        return count_layers(stem.convolutions(block.resolution))
    if block.kind == HEAD:
        return count_classifier(block.in_channels, block.out_channels)
    return count_planned(_plan_block(block))


def _plan_block(key: BlockKey) -> BlockPlan:
    block = parse_block(key.kind)
    check_stride(key)
    if key.in_channels % CHANNEL_STEP or key.out_channels % CHANNEL_STEP:
        raise WrongInputError(
            f"expected a block with multiples of {CHANNEL_STEP} channels, got {key.text}: "
            "correct it"
        )
    place = BlockPlace(
        inputs=key.in_channels,
        outputs=key.out_channels,
        stride=key.stride,
        resolution=key.resolution,
    )
    return plan_block(block, place)


@lru_cache(maxsize=1 << 16)
def _key(kind: str, place: BlockPlace) -> BlockKey:
    return BlockKey(
        kind=kind,
        in_channels=place.inputs,
        out_channels=place.outputs,
        stride=place.stride,
        resolution=place.resolution,
    )


def _stem(channels: int, settings: EtnasSettings) -> BlockKey:
    return BlockKey(
        kind=STEM,
        in_channels=settings.in_channels,
        out_channels=channels,
        stride=4,
        resolution=settings.resolution,
    )


def _head(channels: int, resolution: int, settings: EtnasSettings) -> BlockKey:
    return BlockKey(
        kind=HEAD,
        in_channels=channels,
        out_channels=settings.classes,
        stride=1,
        resolution=resolution,
    )
