"""Does a network take as long ten minutes later? Raw, and divided by a network of its space.

Twelve networks of the quickstart's space are measured in passes ten minutes apart, each in a job
with the space's reference. Printed: which share of the repeats agrees within 2 % and 5 %, for the
time as it was and for the ratio, and the same for those repeats whose verdicts are both ok.

Usage: python benchmarks/repeatability.py [--networks 12] [--passes 2] [--apart 600] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median
from typing import TYPE_CHECKING

from bench import local_measurer, space_requests

from boardfront.protos.records import Deadlines, Precision, Verdict

if TYPE_CHECKING:
    from boardfront.host.fleet.measurer import DeviceMeasurer
    from boardfront.latency_models.base import TimeRequest


@dataclass(frozen=True)
class Look:
    network: str
    time_s: float
    time_ok: bool
    ratio: float
    ratio_ok: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--apart", type=float, default=600.0, metavar="SECONDS")
    parser.add_argument("--duration", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    requests, reference = space_requests(options.networks)
    precision = Precision(
        relative_half_width=0.01,
        min_duration_s=options.duration,
        max_duration_s=4 * options.duration,
    )
    asked = [
        replace(request, reference=reference, precision=precision, deadlines=Deadlines(run_s=60.0))
        for request in requests
    ]
    passes: list[list[Look]] = []
    with local_measurer() as measurer:
        for number in range(options.passes):
            begin_s = time.monotonic()
            passes.append(take(measurer, asked))
            sys.stderr.write(f"pass {number + 1} took {time.monotonic() - begin_s:.0f} s\n")
            if number + 1 < options.passes:
                time.sleep(max(0.0, options.apart - (time.monotonic() - begin_s)))
    rows = summary(passes)
    if options.json:
        print(json.dumps({"rows": rows, "passes": [[vars(x) for x in p] for p in passes]}))
        return 0
    print(f"{'what':<22} {'pairs':>5} {'within 2 %':>11} {'within 5 %':>11} {'median off':>11}")
    for row in rows:
        print(
            f"{row['what']:<22} {row['pairs']:>5} {row['within_2']:>11.0%} "
            f"{row['within_5']:>11.0%} {row['median_off']:>11.1%}"
            if row["pairs"]
            else f"{row['what']:<22} {0:>5}"
        )
    return 0


def take(measurer: DeviceMeasurer, requests: list[TimeRequest]) -> list[Look]:
    looks = []
    for measurement in measurer.measure(requests):
        result = measurement.result
        if result is None or result.normalised is None:
            raise SystemExit(f"not measured: {measurement.failure}")
        looks.append(
            Look(
                network=measurement.key.structure_hash,
                time_s=result.statistics.median_s,
                time_ok=result.verdict is Verdict.OK,
                ratio=result.normalised.ratio,
                ratio_ok=result.normalised.verdict is Verdict.OK,
            )
        )
    return looks


def summary(passes: list[list[Look]]) -> list[dict[str, object]]:
    """Compare every network's looks of every two passes."""
    pairs = [(a, b) for p, q in combinations(passes, 2) for a, b in zip(p, q, strict=True)]
    kinds = {
        "time": [(a.time_s, b.time_s) for a, b in pairs],
        "time, both ok": [(a.time_s, b.time_s) for a, b in pairs if a.time_ok and b.time_ok],
        "ratio": [(a.ratio, b.ratio) for a, b in pairs],
        "ratio, both ok": [(a.ratio, b.ratio) for a, b in pairs if a.ratio_ok and b.ratio_ok],
    }
    rows: list[dict[str, object]] = []
    for what, values in kinds.items():
        off = [abs(b / a - 1) for a, b in values]
        rows.append(
            {
                "what": what,
                "pairs": len(off),
                "within_2": sum(x <= 0.02 for x in off) / len(off) if off else None,
                "within_5": sum(x <= 0.05 for x in off) / len(off) if off else None,
                "median_off": median(off) if off else None,
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
