"""Inference and training steps of ET-NAS and ResNet on one device, by backend.

Every network at one batch and resolution: inference by onnxruntime, torch and tvm (untuned), a
training step by torch, and the same step as a portable graph by onnxruntime. Each is sampled in
turn, run by run, with one of the networks (`--reference`) at the same task on the same backend, so
that a machine whose level wanders still gives an order: a time is the ratio to the reference times
the reference's median over the whole column. Printed: the times with the half width of the ratio's
95 % interval and its verdict, the ratio of step to inference, and the Spearman correlation between
the order of torch's steps and the graph's.

Usage: python benchmarks/training_steps.py [--networks A B C R18 R34 R50] [--reference R18]
       [--batch 4] [--resolution 64] [--duration 1] [--without tvm] [--json]
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench import local_measurer
from scipy.stats import spearmanr

from boardfront.host.networks import NetworkChoice, TaskChoice, read_network
from boardfront.latency_models.base import ReferenceModel, TimeRequest
from boardfront.protos.records import Deadlines, Precision, TaskKind

if TYPE_CHECKING:
    from boardfront.host.fleet.measurer import DeviceMeasurer

    Column = tuple[str, TaskKind]

PUBLISHED = Path(__file__).parents[1] / "tests/search/spaces/etnas_published.csv"

COLUMNS = (
    ("onnxruntime", TaskKind.INFERENCE),
    ("tvm", TaskKind.INFERENCE),
    ("torch", TaskKind.INFERENCE),
    ("torch", TaskKind.TRAINING_STEP),
    ("onnxruntime", TaskKind.TRAINING_STEP_GRAPH),
)
INFERENCE, STEP, GRAPH = COLUMNS[2:]
RESNETS = {
    "R18": "020-_64_11-21-21-21",
    "R34": "020-_64_111-2111-211111-211",
    "R50": "10001-_64_411-2111-211111-211",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One network's time in one column."""

    network: str
    backend: str
    task: str
    time_s: float
    relative_half_width: float
    verdict: str

    @property
    def shown(self) -> str:
        """The time for people."""
        width = f"+-{self.relative_half_width:.1%}"
        return f"{self.time_s * 1e3:.1f} ms {width} {self.verdict}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=[*"ABCDEF", *RESNETS])
    parser.add_argument("--reference", default="R18")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--duration", type=float, default=1.0)
    parser.add_argument("--without", nargs="*", default=[], metavar="BACKEND")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    columns = [column for column in COLUMNS if column[0] not in options.without]
    with local_measurer() as measurer:
        table = {column: measure(measurer, column, options) for column in columns}
    if options.json:
        print(json.dumps([asdict(cell) for cells in table.values() for cell in cells]))
        return 0
    show(table, options.networks)
    return 0


def show(table: dict[Column, list[Cell]], networks: list[str]) -> None:
    print("network  " + "  ".join(f"{b + ' ' + k.value:>31}" for b, k in table) + "  step/inf.")
    step, inference = table[STEP], table[INFERENCE]
    for index, name in enumerate(networks):
        times = "  ".join(f"{cells[index].shown:>31}" for cells in table.values())
        ratio = f"{step[index].time_s / inference[index].time_s:.2f}"
        print(f"{name:<8} {times}  {ratio:>9}")
    if len(networks) > 2:
        both = [[cell.time_s for cell in table[column]] for column in (STEP, GRAPH)]
        print(f"Spearman of steps, torch against graph: {spearmanr(*both)[0]:.3f}")


def published() -> dict[str, str]:
    """Return the encodings of the published networks by the last part of their names."""
    with PUBLISHED.open() as file:
        return {row["model"].rpartition("-")[2]: row["encoding"] for row in csv.DictReader(file)}


def measure(measurer: DeviceMeasurer, column: Column, options: argparse.Namespace) -> list[Cell]:
    """Return the column's times, in the order of the networks."""
    asked = request(column, options.reference, options)
    reference = ReferenceModel(
        model=asked.model, structure_hash=asked.structure_hash, label=options.reference
    )
    found = []
    for name in options.networks:
        (measurement,) = measurer.measure(
            [replace(request(column, name, options), reference=reference)]
        )
        result = measurement.result
        if result is None or result.normalised is None:
            raise SystemExit(f"{name} was not measured: {measurement.failure}")
        sys.stderr.write(f"{column[0]} {column[1].value} {name}: {result.statistics.median_s} s\n")
        found.append((name, result.normalised))
    quiet_s = median(ratio.reference_median_s for _, ratio in found)
    return [
        Cell(
            network=name,
            backend=column[0],
            task=column[1].value,
            time_s=ratio.ratio * quiet_s,
            relative_half_width=ratio.relative_half_width,
            verdict=ratio.verdict.value,
        )
        for name, ratio in found
    ]


def request(column: Column, name: str, options: argparse.Namespace) -> TimeRequest:
    backend, kind = column
    settings: dict[str, object] = {"resolution": options.resolution}
    if name in RESNETS:
        settings["stem"] = "resnet"
    text = {**published(), **RESNETS}[name]
    network = read_network(
        NetworkChoice(text=text, space="etnas", settings=settings),
        TaskChoice(kind=kind, batch=options.batch),
    )
    return TimeRequest(
        model=network.content,
        structure_hash=network.structure_hash,
        task=network.task,
        backend=backend,
        precision=Precision(
            relative_half_width=0.02,
            min_duration_s=options.duration,
            max_duration_s=3 * options.duration,
        ),
        deadlines=Deadlines(run_s=120.0, compile_s=300.0),
        label=name,
        fresh=True,
    )


if __name__ == "__main__":
    sys.exit(main())
