"""Does a disturbed number say so? Repeats of real networks, a CPU hog beside half of them.

Three networks out of the onnx package are measured again and again over some minutes; beside
every second repeat another process computes on one core. The quiet median is that of the
undisturbed repeats that are called ok (or, where none is, of all undisturbed ones). Printed, for
disturbed and undisturbed repeats: how many are called ok, how many of those are within 2 % of the
quiet median, the verdicts, the spread, and the machine's steal time.

Usage: python benchmarks/under_load.py [--repeats 20] [--minutes 10] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from bench import file_request, local_measurer

from boardfront.protos.records import Deadlines, Precision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boardfront.host.fleet.measurer import DeviceMeasurer

NETWORKS = ("light_resnet50", "light_squeezenet", "light_densenet121")


@dataclass(frozen=True)
class Repeat:
    network: str
    disturbed: bool
    median_s: float
    verdict: str
    steal: float | None
    others: float | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    repeats: list[Repeat] = []
    with local_measurer() as measurer:
        begin_s = time.monotonic()
        for number in range(options.repeats):
            disturbed = number % 2 == 1
            with hog() if disturbed else contextlib.nullcontext():
                repeats += [measure(measurer, name, disturbed=disturbed) for name in NETWORKS]
            sys.stderr.write(f"{number + 1} of {options.repeats}\n")
            due_s = begin_s + (number + 1) * options.minutes * 60 / options.repeats
            time.sleep(max(0.0, due_s - time.monotonic()))
    rows = [row for name in NETWORKS for row in summary([r for r in repeats if r.network == name])]
    if options.json:
        print(json.dumps({"rows": rows, "repeats": [vars(r) for r in repeats]}))
        return 0
    print("network            hog   repeats  ok  ok within 2 %  worst ok  spread of all  verdicts")
    for row in rows:
        print(
            f"{row['network']:<18} {row['hog']:<5} {row['repeats']:>7} {row['ok']:>3} "
            f"{row['ok_within_2']:>13}  {row['worst_ok']:>8}  {row['spread']:>13}  "
            f"{row['verdicts']}  steal {row['steal']}, others {row['others']}"
        )
    return 0


def measure(measurer: DeviceMeasurer, name: str, *, disturbed: bool) -> Repeat:
    request = replace(
        file_request(name),
        precision=Precision(max_duration_s=3.0),
        deadlines=Deadlines(run_s=60.0),
    )
    (measurement,) = measurer.measure([request])
    result = measurement.result
    if result is None:
        raise SystemExit(f"{name} was not measured: {measurement.failure}")
    return Repeat(
        network=name,
        disturbed=disturbed,
        median_s=result.statistics.median_s,
        verdict=result.verdict.value,
        steal=result.circumstances.steal_fraction,
        others=result.circumstances.other_cpu_fraction,
    )


@contextlib.contextmanager
def hog() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def summary(repeats: list[Repeat]) -> Iterator[dict[str, object]]:
    quiet = [r.median_s for r in repeats if not r.disturbed]
    sure = [r.median_s for r in repeats if not r.disturbed and r.verdict == "ok"]
    truth_s = median(sure or quiet)
    for disturbed in (False, True):
        some = [r for r in repeats if r.disturbed is disturbed]
        off = [r.median_s / truth_s - 1 for r in some if r.verdict == "ok"]
        every = [r.median_s / truth_s - 1 for r in some]
        steal = [r.steal for r in some if r.steal is not None]
        others = [r.others for r in some if r.others is not None]
        yield {
            "network": repeats[0].network,
            "hog": "yes" if disturbed else "no",
            "repeats": len(some),
            "ok": len(off),
            "ok_within_2": f"{sum(abs(x) <= 0.02 for x in off)} of {len(off)}",
            "worst_ok": f"{max(off, key=abs):+.1%}" if off else "-",
            "spread": f"{min(every):+.0%}..{max(every):+.0%}",
            "verdicts": dict(Counter(r.verdict for r in some)),
            "steal": f"{median(steal):.1%}" if steal else "-",
            "others": f"{median(others):.0%}" if others else "-",
        }


if __name__ == "__main__":
    sys.exit(main())
