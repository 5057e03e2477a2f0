"""The written form of an ET-NAS architecture: BLOCK_CHANNEL_MACRO.

`02031-a02_64_111-2111-21111-211`: the block that every place takes, the channels after the stem,
and four stages with one digit a block. See docs/spaces.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product
from math import comb, prod
from typing import TYPE_CHECKING

from boardfront.search.space import InvalidEncodingError
from boardfront.search.spaces.etnas.settings import STAGES

if TYPE_CHECKING:
    from boardfront.search.spaces.etnas.settings import EtnasSettings

OPERATORS = "01234"
RATIOS: dict[str, Fraction] = {
    "0": Fraction(1, 4),
    "1": Fraction(1, 2),
    "2": Fraction(1),
    "3": Fraction(2),
    "4": Fraction(4),
}
KINDS = "ac"
MULTIPLES = "123456789"
MOST_OPERATORS = 3
MOST_SKIPS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """What every block of a network does.

    Args:
        operators: One of `OPERATORS` for each of one to three operators.
        ratios: One of `RATIOS` for each operator but the last, which has the block's channels.
        skips: At most three different skips in ascending order, such as "a02" or "c12": a letter
            ("a" adds, "c" concatenates), the node it comes from, the node it goes into.
    """

    operators: str
    ratios: str
    skips: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """A decoded encoding.

    Args:
        block: What every block does.
        channels: After the stem.
        stages: For each of the four stages one digit a block: output by input channels.
    """

    block: Block
    channels: int
    stages: tuple[str, ...]

    @property
    def multiples(self) -> tuple[int, ...]:
        """Output by input channels of every block in order."""
        return tuple(int(digit) for stage in self.stages for digit in stage)

    @property
    def last_channels(self) -> int:
        """Output channels of the last block."""
        return self.channels * prod(self.multiples)


def format_block(block: Block) -> str:
    """Write a block as OPS-SKIPS."""
    inner = "".join(a + b for a, b in zip(block.operators, block.ratios, strict=False))
    return f"{inner}{block.operators[-1]}-{''.join(block.skips)}"


def encode(architecture: Architecture) -> str:
    """Write an architecture as BLOCK_CHANNEL_MACRO."""
    macro = "-".join(architecture.stages)
    return f"{format_block(architecture.block)}_{architecture.channels}_{macro}"


def decode(encoding: str, settings: EtnasSettings) -> Architecture:
    """Read BLOCK_CHANNEL_MACRO.

    Args:
        encoding: As a person wrote it.
        settings: Limits of the space.

    Raises:
        InvalidEncodingError: At the first position that breaks a rule.
    """
    reader = _Reader(encoding)
    block = _read_block(reader)
    reader.expect("_", "after the block")
    channels = _read_channels(reader, settings)
    reader.expect("_", "after the channels")
    stages = _read_macro(reader, channels, settings)
    return Architecture(block=block, channels=channels, stages=stages)


def possible_skips(operators: int) -> tuple[str, ...]:
    """List every skip that a block of so many operators may have, in ascending order."""
    pairs = combinations(range(operators + 1), 2)
    return tuple(sorted(f"{kind}{i}{j}" for kind, (i, j) in product(KINDS, pairs)))


def count_blocks() -> int:
    """Count the different blocks.

    These are 939,645. The paper's 5.4 million are 5^3 operators, 5^2 ratios and 12^3 skips of
    blocks with three operators: every order of every three skips, repeated ones included, counts
    there, and blocks with fewer operators or skips do not.
    """
    return sum(count_blocks_of(operators) for operators in range(1, MOST_OPERATORS + 1))


def count_blocks_of(operators: int) -> int:
    """Count the different blocks of so many operators."""
    kinds = len(possible_skips(operators))
    skips = sum(comb(kinds, taken) for taken in range(MOST_SKIPS + 1))
    return int(len(OPERATORS) ** operators * len(RATIOS) ** (operators - 1) * skips)


class _Reader:
    """A place in an encoding."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.position = 0

    @property
    def here(self) -> str:
        """The next character; empty at the end."""
        return self.encoding[self.position : self.position + 1]

    def take(self, allowed: str, what: str) -> str:
        if not self.here or self.here not in allowed:
            raise self.error(f"expected {what}, got {self.got}")
        self.position += 1
        return self.encoding[self.position - 1]

    def expect(self, character: str, where: str) -> None:
        self.take(character, f"{character!r} {where}")

    @property
    def got(self) -> str:
        return repr(self.here) if self.here else "the end"

    def error(self, rule: str, *, at: int | None = None) -> InvalidEncodingError:
        return InvalidEncodingError(self.encoding, self.position if at is None else at, rule)


