"""What every chain of blocks keeps to, whatever the space."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from boardfront.latency_models.blocks import HEAD, STEM
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.latency_models.blocks import BlockKey

STRIDES = (1, 2)


def check_chain(
    chain: Sequence[BlockKey], *, stems: Sequence[BlockKey], classes: int
) -> tuple[BlockKey, ...]:
    """Check that a chain runs from a stem to a head and that each block fits the one before.

    Args:
        chain: The stem, blocks, the head.
        stems: Those of the space.
        classes: Outputs of the head.

    Returns:
        The blocks between stem and head; there may be none.

    Raises:
        WrongInputError: The chain breaks one of these rules; the message names the block.
    """
    if len(chain) < 2 or chain[0].kind != STEM or chain[-1].kind != HEAD:
        ends = ", ".join(block.text for block in chain) if len(chain) < 3 else _ends(chain)
        raise WrongInputError(
            f"expected a chain from a stem to a head, got {ends or 'no block'}: "
            "begin with the decomposition of a member"
        )
    if chain[0] not in stems:
        allowed = " or ".join(stem.text for stem in stems)
        raise _error(chain[0], 0, f"expected the space's stem {allowed}")
    for index, (before, block) in enumerate(pairwise(chain), start=1):
        _check_follows(before, block, index)
    blocks = tuple(chain[1:-1])
    for index, block in enumerate(blocks, start=1):
        if block.kind in {STEM, HEAD}:
            raise _error(block, index, "expected a block between stem and head")
    if (chain[-1].out_channels, chain[-1].stride) != (classes, 1):
        raise _error(chain[-1], len(chain) - 1, f"expected {classes} outputs and stride 1")
    return blocks


def check_stride(block: BlockKey) -> None:
    """Raise WrongInputError unless a block's stride is one that blocks have."""
    if block.stride not in STRIDES:
        raise WrongInputError(f"expected a block of stride 1 or 2, got {block.text}: correct it")


def _check_follows(before: BlockKey, block: BlockKey, index: int) -> None:
    comes = before.out_channels, before.out_resolution
    if (block.in_channels, block.resolution) != comes:
        rule = f"expected {comes[0]} channels in and resolution {comes[1]} after {before.text}"
        raise _error(block, index, rule)


def _error(block: BlockKey, index: int, rule: str) -> WrongInputError:
    return WrongInputError(
        f"{rule} at place {index} of the chain (the stem has 0), got {block.text}: "
        "begin with the decomposition of a member"
    )


def _ends(chain: Sequence[BlockKey]) -> str:
    return f"one from {chain[0].text} to {chain[-1].text}"
