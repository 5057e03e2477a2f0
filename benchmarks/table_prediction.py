"""How many networks a second the additive model predicts, and in how much memory.

A made-up table: the speed depends on the numbers of blocks and networks alone. Networks come as
a matrix of block counts (how a search that predicts its whole population does it), and as
decompositions, block by block.

Usage: python benchmarks/table_prediction.py [--networks 200000] [--repeats 5]
One thread: OMP_NUM_THREADS=1 before it.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.blocks import BlockKey, Decomposition
from boardfront.latency_models.predictors.additive import AdditiveModel, BlockTimes

if TYPE_CHECKING:
    from collections.abc import Callable

_DEPTH = 22
_DECOMPOSED = 10_000


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print("| blocks in the table | networks as | networks a second, median | least | most |")
    print("|---|---|---|---|---|")
    for blocks in (32, 332):
        rng = np.random.default_rng(blocks)
        model = _model(blocks, rng)
        chosen = rng.integers(blocks, size=(options.networks, _DEPTH))
        networks = [
            Decomposition(blocks=tuple(model.blocks[i] for i in row))
            for row in chosen[:_DECOMPOSED]
        ]
        counts = _counts(chosen, blocks)
        model.fit(networks[:20], model.sums_s(networks[:20]))
        _print(
            f"{blocks} | counts",
            lambda: model.predict_counts(counts),  # noqa: B023 - called in this round only
            options.networks,
            options.repeats,
        )
        _print(
            f"{blocks} | decompositions",
            lambda: model.predict(networks),  # noqa: B023 - called in this round only
            len(networks),
            options.repeats,
        )
    # Linux counts in KiB.
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"most memory of the process: {peak_mib:.0f} MiB")
    return 0


def _model(blocks: int, rng: np.random.Generator) -> AdditiveModel:
    keys = tuple(
        BlockKey(kind=str(i), in_channels=16, out_channels=16, stride=1, resolution=32)
        for i in range(blocks)
    )
    times_s = rng.uniform(1e-4, 1e-3, size=blocks)
    return AdditiveModel(
        BlockTimes(blocks=keys, times_s=times_s, low_s=0.95 * times_s, high_s=1.05 * times_s)
    )


def _counts(chosen: np.ndarray, blocks: int) -> np.ndarray:
    """Return how often each network has each block; one byte each, to save memory."""
    found = np.zeros((len(chosen), blocks), np.int8)
    rows = np.arange(len(chosen))
    for column in chosen.T:
        found[rows, column] += 1
    return found


def _print(label: str, predict: Callable[[], object], networks: int, repeats: int) -> None:
    rates = []
    for _ in range(repeats):
        begun = time.perf_counter()
        predict()
        rates.append(networks / (time.perf_counter() - begun))
    print(f"| {label} | {np.median(rates):,.0f} | {min(rates):,.0f} | {max(rates):,.0f} |")


if __name__ == "__main__":
    sys.exit(main())
