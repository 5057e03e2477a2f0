"""What a network is made of, as far as its time can depend on it: blocks, one after the other."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

STEM = "stem"
"""The kind of what stands before the first block."""

HEAD = "head"
"""The kind of what stands behind the last block."""

_TEXT = re.compile(r"(\S+) (\d+)->(\d+) /(\d+) @(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class BlockKey:
    """What a block is: two blocks of equal keys take the same time in the same place.

    Args:
        kind: "stem", "head", or the block's own encoding, e.g. "5", "020-". No white space.
        in_channels: At least 1.
        out_channels: At least 1.
        stride: At least 1.
        resolution: Of the block's input, pixels a side, at least 1.
    """

    kind: str
    in_channels: int
    out_channels: int
    stride: int
    resolution: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\S+", self.kind):
            raise WrongInputError(
                f"expected a block's kind without white space, got {self.kind!r}: name it anew",
            )
        if min(self.in_channels, self.out_channels, self.stride, self.resolution) < 1:
            raise WrongInputError(
                f"expected a block's numbers to be at least 1, got {self.text!r}: correct them",
            )

    @property
    def text(self) -> str:
        """The key as a person reads it, e.g. "5 48->96 /2 @16"; `parse` reads it back."""
        channels = f"{self.in_channels}->{self.out_channels}"
        return f"{self.kind} {channels} /{self.stride} @{self.resolution}"

    @property
    def out_resolution(self) -> int:
        """What comes out, pixels a side."""
        return -(-self.resolution // self.stride)

    @property
    def is_stackable(self) -> bool:
        """Whether the block's output fits its own input, so that it can follow itself."""
        return self.in_channels == self.out_channels and self.stride == 1 and not self.is_end

    @property
    def is_end(self) -> bool:
        """Whether it is a stem or a head: every network has one of each."""
        return self.kind in {STEM, HEAD}

    @classmethod
    def parse(cls, text: str) -> BlockKey:
        """Read what `text` wrote.

        Raises:
            WrongInputError: It is no such text.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise WrongInputError(
                f"expected a block such as '5 48->96 /2 @16', got {text!r:.60}: correct it",
            )
        kind, *numbers = found.groups()
        in_channels, out_channels, stride, resolution = map(int, numbers)
        return cls(
            kind=kind,
            in_channels=in_channels,
            out_channels=out_channels,
            stride=stride,
            resolution=resolution,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Decomposition:
    """A network as the blocks that it runs one after the other.

    Args:
        blocks: The stem first, the head last.
    """

    blocks: tuple[BlockKey, ...]

    @property
    def counts(self) -> Mapping[BlockKey, int]:
        """How often each block occurs, in the order of first occurrence."""
        return Counter(self.blocks)
