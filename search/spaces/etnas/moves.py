"""Small steps between ET-NAS architectures, and children of two."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from boardfront.search.spaces.etnas.block import (
    MOST_OPERATORS,
    MOST_SKIPS,
    OPERATORS,
    RATIOS,
    Block,
    parse_block,
    possible_skips,
)
from boardfront.search.spaces.etnas.encoding import Architecture
from boardfront.search.spaces.etnas.members import sample_architecture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    from boardfront.search.spaces.etnas.settings import EtnasSettings

    Move = Callable[[Architecture, EtnasSettings], Iterator[Architecture]]


def mutate_architecture(
    architecture: Architecture, settings: EtnasSettings, rng: np.random.Generator
) -> Architecture:
    """Take one step: draw its kind from those that lead somewhere, then one step of that kind.

    The kinds are: replace an operator; change a ratio; add, remove or replace a skip; add or
    remove the last operator; add or remove a 1; swap two different neighbouring digits, across
    the end of a stage too; change the channels after the stem. Where the settings list the
    blocks, taking another of them stands in place of the steps inside a block; where no step
    leads anywhere then, any other member is drawn.

    Source: NASOA, sections B.2.2 and B.3. Deviation: it has no step that changes the number of
        operators, without which no step leads from one block length to another.
    """
    moves = (_other_listed, *MACRO_MOVES) if settings.blocks else (*BLOCK_MOVES, *MACRO_MOVES)
    steps = [[*move(architecture, settings)] for move in moves]
    kinds = [found for found in steps if found]
    if not kinds:
        return _redrawn(architecture, settings, rng)
    kind = kinds[rng.integers(len(kinds))]
    return kind[rng.integers(len(kind))]


def cross_architectures(
    first: Architecture,
    second: Architecture,
    settings: EtnasSettings,
    rng: np.random.Generator,
) -> Architecture:
    """Take the block, the channels and each stage from one of the two parents.

    Combinations of channels and stages come in random order until one keeps to the limits;
    those that take all from one parent do.

    Deviation: NASOA has no crossover.
    """
    block = (first, second)[rng.integers(2)].block
    parts = len(first.stages) + 1
    for choice in rng.permutation(2**parts):
        from_first, *of_stages = (choice >> part & 1 for part in range(parts))
        stages = zip(first.stages, second.stages, of_stages, strict=True)
        child = Architecture(
            block=block,
            channels=first.channels if from_first else second.channels,
            stages=tuple(a if taken else b for a, b, taken in stages),
        )
        if keeps_limits(child, settings):
            return child
    raise AssertionError("expected members as parents")


def keeps_limits(architecture: Architecture, settings: EtnasSettings) -> bool:
    """Say whether number of blocks and channels are within the space."""
    return (
        all(architecture.stages)
        and settings.min_blocks <= len(architecture.multiples) <= settings.max_blocks
        and architecture.channels in settings.channels
        and architecture.last_channels in settings.last_channels
    )


def _redrawn(
    architecture: Architecture, settings: EtnasSettings, rng: np.random.Generator
) -> Architecture:
    drawn = architecture
    while drawn == architecture:
        drawn = sample_architecture(settings, rng)
    return drawn


def _other_listed(architecture: Architecture, settings: EtnasSettings) -> Iterator[Architecture]:
    for listed in settings.blocks:
        changed = replace(architecture, block=parse_block(listed))
        if changed != architecture:
            yield changed


def _other_operator(architecture: Architecture, _: EtnasSettings) -> Iterator[Architecture]:
    block = architecture.block
    for operators in _one_changed(block.operators, OPERATORS):
        yield replace(architecture, block=replace(block, operators=operators))


def _other_ratio(architecture: Architecture, _: EtnasSettings) -> Iterator[Architecture]:
    block = architecture.block
    for ratios in _one_changed(block.ratios, "".join(RATIOS)):
        yield replace(architecture, block=replace(block, ratios=ratios))


def _other_skip(architecture: Architecture, _: EtnasSettings) -> Iterator[Architecture]:
    block = architecture.block
    absent = sorted(set(possible_skips(len(block.operators))) - set(block.skips))
    fewer = [tuple(s for s in block.skips if s != removed) for removed in block.skips]
    bases = [block.skips, *fewer] if len(block.skips) < MOST_SKIPS else fewer
    more = [tuple(sorted((*base, added))) for base in bases for added in absent]
    for skips in (*fewer, *more):
        yield replace(architecture, block=replace(block, skips=skips))


def _other_length(architecture: Architecture, _: EtnasSettings) -> Iterator[Architecture]:
    block = architecture.block
    length = len(block.operators)
    if length < MOST_OPERATORS:
        for operator in OPERATORS:
            for ratio in RATIOS:
                longer = replace(
                    block, operators=block.operators + operator, ratios=block.ratios + ratio
                )
                yield replace(architecture, block=longer)
    if length > 1:
        shorter = Block(
            operators=block.operators[:-1],
            ratios=block.ratios[:-1],
            skips=tuple(skip for skip in block.skips if int(skip[2]) < length),
        )
        yield replace(architecture, block=shorter)


def _other_ones(architecture: Architecture, settings: EtnasSettings) -> Iterator[Architecture]:
    found: dict[tuple[str, ...], None] = {}
    for number, stage in enumerate(architecture.stages):
        added = [f"{stage[:place]}1{stage[place:]}" for place in range(len(stage) + 1)]
        places = [place for place, digit in enumerate(stage) if digit == "1"]
        removed = [stage[:place] + stage[place + 1 :] for place in places]
        for changed in (*added, *removed):
            stages = list(architecture.stages)
            stages[number] = changed
            found[tuple(stages)] = None
    yield from _members(architecture, found, settings)


def _swapped(architecture: Architecture, settings: EtnasSettings) -> Iterator[Architecture]:
    found: dict[tuple[str, ...], None] = {}
    macro = "-".join(architecture.stages)
    places = [place for place, character in enumerate(macro) if character != "-"]
    for left, right in pairwise(places):
        digits = list(macro)
        digits[left], digits[right] = digits[right], digits[left]
        if macro[left] != macro[right]:
            found[tuple("".join(digits).split("-"))] = None
    yield from _members(architecture, found, settings)


def _other_channels(architecture: Architecture, settings: EtnasSettings) -> Iterator[Architecture]:
    for channels in settings.channels:
        changed = replace(architecture, channels=channels)
        if changed != architecture and keeps_limits(changed, settings):
            yield changed


def _members(
    architecture: Architecture, found: dict[tuple[str, ...], None], settings: EtnasSettings
) -> Iterator[Architecture]:
    for stages in found:
        changed = replace(architecture, stages=stages)
        if keeps_limits(changed, settings):
            yield changed


def _one_changed(digits: str, allowed: str) -> Iterator[str]:
    for place, digit in enumerate(digits):
        for other in allowed.replace(digit, ""):
            yield digits[:place] + other + digits[place + 1 :]


BLOCK_MOVES: tuple[Move, ...] = (_other_operator, _other_ratio, _other_skip, _other_length)
MACRO_MOVES: tuple[Move, ...] = (_other_ones, _swapped, _other_channels)