def _read_block(reader: _Reader) -> Block:
    a_kind = f"an operator, one of {', '.join(OPERATORS)}"
    operators = reader.take(OPERATORS, a_kind)
    ratios = ""
    while len(operators) < MOST_OPERATORS and reader.here != "-":
        ratios += reader.take(
            "".join(RATIOS), f"a ratio, one of {', '.join(RATIOS)}, or '-' after the operators"
        )
        operators += reader.take(OPERATORS, f"{a_kind}, after the ratio")
    reader.expect("-", f"after the operators, of which there are at most {MOST_OPERATORS}")
    skips: list[str] = []
    while reader.here != "_":
        if len(skips) == MOST_SKIPS:
            raise reader.error(f"expected '_' after {MOST_SKIPS} skips, got {reader.got}")
        skips.append(_read_skip(reader, len(operators), before=skips[-1] if skips else ""))
    return Block(operators=operators, ratios=ratios, skips=tuple(skips))


def _read_skip(reader: _Reader, operators: int, *, before: str) -> str:
    start = reader.position
    kind = reader.take(KINDS, "a skip, 'a' or 'c' and two nodes, or '_' after the block")
    froms = "".join(str(node) for node in range(operators))
    source = reader.take(froms, f"a node that a skip comes from, one of {', '.join(froms)}")
    intos = "".join(str(node) for node in range(int(source) + 1, operators + 1))
    target = reader.take(
        intos, f"a node behind node {source} that the skip goes into, one of {', '.join(intos)}"
    )
    skip = kind + source + target
    if skip <= before:
        raise reader.error(
            f"expected different skips in ascending order, got {skip} after {before}", at=start
        )
    return skip


def _read_channels(reader: _Reader, settings: EtnasSettings) -> int:
    rest = reader.encoding[reader.position :]
    text = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if text not in {str(channels) for channels in settings.channels}:
        allowed = ", ".join(str(channels) for channels in settings.channels)
        got = repr(text) if text else reader.got
        raise reader.error(f"expected the channels after the stem, one of {allowed}, got {got}")
    reader.position += len(text)
    return int(text)


def _read_macro(reader: _Reader, channels: int, settings: EtnasSettings) -> tuple[str, ...]:
    stages = []
    blocks = 0
    for number in range(1, STAGES + 1):
        if number > 1:
            reader.expect("-", f"and stage {number} of {STAGES}, or a multiple from 1 to 9")
        start = reader.position
        what = f"a multiple from 1 to 9, the first block of stage {number}"
        channels *= _read_multiple(reader, channels, settings, what)
        while reader.here and reader.here != "-":
            behind = "'-'" if number < STAGES else "the end"
            what = f"a multiple from 1 to 9 or {behind} in stage {number}"
            channels *= _read_multiple(reader, channels, settings, what)
        stages.append(reader.encoding[start : reader.position])
        blocks += len(stages[-1])
        if blocks > settings.max_blocks:
            at = reader.position - (blocks - settings.max_blocks)
            raise reader.error(f"expected at most {settings.max_blocks} blocks", at=at)
    if reader.here:
        raise reader.error(f"expected {STAGES} stages, got {reader.got} after them")
    if blocks < settings.min_blocks:
        raise reader.error(f"expected at least {settings.min_blocks} blocks, got {blocks}")
    if channels not in settings.last_channels:
        raise reader.error(f"{_last_rule(settings)}, got {channels}")
    return tuple(stages)


def _read_multiple(reader: _Reader, channels: int, settings: EtnasSettings, what: str) -> int:
    multiple = int(reader.take(MULTIPLES, what))
    after = channels * multiple
    if all(last % after for last in settings.last_channels):
        raise reader.error(
            f"{_last_rule(settings)}; {channels} x {multiple} leads to none of them",
            at=reader.position - 1,
        )
    return multiple


def _last_rule(settings: EtnasSettings) -> str:
    allowed = ", ".join(str(channels) for channels in settings.last_channels)
    return f"expected the last block to have one of {allowed} channels"
