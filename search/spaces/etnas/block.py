"""A block of ET-NAS and its written form, OPS-SKIPS: `02031-a02`. See docs/spaces.md."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product
from math import comb

from boardfront.search.spaces.etnas.reader import Reader

OPERATORS = "01234"
RATIOS: dict[str, Fraction] = {
    "0": Fraction(1, 4),
    "1": Fraction(1, 2),
    "2": Fraction(1),
    "3": Fraction(2),
    "4": Fraction(4),
}
KINDS = "ac"
MOST_OPERATORS = 3
MOST_SKIPS = 3

COMMON_BLOCKS = (
    "2-",
    "011-",
    "020-",
    "031-",
    "211-",
    "10001-",
    "11011-",
    "02031-a02",
    "23311-a02c12",
)
"""Blocks of the published models, ResNet-18 and -34 (020-) and Wide ResNet-50 (11011-).

Source: NASOA (2020), Table 10; ResNet-50 has the published 10001- too.
"""


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


def format_block(block: Block) -> str:
    """Write a block as OPS-SKIPS."""
    inner = "".join(a + b for a, b in zip(block.operators, block.ratios, strict=False))
    return f"{inner}{block.operators[-1]}-{''.join(block.skips)}"


def parse_block(text: str) -> Block:
    """Read OPS-SKIPS.

    Args:
        text: As a person wrote it, such as "02031-a02".

    Raises:
        InvalidEncodingError: At the first position that breaks a rule.
    """
    reader = Reader(text)
    return read_block(reader, end="")


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


def read_block(reader: Reader, *, end: str) -> Block:
    """Read a block off an encoding.

    Args:
        reader: Stands at the block's first character; stands behind the block afterwards.
        end: The character that comes after the block; empty for the end of the encoding.

    Raises:
        InvalidEncodingError: At the first position that breaks a rule.
    """
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
    behind = repr(end) if end else "the end"
    while reader.here != end:
        if len(skips) == MOST_SKIPS:
            raise reader.error(f"expected {behind} after {MOST_SKIPS} skips, got {reader.got}")
        what = f"a skip, 'a' or 'c' and two nodes, or {behind} after the block"
        kind = reader.take(KINDS, what)
        skips.append(_read_skip(reader, kind, len(operators), before=skips[-1] if skips else ""))
    return Block(operators=operators, ratios=ratios, skips=tuple(skips))


def _read_skip(reader: Reader, kind: str, operators: int, *, before: str) -> str:
    start = reader.position - 1
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
