"""What a search on a latency table costs besides accuracy: seconds and memory.

The whole of it but the estimator: NSGA-II, predictions with their intervals, fronts and
hypervolume after each generation, with the run's own journal and progress or without. The accuracy
is a stub that costs nothing (a hash of the encoding), and the table is made up: what is timed
depends on neither.

Usage: python benchmarks/table_search.py [--evaluations 5000] [--population 100] [--repeats 3]
Each round is a process of its own. Exit code 1 where a round takes 10 s or more, or 500 MB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from boardfront.host.config import parse_experiment
from boardfront.host.journal import Journal
from boardfront.host.progress import make_progress
from boardfront.host.run_folder import RunFolder
from boardfront.host.search_part import RunEvaluator, RunObserver
from boardfront.latency_models.table import NetworkRole, NetworkTime, Table, TableEntry
from boardfront.latency_models.table_models import predictor_of
from boardfront.protos.records import Origin, Target, Task, Verdict
from boardfront.search.algorithms import catalog as algorithms
from boardfront.search.loop import Budget, search
from boardfront.search.spaces import catalog as spaces
from boardfront.search.table_latency import TableLatency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.search.evaluation import Candidate
    from boardfront.search.space import DecomposableSpace

_MOST_S, _MOST_MB = 10.0, 500.0
_NETWORKS = 32

_EXPERIMENT = """\
[space]
name = "spos"

[data]
name = "digits"

[training]
epochs = 1
batch = 64
learning_rate = 0.1

[search]
population = 100
evaluations = 5000

[[target]]
name = "board"
backend = "onnxruntime"

[[objective]]
name = "accuracy"
kind = "accuracy"

[[objective]]
name = "latency"
kind = "latency"
target = "board"
"""


def main() -> int:
    """Print a row a way of running; return 1 where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluations", type=int, default=5000)
    parser.add_argument("--population", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=["journal", "bare"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(_search(given.evaluations, given.population, given.one == "journal")))
        return 0
    print(
        "| search of | seconds, median | least | most | of the processor, median | most memory |"
    )
    print("|---|---|---|---|---|---|")
    is_within = True
    for way, words in (("bare", "without a journal"), ("journal", "with the run's journal")):
        rounds = [_round(given, way) for _ in range(given.repeats)]
        times_s = [one["elapsed_s"] for one in rounds]
        cpu_s = median(one["cpu_s"] for one in rounds)
        peak_mb = max(one["peak_mb"] for one in rounds)
        what = f"{given.evaluations} networks, population {given.population}, {words}"
        print(
            f"| {what} | {median(times_s):.2f} | {min(times_s):.2f} | {max(times_s):.2f} | "
            f"{cpu_s:.2f} | {peak_mb:.0f} MB |"
        )
        is_within = is_within and max(times_s) < _MOST_S and peak_mb < _MOST_MB
    imported_mb = max(one["imported_mb"] for one in rounds)
    print(f"of the memory {imported_mb:.0f} MB are the libraries, before the table is read")
    return 0 if is_within else 1


def _round(given: argparse.Namespace, way: str) -> dict[str, float]:
    done = subprocess.run(
        [
            *(sys.executable, __file__, "--one", way),
            *("--evaluations", str(given.evaluations), "--population", str(given.population)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _search(evaluations: int, population: int, has_journal: bool) -> dict[str, float]:  # noqa: FBT001
    imported_mb = _peak_mb()
    experiment = parse_experiment(_EXPERIMENT, file="table.toml")
    space = spaces.load("spos", {})
    table = _table(space)  # type: ignore[arg-type]
    begun, cpu_s = time.perf_counter(), time.process_time()
    source = TableLatency(
        space,  # type: ignore[arg-type]
        predictor_of(table).model,
        [entry.block for entry in table.entries],
    )
    evaluator = RunEvaluator(_Stub(), {"board": source}, {})
    algorithm = algorithms.load("nsga2")(
        space,
        objectives=2,
        seed=0,
        population=population,
        crossover_probability=0.9,
        mutation_probability=0.8,
    )
    budget = Budget(evaluations=evaluations)
    if not has_journal:
        front = search(algorithm, evaluator, experiment.objectives, budget, _Nobody())
    else:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
            folder = RunFolder(Path(name))
            folder.control.mkdir()
            with Journal(folder.journal) as journal:
                progress = make_progress()
                progress.phase("search", evaluations)
                observer = RunObserver(experiment, folder, journal, progress, {})
                front = search(algorithm, evaluator, experiment.objectives, budget, observer)
                progress.close()
    elapsed_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu_s
    if not front:
        raise SystemExit("expected a front, got none")
    return {
        "elapsed_s": elapsed_s,
        "cpu_s": cpu_s,
        "peak_mb": _peak_mb(),
        "imported_mb": imported_mb,
    }


class _Stub:
    """An estimator that costs nothing."""

    state_id = "stub"

    def validation_accuracy(self, encoding: str) -> float:
        """Return a number from 0 to 1 that has nothing to do with the network."""
        return hashlib.sha256(encoding.encode()).digest()[0] / 255


class _Nobody:
    """An observer that looks away."""

    def before(self, index: int, encoding: str) -> None:
        """Do nothing."""

    def scored(self, index: int, generation: int, candidate: Candidate) -> None:
        """Do nothing."""

    def generation_done(self, generation: int, front: Sequence[Candidate]) -> None:
        """Do nothing."""


def _table(space: DecomposableSpace) -> Table:
    """Return a table of made-up times with whole networks that they nearly add up to."""
    rng = np.random.default_rng(0)
    entries = tuple(
        TableEntry(
            block=block,
            time_s=time_s,
            low_s=0.97 * time_s,
            high_s=1.03 * time_s,
            verdict=Verdict.OK,
            count=100,
        )
        for block, time_s in (
            (block, float(rng.uniform(1e-4, 1e-3))) for block in space.block_kinds() or ()
        )
    )
    times_s = {entry.block: entry.time_s for entry in entries}
    networks = []
    for _ in range(_NETWORKS):
        encoding = space.sample(rng)  # type: ignore[attr-defined]
        blocks = space.decompose(encoding).blocks
        time_s = sum(times_s[block] for block in blocks) * float(rng.normal(1.0, 0.02))
        networks.append(
            NetworkTime(
                encoding=encoding,
                blocks=tuple(block.text for block in blocks),
                role=NetworkRole.HELD_OUT,
                time_s=time_s,
                low_s=0.99 * time_s,
                high_s=1.01 * time_s,
                verdict=Verdict.OK,
            )
        )
    return Table(
        space="spos",
        space_settings={},
        task=Task(resolution=224, classes=1000),
        target=Target(fingerprint="made up", backend="none", backend_version="0", options={}),
        origin=Origin.PROGRAMMED,
        device_id="",
        device_name="nowhere",
        agent_version="",
        built_unix_s=0.0,
        measurement_protocol_version=1,
        base=networks[0].encoding,
        base_s=1.0,
        base_low_s=1.0,
        base_high_s=1.0,
        fixed_s=1e-5,
        fixed_low_s=1e-5,
        fixed_high_s=1e-5,
        entries=entries,
        networks=tuple(networks),
    )


def _peak_mb() -> float:
    """Return the most memory that the process has had; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())
