"""A note in place of a network's weights: what stands in a tensor's `raw_data`, and its meaning.

A weightless ONNX file keeps every initializer with its name, shape and element type. A large one
holds, where its bytes would be, this text:

    boardfront-weightless/1 mean=0 scale=0.0589256 seed=12

Stock tools open such a file and infer its shapes, and its structure hash is that of the full
file. onnx.checker says of it what is true, that data are missing. A runtime that meets it
unfilled refuses it for the same reason, so that no time of it can be mistaken for one; weights
that are declared as inputs, or made by a node, would be valid and be timed wrongly.

A reader fills a tensor of n elements with

    mean + scale * STRETCH * z

where z is what the bits of a float32 say that keeps the sign and the mantissa of the i-th
little-endian 32-bit word of numpy's SFC64(seed), and whose exponent is set to 0. So |z| is in
[1, 2): the values have the standard deviation `scale`, none is zero or denormal, and they are
the same on every machine.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from boardfront.protos.errors import InvalidRecordError

PREFIX = b"boardfront-weightless/1 "

LARGE_BYTES = 1024
"""Smaller tensors of a given file are kept: they may steer what is computed, and cost nothing."""

STRETCH = math.sqrt(3 / 7)
"""Makes z, whose magnitude is uniform between 1 and 2, one of unit variance."""

MOST_SEED = 2**63 - 1

_NUMBER = r"-?\d[\d.]{0,20}(?:e[+-]?\d{1,3})?"
_NOTE = re.compile(rf"mean=({_NUMBER}) scale=({_NUMBER}) seed=(\d{{1,19}})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Which values a tensor is to be filled with.

    Args:
        mean: Of the values; 0, or so far from 0 that no value comes near it.
        scale: Their standard deviation.
        seed: Of the values; tensors of equal seed have equal values.

    Raises:
        InvalidRecordError: A value could be zero, or is none.
    """

    mean: float = 0.0
    scale: float
    seed: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.scale) and self.scale > 0):
            raise InvalidRecordError(
                f"a note's mean and scale: expected finite numbers, scale above 0, got "
                f"{self.mean} and {self.scale}"
            )
        if self.mean and abs(self.mean) < 2 * self.scale:
            raise InvalidRecordError(
                f"a note's mean: expected 0 or at least twice the scale {self.scale} away from "
                f"it, got {self.mean}: values near zero would distort times"
            )
        if not 0 <= self.seed <= MOST_SEED:
            raise InvalidRecordError(f"a note's seed: expected 0 to {MOST_SEED}, got {self.seed}")

    @property
    def magnitudes(self) -> tuple[float, float]:
        """The least and the greatest magnitude that a value can have."""
        reach = 2 * STRETCH * self.scale
        if not self.mean:
            return reach / 2, reach
        return abs(self.mean) - reach, abs(self.mean) + reach

    def to_bytes(self) -> bytes:
        """Return the text that stands in place of the weights; six digits of each number."""
        text = f"mean={self.mean:.6g} scale={self.scale:.6g} seed={self.seed}"
        return PREFIX + text.encode()

    @classmethod
    def from_bytes(cls, raw_data: bytes) -> Note:
        """Read a note.

        Raises:
            InvalidRecordError: It is none, or not one of this version.
        """
        text = raw_data[len(PREFIX) : len(PREFIX) + 100].decode("ascii", errors="replace")
        found = _NOTE.fullmatch(text)
        if not is_note(raw_data) or found is None:
            raise InvalidRecordError(
                f"a note: expected 'mean=NUMBER scale=NUMBER seed=NUMBER', got {text[:60]!r}: "
                "host and agent may be of different versions"
            )
        try:
            return cls(mean=float(found[1]), scale=float(found[2]), seed=int(found[3]))
        except ValueError as error:
            raise InvalidRecordError(f"a note with the number {error}") from error


def is_note(raw_data: bytes) -> bool:
    """Return whether a tensor's bytes are a note and not its values."""
    return raw_data.startswith(PREFIX)
