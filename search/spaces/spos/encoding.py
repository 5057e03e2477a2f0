"""The written form of a SPOS architecture, and moves between architectures.

One character a block, stages separated by a dash: `3357-x7x3-33573x57-5xx3`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.search.space import InvalidEncodingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

CHOICES = "357x"


def format_choices(choices: str, repeats: Sequence[int]) -> str:
    """Write one character a block as an encoding.

    Args:
        choices: One of `CHOICES` for each block, in order, without dashes.
        repeats: Number of blocks of each stage.
    """
    stages = []
    start = 0
    for repeat in repeats:
        stages.append(choices[start : start + repeat])
        start += repeat
    return "-".join(stages)


def parse_choices(encoding: str, repeats: Sequence[int]) -> str:
    """Return one character a block, without dashes.

    Args:
        encoding: As a person wrote it.
        repeats: Number of blocks of each stage.

    Raises:
        InvalidEncodingError: At the first position that breaks a rule.
    """
    stages = encoding.split("-")
    position = 0
    for index, stage in enumerate(stages):
        if index == len(repeats):
            rule = f"expected {len(repeats)} stages separated by '-', got {len(stages)}"
            raise InvalidEncodingError(encoding, position - 1, rule)
        _check_stage(encoding, stage, position=position, number=index + 1, repeat=repeats[index])
        position += len(stage) + 1
    if len(stages) < len(repeats):
        rule = f"expected {len(repeats)} stages separated by '-', got {len(stages)}"
        raise InvalidEncodingError(encoding, len(encoding), rule)
    return "".join(stages)


def sample_choices(blocks: int, rng: np.random.Generator) -> str:
    """Draw each block's choice uniformly and independently."""
    return "".join(CHOICES[draw] for draw in rng.integers(len(CHOICES), size=blocks))


def mutate_choices(choices: str, rng: np.random.Generator) -> str:
    """Give one block, drawn uniformly, one of its three other choices.

    Deviation from SPOS: Guo et al. redraw every block with probability 0.1, which may change
    nothing or much; one step that always changes something is what `Space.mutate` promises.
    """
    block = int(rng.integers(len(choices)))
    others = CHOICES.replace(choices[block], "")
    return choices[:block] + others[rng.integers(len(others))] + choices[block + 1 :]


def cross_choices(first: str, second: str, rng: np.random.Generator) -> str:
    """Take each block from one of the two parents, with equal chance.

    Source: Guo et al. 2020, "Single Path One-Shot", section 3.4.
    """
    draws = rng.integers(2, size=len(first))
    return "".join(b if draw else a for a, b, draw in zip(first, second, draws, strict=True))


def _check_stage(encoding: str, stage: str, *, position: int, number: int, repeat: int) -> None:
    for offset, character in enumerate(stage[:repeat]):
        if character not in CHOICES:
            rule = f"expected one of {', '.join(CHOICES)}, got {character!r}"
            raise InvalidEncodingError(encoding, position + offset, rule)
    if len(stage) != repeat:
        rule = f"expected {repeat} blocks in stage {number}, got {len(stage)}"
        raise InvalidEncodingError(encoding, position + min(len(stage), repeat), rule)
