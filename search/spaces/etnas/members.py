"""How many architectures an ET-NAS space has, and drawing one of them uniformly.

Blocks and macros are independent. Macros are counted by shape: channels after the stem, channels
after the last block, number of blocks; within one, the cuts into stages and the rows of digits
are independent too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import TYPE_CHECKING

from boardfront.search.spaces.etnas.block import (
    MOST_OPERATORS,
    MOST_SKIPS,
    OPERATORS,
    RATIOS,
    Block,
    count_blocks,
    count_blocks_of,
    parse_block,
    possible_skips,
)
from boardfront.search.spaces.etnas.encoding import MULTIPLES, Architecture
from boardfront.search.spaces.etnas.settings import STAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from boardfront.search.spaces.etnas.settings import EtnasSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    channels: int
    multiple: int
    blocks: int

    @property
    def members(self) -> int:
        return comb(self.blocks - 1, STAGES - 1) * sum(_rows_by_raised(self))


def count_members(settings: EtnasSettings) -> int:
    """Count the architectures."""
    return (len(settings.blocks) or count_blocks()) * sum(_weights(settings))


def sample_architecture(settings: EtnasSettings, rng: np.random.Generator) -> Architecture:
    """Draw an architecture uniformly from all members.

    Deviation from NASOA: its macro phase draws the number of blocks, the first and the last
    channels each uniformly; `Space.sample` promises members of equal chance, of which there are
    more the more blocks there are.
    """
    shape = _shapes(settings)[_draw(_weights(settings), rng)]
    row = _sample_row(shape, rng)
    cuts = sorted(1 + rng.choice(shape.blocks - 1, STAGES - 1, replace=False))
    ends = [*cuts, shape.blocks]
    starts = [0, *cuts]
    return Architecture(
        block=_sample_listed(settings, rng) if settings.blocks else sample_block(rng),
        channels=shape.channels,
        stages=tuple(row[start:end] for start, end in zip(starts, ends, strict=True)),
    )


def sample_block(rng: np.random.Generator) -> Block:
    """Draw a block uniformly from all of them."""
    lengths = range(1, MOST_OPERATORS + 1)
    operators = lengths[_draw([count_blocks_of(length) for length in lengths], rng)]
    skips = possible_skips(operators)
    taken = _draw([comb(len(skips), number) for number in range(MOST_SKIPS + 1)], rng)
    chosen = sorted(rng.choice(len(skips), taken, replace=False))
    return Block(
        operators=_sample_digits(OPERATORS, operators, rng),
        ratios=_sample_digits("".join(RATIOS), operators - 1, rng),
        skips=tuple(skips[index] for index in chosen),
    )


def _sample_listed(settings: EtnasSettings, rng: np.random.Generator) -> Block:
    return parse_block(settings.blocks[rng.integers(len(settings.blocks))])


def _sample_digits(digits: str, length: int, rng: np.random.Generator) -> str:
    return "".join(digits[draw] for draw in rng.integers(len(digits), size=length))


@lru_cache(maxsize=16)
def _shapes(settings: EtnasSettings) -> tuple[_Shape, ...]:
    return tuple(
        _Shape(channels=channels, multiple=last // channels, blocks=blocks)
        for channels in settings.channels
        for last in settings.last_channels
        if last % channels == 0
        for blocks in range(settings.min_blocks, settings.max_blocks + 1)
    )


@lru_cache(maxsize=16)
def _weights(settings: EtnasSettings) -> tuple[int, ...]:
    return tuple(shape.members for shape in _shapes(settings))


def _sample_row(shape: _Shape, rng: np.random.Generator) -> str:
    """Draw one digit a block, uniformly from the rows of the shape."""
    raised = _draw(_rows_by_raised(shape), rng)
    row = ["1"] * shape.blocks
    multiple = shape.multiple
    places = sorted(rng.choice(shape.blocks, raised, replace=False))
    for left, place in zip(range(raised - 1, -1, -1), places, strict=True):
        factors = [factor for factor in _FACTORS if multiple % factor == 0]
        weights = [_factorings(multiple // factor, left) for factor in factors]
        factor = factors[_draw(weights, rng)]
        row[place] = str(factor)
        multiple //= factor
    return "".join(row)


_FACTORS = tuple(int(digit) for digit in MULTIPLES if digit != "1")


def _rows_by_raised(shape: _Shape) -> list[int]:
    """Count the rows of digits by how many of them are no 1."""
    most = min(shape.blocks, shape.multiple.bit_length() - 1)
    return [
        comb(shape.blocks, raised) * _factorings(shape.multiple, raised)
        for raised in range(most + 1)
    ]


@lru_cache(maxsize=4096)
def _factorings(multiple: int, factors: int) -> int:
    """Count the ordered ways to write a number as a product of so many digits from 2 to 9."""
    if factors == 0:
        return int(multiple == 1)
    return sum(
        _factorings(multiple // factor, factors - 1)
        for factor in _FACTORS
        if multiple % factor == 0
    )


def _draw(weights: Sequence[int], rng: np.random.Generator) -> int:
    """Draw an index with exactly these odds, however large the numbers."""
    total = sum(weights)
    bits = total.bit_length()
    value = total
    while value >= total:
        value = int.from_bytes(rng.bytes((bits + 7) // 8), "little") >> (-bits % 8)
    for index, weight in enumerate(weights):
        if value < weight:
            return index
        value -= weight
    raise AssertionError("the value is below the sum of the weights")
