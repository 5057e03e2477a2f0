"""A board's latency from 10, 50 or 200 of its measurements, and another board's.

The table of NAS-Bench-201's 15,625 networks with measured latencies of two boards (HW-NAS-Bench:
C. Li et al., ICLR 2021; NAS-Bench-201: X. Dong and Y. Yang, ICLR 2020) stands for measuring: a
seeded draw of networks is "measured" on the Raspberry Pi 4, and all others are predicted by

- multiply-accumulates: a line through those of the operations that are executed;
- one-hot ridge: which operation each of the six edges has; in seconds: errors weigh as they are;
- counts ridge: how often each operation is executed (`RidgeModel`);
- transfer: `TransferModel` from the edge GPU's counts ridge, with multiply-accumulates and
  activations;
- without source: the same without the edge GPU.

Ridge chooses its penalty by leave-one-out; where nothing is said errors weigh relative to the
times. Networks whose output does not depend on their input are left out by their structure: the
runtime folds them into a constant, and they have no latency worth the name. An operation is
executed if the output depends on it. The cell stands for its network, which repeats it 15 times
at three sizes.

The noise floor is of networks that execute the same operations on the same edges, about the
median of their group: measured apart, they should take as long.

Covered is the share of times inside the intervals of 95 %: the model's own, and those of
`CalibratedModel`, which stretches them by the errors on samples left out.

Usage: python benchmarks/nasbench201_transfer.py [--data FOLDER-OR-FILE] [--draws 20]
    [--samples 10 50 200] [--json]
The folder holds nasbench201_cifar10_devices.csv.gz; default: the environment's BOARDFRONT_DATA.
Columns used: arch_str, raspi4_latency_ms, edgegpu_latency_ms.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.accuracy import mape, noise_floor, spearman
from boardfront.latency_models.blocks import BlockKey, Decomposition
from boardfront.latency_models.predictors.base import BlockFeatures, relative_weights
from boardfront.latency_models.predictors.conformal import CalibratedModel
from boardfront.latency_models.predictors.ridge import RidgeModel, fit_ridge
from boardfront.latency_models.predictors.transfer import TransferModel
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.latency_models.predictors.base import FloatArray, LatencyModel

_FILE = "nasbench201_cifar10_devices.csv.gz"
_OPERATIONS = ("skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_NONE = "none"
_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""From which node to which, in the order of the architecture string."""

_CHANNELS, _PIXELS = 16, 32
"""Of the first of the three sizes; its blocks stand for the others'."""

_BLOCKS = tuple(
    BlockKey(
        kind=name, in_channels=_CHANNELS, out_channels=_CHANNELS, stride=1, resolution=_PIXELS
    )
    for name in _OPERATIONS
)
_SOURCE_NETWORKS = 1000
"""Measured on the other board."""

_COUNTS_RIDGE, _TRANSFER, _ALONE = "counts ridge", "transfer", "without source"
_CALIBRATED = "transfer, calibrated"


@dataclass(frozen=True, kw_only=True, slots=True)
class Networks:
    """Connected networks: what they execute and what that takes, in seconds."""

    decompositions: list[Decomposition]
    macs: FloatArray
    one_hot: FloatArray
    executed: list[tuple[str, ...]]
    target_s: FloatArray
    source_s: FloatArray
    left_out: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What a method is worth from so many samples, over the draws."""

    samples: int
    method: str
    spearman_mean: float
    spearman_sd: float
    spearman_least: float
    mape_mean: float
    mape_sd: float
    covered_mean: float | None


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("BOARDFRONT_DATA"))
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--samples", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        networks = read(options.data)
        floor = floor_of(networks)
        rows = [row for n in options.samples for row in compare(networks, n, options.draws)]
    except BoardfrontError as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code
    if options.json:
        print(json.dumps({"noise_floor": floor, "rows": [asdict(row) for row in rows]}, indent=1))
        return 0
    print(
        f"{len(networks.decompositions)} networks, {networks.left_out} left out as disconnected; "
        f"{options.draws} draws; noise floor (mean / median): {floor[0]:.1%} / {floor[1]:.1%}"
    )
    print("| samples | method | Spearman | least | mean error | covered |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        covered = "" if row.covered_mean is None else f"{row.covered_mean:.1%}"
        print(
            f"| {row.samples} | {row.method} | {row.spearman_mean:.3f} +- {row.spearman_sd:.3f} "
            f"| {row.spearman_least:.3f} | {row.mape_mean:.1%} +- {row.mape_sd:.1%} | {covered} |"
        )
    return 0


def read(place: Path | str | None) -> Networks:
    """Return the connected networks of the table in a folder, or of a file."""
    if place is None:
        raise WrongInputError(
            f"expected a folder with {_FILE}, got none: give --data or set BOARDFRONT_DATA"
        )
    path = Path(place) / _FILE if Path(place).is_dir() else Path(place)
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise WrongInputError(
            f"expected the table {path}, got {problem.strerror}: check --data"
        ) from problem
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    rows = list(csv.DictReader(text.splitlines()))
    cells = [operations(row["arch_str"]) for row in rows]
    kept = [i for i, cell in enumerate(cells) if is_connected(cell)]
    done = [executed(cells[i]) for i in kept]
    counts = np.array([[cell.count(name) for name in _OPERATIONS] for cell in done], float)
    decompositions = [
        Decomposition(
            blocks=tuple(_BLOCKS[_OPERATIONS.index(name)] for name in cell if name != _NONE)
        )
        for cell in done
    ]
    return Networks(
        decompositions=decompositions,
        macs=counts @ features().sums([Decomposition(blocks=(block,)) for block in _BLOCKS])[:, 0],
        one_hot=np.array(
            [[float(name == other) for name in cells[i] for other in _OPERATIONS] for i in kept]
        ),
        executed=done,
        target_s=np.array([float(rows[i]["raspi4_latency_ms"]) / 1e3 for i in kept]),
        source_s=np.array([float(rows[i]["edgegpu_latency_ms"]) / 1e3 for i in kept]),
        left_out=len(rows) - len(kept),
    )


def features() -> BlockFeatures:
    """Return multiply-accumulates and convolution outputs of an operation."""
    outputs = _CHANNELS * _PIXELS**2
    macs = {"nor_conv_1x1": outputs * _CHANNELS, "nor_conv_3x3": 9 * outputs * _CHANNELS}
    values = [[macs.get(name, 0), outputs if name in macs else 0] for name in _OPERATIONS]
    return BlockFeatures(_BLOCKS, values, ("macs", "activations"))


def operations(architecture: str) -> tuple[str, ...]:
    """Return the operations on the six edges of a string like |a~0|+|b~0|c~1|+|d~0|e~1|f~2|."""
    nodes = [node.strip("|").split("|") for node in architecture.split("+")]
    return tuple(edge.split("~")[0] for node in nodes for edge in node)


def executed(cell: Sequence[str]) -> tuple[str, ...]:
    """Return the operations, those that the output does not depend on as none."""
    needed = {3}
    for (start, end), name in reversed(list(zip(_EDGES, cell, strict=True))):
        if name != _NONE and end in needed:
            needed.add(start)
    return tuple(
        name if end in needed else _NONE for (_, end), name in zip(_EDGES, cell, strict=True)
    )


def is_connected(cell: Sequence[str]) -> bool:
    """Return whether the output depends on the input."""
    reached = {0}
    for (start, end), name in zip(_EDGES, cell, strict=True):
        if name != _NONE and start in reached:
            reached.add(end)
    return 3 in reached


def floor_of(networks: Networks) -> tuple[float, float]:
    """Return how far networks of the same executed operations are apart, mean and median."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for cell, time_s in zip(networks.executed, networks.target_s, strict=True):
        groups.setdefault(cell, []).append(float(time_s))
    alike = [times for times in groups.values() if len(times) > 1]
    middles = [float(np.median(times)) for times in alike]
    found = noise_floor(middles, alike) if alike else None
    apart = [
        abs(time_s / middle - 1)
        for middle, times in zip(middles, alike, strict=True)
        for time_s in times
    ]
    return (found.mape if found else 0.0), float(np.median(apart)) if apart else 0.0


