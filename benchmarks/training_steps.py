"""Inference and training steps of ET-NAS and ResNet on one device, by backend.

Every network at one batch and resolution: inference by onnxruntime and torch, a training step by
torch, and the same step as a portable graph by onnxruntime. Printed: the times with their
verdicts, the ratio of step to inference, and the Spearman correlation between the order of
torch's steps and the graph's.

Usage: python benchmarks/training_steps.py [--networks A B C R18 R34 R50] [--batch 8]
       [--resolution 64] [--duration 1] [--json]
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench import local_measurer
from scipy.stats import spearmanr

from boardfront.host.networks import NetworkChoice, TaskChoice, read_network
from boardfront.latency_models.base import TimeRequest
from boardfront.protos.records import Deadlines, Precision, TaskKind

if TYPE_CHECKING:
    from boardfront.host.fleet.measurer import DeviceMeasurer

PUBLISHED = Path(__file__).parents[1] / "tests/search/spaces/etnas_published.csv"

COLUMNS = (
    ("onnxruntime", TaskKind.INFERENCE),
    ("torch", TaskKind.INFERENCE),
    ("torch", TaskKind.TRAINING_STEP),
    ("onnxruntime", TaskKind.TRAINING_STEP_GRAPH),
)
RESNETS = {
    "R18": "020-_64_11-21-21-21",
    "R34": "020-_64_111-2111-211111-211",
    "R50": "10001-_64_411-2111-211111-211",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=[*"ABCDEF", *RESNETS])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--duration", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    encodings = {**published(), **RESNETS}
    rows = []
    with local_measurer() as measurer:
        for name in options.networks:
            rows.append(measure(measurer, name, encodings[name], options))
            sys.stderr.write(f"{name} done\n")
    if options.json:
        print(json.dumps(rows))
        return 0
    print("network  " + "  ".join(f"{b} {k.value:<20}" for b, k in COLUMNS) + "  step/inference")
    for row in rows:
        times = "  ".join(f"{row['times'][i]['shown']:>26}" for i in range(len(COLUMNS)))
        print(f"{row['network']:<8} {times}  {row['step_over_inference']:.2f}")
    torch_s = [row["times"][2]["median_s"] for row in rows]
    graph_s = [row["times"][3]["median_s"] for row in rows]
    if len(rows) > 2:
        print(f"Spearman of steps, torch against graph: {spearmanr(torch_s, graph_s)[0]:.3f}")
    return 0


def published() -> dict[str, str]:
    """Return the encodings of the published networks by the last part of their names."""
    with PUBLISHED.open() as file:
        return {row["model"].rpartition("-")[2]: row["encoding"] for row in csv.DictReader(file)}


def measure(
    measurer: DeviceMeasurer, name: str, encoding: str, options: argparse.Namespace
) -> dict[str, object]:
    times = []
    for backend, kind in COLUMNS:
        settings: dict[str, object] = {"resolution": options.resolution}
        if name in RESNETS:
            settings["stem"] = "resnet"
        choice = NetworkChoice(text=encoding, space="etnas", settings=settings)
        network = read_network(choice, TaskChoice(kind=kind, batch=options.batch))
        request = TimeRequest(
            model=network.content,
            structure_hash=network.structure_hash,
            task=network.task,
            backend=backend,
            precision=Precision(
                min_duration_s=options.duration, max_duration_s=3 * options.duration
            ),
            deadlines=Deadlines(run_s=120.0),
            label=name,
            fresh=True,
        )
        (measurement,) = measurer.measure([request])
        result = measurement.result
        if result is None:
            raise SystemExit(f"{name} was not measured: {measurement.failure}")
        median_s = result.statistics.median_s
        times.append(
            {
                "backend": backend,
                "task": kind.value,
                "median_s": median_s,
                "verdict": result.verdict.value,
                "parts_s": dict(result.parts_s),
                "shown": f"{median_s * 1e3:.1f} ms {result.verdict.value}",
            }
        )
    return {
        "network": name,
        "times": times,
        "step_over_inference": times[2]["median_s"] / times[1]["median_s"],  # type: ignore[operator]
    }


if __name__ == "__main__":
    sys.exit(main())
