"""What does it cost to watch a device while a job is timed on it?

A load meter watches for a while as it does beside a job. Printed: the share of one core that its
readings took, by the thread's own account and by the process's (which sleeps otherwise), on this
machine's files and, with --board, on those of a board's layout.

Usage: python benchmarks/telemetry_cost.py [--seconds 20] [--board rk3588] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.device_agent import boards

from boardfront.device_agent.load import LoadMeter
from boardfront.device_agent.sysfs import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

_BOARDS: dict[str, Callable[[Path], Path]] = {
    "rk3588": boards.rk3588,
    "laptop": boards.laptop,
    "jetson": boards.jetson,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--board", choices=sorted(_BOARDS), help="read this board's layout")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = ROOT if options.board is None else _BOARDS[options.board](Path(folder))
        found = cost(root, options.seconds)
    found["board"] = options.board or "this machine"
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(
            f"{found['board']}: {found['telemetry_cpu_fraction']:.3%} of a core by the thread, "
            f"{found['process_cpu_fraction']:.3%} by the process, "
            f"{found['telemetry_samples']} samples in {options.seconds:g} s"
        )
    return 0


def cost(root: Path, seconds: float) -> dict[str, object]:
    meter = LoadMeter(root)
    begin_s, begin_cpu_s = time.monotonic(), time.process_time()
    time.sleep(seconds)
    spent_s = time.process_time() - begin_cpu_s
    elapsed_s = time.monotonic() - begin_s
    circumstances = meter.read(own_cpu_s=0.0)
    return {
        "seconds": elapsed_s,
        "telemetry_samples": circumstances.telemetry_samples,
        "telemetry_cpu_fraction": circumstances.telemetry_cpu_fraction,
        "process_cpu_fraction": spent_s / elapsed_s,
    }


if __name__ == "__main__":
    sys.exit(main())