def compare(networks: Networks, samples: int, draws: int) -> list[Row]:
    """Return one row a method."""
    source = RidgeModel(_BLOCKS)
    few = np.random.default_rng(0).permutation(len(networks.source_s))[:_SOURCE_NETWORKS]
    source.fit([networks.decompositions[i] for i in few], networks.source_s[few])
    models: dict[str, Callable[[], LatencyModel]] = {
        _COUNTS_RIDGE: lambda: RidgeModel(_BLOCKS),
        _TRANSFER: lambda: TransferModel(source, features(), _BLOCKS),
        _CALIBRATED: lambda: CalibratedModel(
            lambda: TransferModel(source, features(), _BLOCKS), folds=5
        ),
        _ALONE: lambda: TransferModel(None, features(), _BLOCKS),
    }
    found: dict[str, list[tuple[float, float, float | None]]] = {}
    for draw in range(draws):
        order = np.random.default_rng([samples, draw]).permutation(len(networks.target_s))
        known, rest = order[:samples], order[samples:]
        truth = networks.target_s[rest]
        times = networks.target_s[known]
        relative = relative_weights(times)
        for name, design, weights in (
            ("multiply-accumulates", networks.macs[:, None] / networks.macs.max(), relative),
            ("one-hot ridge", networks.one_hot, relative),
            ("one-hot ridge, in seconds", networks.one_hot, np.ones(samples)),
        ):
            fit = fit_ridge(design[known], times, weights)
            found.setdefault(name, []).append(score(fit.predict(design[rest]), truth, None))
        for name, make in models.items():
            model = make()
            model.fit([networks.decompositions[i] for i in known], networks.target_s[known])
            answer = model.predict([networks.decompositions[i] for i in rest])
            inside = (answer.low_s <= truth) & (truth <= answer.high_s)
            found.setdefault(name, []).append(score(answer.median_s, truth, float(inside.mean())))
    return [summary(samples, name, scores) for name, scores in found.items()]


def score(
    predicted_s: FloatArray, truth_s: FloatArray, covered: float | None
) -> tuple[float, float, float | None]:
    """Return Spearman (0 where all predictions are the same), MAPE and the coverage."""
    return spearman(predicted_s, truth_s) or 0.0, mape(predicted_s, truth_s), covered


def summary(samples: int, method: str, scores: Sequence[tuple[float, float, float | None]]) -> Row:
    """Return mean and spread over the draws."""
    ranks, errors, covered = zip(*scores, strict=True)
    inside = [share for share in covered if share is not None]
    freedom = min(1, len(scores) - 1)
    return Row(
        samples=samples,
        method=method,
        spearman_mean=float(np.mean(ranks)),
        spearman_sd=float(np.std(ranks, ddof=freedom)),
        spearman_least=float(min(ranks)),
        mape_mean=float(np.mean(errors)),
        mape_sd=float(np.std(errors, ddof=freedom)),
        covered_mean=float(np.mean(inside)) if inside else None,
    )


if __name__ == "__main__":
    sys.exit(main())
