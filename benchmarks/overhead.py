"""What does a measurement cost beside the time that the device spends on it?

A network of the quickstart's space is measured again and again, each look 1 s long. Overhead is
the wall time that the caller waits, less the time that the agent accounts to the subject (loading,
compiling, warm-up and windows).

Usage: python benchmarks/overhead.py [--repeats 10] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from statistics import median

from bench import local_measurer, space_requests

from boardfront.protos.records import Precision


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    requests, _ = space_requests(1)
    precision = Precision(relative_half_width=0.5, min_duration_s=1.0)
    request = replace(requests[0], precision=precision)
    overheads_s, device_s = [], []
    with local_measurer() as measurer:
        for _ in range(options.repeats + 1):
            begin_s = time.monotonic()
            (measurement,) = measurer.measure([request])
            wall_s = time.monotonic() - begin_s
            result = measurement.result
            if result is None:
                raise SystemExit(f"not measured: {measurement.failure}")
            spent_s = result.load_s + result.compile_s + result.run_s
            device_s.append(spent_s)
            overheads_s.append(wall_s - spent_s)
    first_s, rest_s = overheads_s[0], overheads_s[1:]
    row = {
        "repeats": len(rest_s),
        "device_s": median(device_s),
        "first_overhead_s": first_s,
        "overhead_s": median(rest_s),
        "overhead_min_s": min(rest_s),
        "overhead_max_s": max(rest_s),
    }
    if options.json:
        print(json.dumps(row))
        return 0
    print(
        f"device time {row['device_s']:.3f} s; overhead of the first {first_s:.3f} s, then "
        f"{row['overhead_s']:.3f} s ({row['overhead_min_s']:.3f} .. {row['overhead_max_s']:.3f}) "
        f"over {len(rest_s)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
