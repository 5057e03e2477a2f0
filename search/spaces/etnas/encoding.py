"""The written form of an ET-NAS architecture: BLOCK_CHANNEL_MACRO.

`02031-a02_64_111-2111-21111-211`: the block that every place takes, the channels after the stem,
and four stages with one digit a block. See docs/spaces.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from boardfront.search.spaces.etnas.block import format_block, read_block
from boardfront.search.spaces.etnas.reader import Reader
from boardfront.search.spaces.etnas.settings import STAGES

if TYPE_CHECKING:
    from boardfront.search.spaces.etnas.block import Block
    from boardfront.search.spaces.etnas.settings import EtnasSettings

MULTIPLES = "123456789"


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
    reader = Reader(encoding)
    block = read_block(reader, end="_")
    _check_listed(reader, format_block(block), settings)
    reader.expect("_", "after the block")
    channels = _read_channels(reader, settings)
    reader.expect("_", "after the channels")
    stages = _read_macro(reader, channels, settings)
    return Architecture(block=block, channels=channels, stages=stages)


def _check_listed(reader: Reader, block: str, settings: EtnasSettings) -> None:
    if settings.blocks and block not in settings.blocks:
        at = max(_alike(block, listed) for listed in settings.blocks)
        allowed = ", ".join(settings.blocks)
        raise reader.error(f"expected one of the space's blocks {allowed}, got {block}", at=at)


def _alike(first: str, second: str) -> int:
    """Count the characters that two different texts both begin with."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _read_channels(reader: Reader, settings: EtnasSettings) -> int:
    rest = reader.encoding[reader.position :]
    text = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if text not in {str(channels) for channels in settings.channels}:
        allowed = ", ".join(str(channels) for channels in settings.channels)
        got = repr(text) if text else reader.got
        raise reader.error(f"expected the channels after the stem, one of {allowed}, got {got}")
    reader.position += len(text)
    return int(text)


def _read_macro(reader: Reader, channels: int, settings: EtnasSettings) -> tuple[str, ...]:
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


def _read_multiple(reader: Reader, channels: int, settings: EtnasSettings, what: str) -> int:
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
