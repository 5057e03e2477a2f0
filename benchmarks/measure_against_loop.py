"""Does `boardfront measure` say what a plain loop over onnxruntime says?

Three real networks out of the onnx package, one thread each. A plain loop in a fresh process and
a measurement by a real agent alternate, round by round, so that a wandering machine moves both.
Printed: the median of each over the rounds, their ratio, and the ratio's spread over the rounds.

Usage: python benchmarks/measure_against_loop.py [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import onnx

from boardfront.host.fleet.address import LocalAgent
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.host.models import read_model
from boardfront.latency_models.base import TimeRequest
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos.records import Deadlines, Precision, Task

NETWORKS = ("light_resnet50", "light_squeezenet", "light_densenet121")

_LOOP = """
import sys, time, statistics
import numpy as np, onnxruntime as ort
settings = ort.SessionOptions()
settings.intra_op_num_threads = 1
settings.inter_op_num_threads = 1
settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = ort.InferenceSession(sys.argv[1], settings, providers=["CPUExecutionProvider"])
rng = np.random.default_rng(0)
feed = {i.name: rng.standard_normal(i.shape).astype(np.float32) for i in session.get_inputs()}
for _ in range(25):
    session.run(None, feed)
times, end = [], time.perf_counter() + 2.0
while time.perf_counter() < end:
    begin = time.perf_counter()
    session.run(None, feed)
    times.append(time.perf_counter() - begin)
print(statistics.median(times))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    rows = []
    with tempfile.TemporaryDirectory() as state:
        agent = LocalAgent(Path(state) / "agent")
        client = AgentClient(agent)
        with MeasurementStore(Path(state) / "store.db") as store:
            measurer = DeviceMeasurer(client, store)
            try:
                rows = [compare(folder / f"{n}.onnx", measurer, options.rounds) for n in NETWORKS]
            finally:
                client.close()
                agent.close()
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'network':<20} {'loop_s':>9} {'agent_s':>9} {'ratio':>6}  rounds min..max  verdicts")
    for row in rows:
        print(
            f"{row['network']:<20} {row['loop_s']:9.6f} {row['agent_s']:9.6f} "
            f"{row['ratio']:6.3f}  {row['ratio_min']:.3f}..{row['ratio_max']:.3f}     "
            f"{' '.join(row['verdicts'])}"
        )
    return 0


def compare(path: Path, measurer: DeviceMeasurer, rounds: int) -> dict[str, object]:
    loops_s, agents_s, verdicts = [], [], []
    for _ in range(rounds):
        loops_s.append(plain_loop_s(path))
        agent_s, verdict = by_agent(path, measurer)
        agents_s.append(agent_s)
        verdicts.append(verdict)
    ratios = [a / b for a, b in zip(agents_s, loops_s, strict=True)]
    return {
        "network": path.stem,
        "loop_s": median(loops_s),
        "agent_s": median(agents_s),
        "ratio": median(agents_s) / median(loops_s),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "verdicts": verdicts,
    }


def plain_loop_s(path: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _LOOP, str(path)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def by_agent(path: Path, measurer: DeviceMeasurer) -> tuple[float, str]:
    model = read_model(path, batch=1, shapes={})
    (measurement,) = measurer.measure(
        [
            TimeRequest(
                model=model.content,
                structure_hash=model.structure_hash,
                task=Task(),
                backend="onnxruntime",
                precision=Precision(max_duration_s=8.0),
                deadlines=Deadlines(run_s=30.0),
                label=path.stem,
                fresh=True,
            )
        ]
    )
    if measurement.result is None:
        raise SystemExit(f"{path.stem} was not measured: {measurement.failure}")
    return measurement.result.statistics.median_s, measurement.result.verdict.value


if __name__ == "__main__":
    sys.exit(main())
