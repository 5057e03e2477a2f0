"""Networks of a small made-up space, and the times that a made-up device would take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.blocks import BlockKey, Decomposition
from boardfront.latency_models.predictors.additive import BlockTimes
from boardfront.latency_models.predictors.base import BlockFeatures

if TYPE_CHECKING:
    from boardfront.latency_models.predictors.base import FloatArray

KINDS = ("a", "b", "c")
WIDTHS = (16, 32, 64)


def block(kind: str, width: int) -> BlockKey:
    return BlockKey(
        kind=kind, in_channels=width, out_channels=width, stride=1, resolution=512 // width
    )


BLOCKS = (
    BlockKey(kind="stem", in_channels=3, out_channels=16, stride=2, resolution=64),
    *(block(kind, width) for width in WIDTHS for kind in KINDS),
    BlockKey(kind="head", in_channels=64, out_channels=10, stride=1, resolution=8),
)

TIMES_S = 1e-4 * np.array([4, 1, 3, 6, 2, 4, 9, 1.5, 5, 8, 2.5])
"""One a block."""

MACS = 1e6 * np.array([3, 1, 4, 9, 1.2, 4.2, 9.5, 1.4, 4.4, 10, 0.6])


def draw(rng: np.random.Generator, networks: int) -> list[Decomposition]:
    """Each of 2 to 6 blocks a width."""
    found = []
    for _ in range(networks):
        inner = [
            block(KINDS[rng.integers(3)], width)
            for width in WIDTHS
            for _ in range(rng.integers(2, 7))
        ]
        found.append(Decomposition(blocks=(BLOCKS[0], *inner, BLOCKS[-1])))
    return found


def sums_s(networks: list[Decomposition], times_s: FloatArray = TIMES_S) -> FloatArray:
    """Computed block by block, without the code under test."""
    by_block = dict(zip(BLOCKS, times_s, strict=True))
    return np.array([sum(by_block[each] for each in network.blocks) for network in networks])


def block_times(
    times_s: FloatArray = TIMES_S, half: float = 0.02, fixed_s: float = 0.0
) -> BlockTimes:
    """A table of these times, each with a half-width relative to it."""
    return BlockTimes(
        blocks=BLOCKS,
        times_s=times_s,
        low_s=times_s * (1 - half),
        high_s=times_s * (1 + half),
        fixed_s=fixed_s,
        fixed_half_s=half * fixed_s,
    )


def features() -> BlockFeatures:
    return BlockFeatures(BLOCKS, np.column_stack([MACS, np.sqrt(MACS)]), ("macs", "activations"))


def noisy(rng: np.random.Generator, times_s: FloatArray, spread: float) -> FloatArray:
    """Measured with a relative error."""
    return times_s * np.exp(spread * rng.normal(size=len(times_s)))
