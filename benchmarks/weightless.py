"""Does a file without weights take as long as the full one? And how much smaller is it?

Four networks of the ET-NAS space. The full file has the weights of a freshly built torch module,
the other one notes in their place, which the agent's worker fills. Both are sampled in turn in one
job, round after round. Printed: the sizes, the time to read, check and fill the small file, the
full file's time, and the ratio of the times with its 95 % interval, the widest over the rounds.

Usage: python benchmarks/weightless.py [--networks A,C,L,resnet50] [--resolution 96] [--rounds 3]
       [--duration 4] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from statistics import median
from typing import TYPE_CHECKING

import torch
from bench import local_measurer

from boardfront.latency_models.base import ReferenceModel, TimeRequest
from boardfront.latency_models.structure import structure_hash
from boardfront.protos.records import Deadlines, Precision, Task
from boardfront.search.spaces import catalog

if TYPE_CHECKING:
    from boardfront.host.fleet.measurer import DeviceMeasurer
    from boardfront.protos.records import Normalised

# Name: (stem, encoding); see docs/spaces.md.
NETWORKS = {
    "A": ("etnas", "2-_32_2-11-112-1121112"),
    "C": ("etnas", "011-_32_2-211-2-111122"),
    "L": ("etnas", "23311-a02c12_64_211-2111-21111111111111111111111-211"),
    "resnet50": ("resnet", "10001-_64_411-2111-211111-211"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=float, default=4.0, metavar="SECONDS")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    precision = Precision(
        relative_half_width=0.01,
        min_duration_s=options.duration,
        max_duration_s=4 * options.duration,
    )
    rows = []
    with local_measurer() as measurer:
        for name in options.networks.split(","):
            asked = pair(name, options.resolution, precision)
            rows.append(compare(name, measurer, asked, options.rounds))
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(
        f"{'network':<9} {'full':>12} {'weightless':>11} {'filled in':>9} {'full_s':>9} "
        f"{'ratio':>7}  95 % interval   verdicts"
    )
    for row in rows:
        print(
            f"{row['network']:<9} {row['full_bytes']:>12,} {row['weightless_bytes']:>11,} "
            f"{row['weightless_load_s']:7.2f} s {row['full_s']:9.5f} "
            f"{row['ratio']:7.4f}  {row['low']:.4f}..{row['high']:.4f}  "
            f"{' '.join(row['verdicts'])}"
        )
    return 0


def pair(name: str, resolution: int, precision: Precision) -> TimeRequest:
    """Return a fresh request for a weightless file, its reference being the full one."""
    stem, encoding = NETWORKS[name]
    space = catalog.load("etnas", {"stem": stem, "resolution": resolution})
    torch.manual_seed(0)
    state = space.build(encoding).state_dict()  # type: ignore[attr-defined]
    weights = {key: values.numpy() for key, values in state.items()}
    full = space.write_onnx(encoding, batch=1, weights=weights)  # type: ignore[attr-defined]
    light = space.write_onnx(encoding, batch=1)  # type: ignore[attr-defined]
    return TimeRequest(
        model=light.SerializeToString(deterministic=True),
        structure_hash=structure_hash(light),
        task=Task(),
        backend="onnxruntime",
        label=f"{name} weightless",
        precision=precision,
        deadlines=Deadlines(run_s=120.0),
        fresh=True,
        reference=ReferenceModel(
            model=full.SerializeToString(deterministic=True),
            structure_hash=structure_hash(full),
            label=f"{name} full",
        ),
    )


def compare(
    name: str, measurer: DeviceMeasurer, request: TimeRequest, rounds: int
) -> dict[str, object]:
    reference = request.reference
    if reference is None or reference.structure_hash != request.structure_hash:
        raise SystemExit(f"{name}: full and weightless file differ in structure")
    ratios: list[Normalised] = []
    loads_s = []
    for number in range(rounds):
        (measurement,) = measurer.measure([request])
        result = measurement.result
        if result is None or result.normalised is None:
            raise SystemExit(f"{name} was not measured: {measurement.failure}")
        ratios.append(result.normalised)
        loads_s.append(result.load_s)
        sys.stderr.write(f"{name}: round {number + 1} of {rounds}\n")
    return {
        "network": name,
        "full_bytes": len(reference.model),
        "weightless_bytes": len(request.model),
        "weightless_load_s": median(loads_s),
        "full_s": median(one.reference_median_s for one in ratios),
        "ratio": median(one.ratio for one in ratios),
        "low": min(one.low for one in ratios),
        "high": max(one.high for one in ratios),
        "verdicts": [one.verdict.value for one in ratios],
    }


if __name__ == "__main__":
    sys.exit(main())
