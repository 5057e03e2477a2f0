"""Does the stop rule stop in time, and does the interval of what it calls ok hold the truth?

Synthetic clocks of a known median drive the agent's own planning, summarising, stopping and
judging (tests/device_agent/synthetic_clocks.py). Printed for each clock and setting: the share of
looks called ok, the share of those whose 95 % interval holds the true median, all verdicts, and
how long a look took on the clock.

Usage: python benchmarks/simulate_stop_rule.py [--trials 1000] [--seed 7] [--json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.device_agent import synthetic_clocks as synthetic

PROCESSES = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    jobs = [
        (setting, index, options.trials, options.seed)
        for setting in synthetic.SETTINGS
        for index in range(len(synthetic.CLOCKS))
    ]
    jobs += [
        ("default", -1 - i, options.trials, options.seed) for i in range(len(synthetic.PAIRS))
    ]
    rows = []
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for row in pool.imap(simulate, jobs):
            rows.append(row)
            print(f"{len(rows)} of {len(jobs)} clocks", end="\r", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if options.json:
        print(json.dumps({"trials": options.trials, "seed": options.seed, "rows": rows}, indent=1))
    else:
        show(rows)
    return 0


def simulate(job: tuple[str, int, int, int]) -> dict[str, Any]:
    setting, index, trials, seed = job
    precision = synthetic.SETTINGS[setting]
    done = []
    for trial in range(trials):
        rng = np.random.default_rng([seed, index + 1000, trial])
        if index < 0:
            done.append(synthetic.try_pair_once(synthetic.PAIRS[-1 - index], precision, rng))
        else:
            done.append(synthetic.try_once(synthetic.CLOCKS[index], precision, rng))
    named = synthetic.PAIRS[-1 - index] if index < 0 else synthetic.CLOCKS[index]
    ok = [one for one in done if one.is_ok]
    durations_s = [one.duration_s for one in done]
    return {
        "setting": setting,
        "clock": named.name,
        "ok": len(ok) / trials,
        "coverage_of_ok": sum(one.covers for one in ok) / len(ok) if ok else None,
        "coverage_of_all": sum(one.covers for one in done) / trials,
        "verdicts": dict(Counter(one.verdict.value if one.verdict else "none" for one in done)),
        "median_duration_s": float(np.median(durations_s)),
        "p90_duration_s": float(np.quantile(durations_s, 0.9)),
    }


def show(rows: list[dict[str, Any]]) -> None:
    print(
        f"{'setting':16} {'clock':34} {'ok':>6} {'covers':>7} {'of all':>7} "
        f"{'median':>8} {'p90':>8}  verdicts"
    )
    for row in rows:
        covers = row["coverage_of_ok"]
        print(
            f"{row['setting']:16} {row['clock']:34} {row['ok']:6.1%} "
            f"{'-' if covers is None else f'{covers:.1%}':>7} {row['coverage_of_all']:7.1%} "
            f"{row['median_duration_s']:6.2f} s {row['p90_duration_s']:6.2f} s  "
            + ", ".join(f"{name} {count}" for name, count in sorted(row["verdicts"].items()))
        )


if __name__ == "__main__":
    sys.exit(main())
