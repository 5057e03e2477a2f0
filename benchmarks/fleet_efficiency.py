"""How much of a search's time do its boards work, and how much faster are four than one?

Real agents in processes of their own on this machine, asked over loopback; the backend `fake`
sleeps the times that it is programmed to take and lets them be read exactly, so that the boards
cost no processor and the figures are about everything else: the search, the export, the accuracy
(an estimator that takes `--accuracy-s`, asleep like one on a graphics card), the wire, the queue,
the store, the start of workers. Networks of a small space, NSGA-II, one subject a job that sleeps
1 to 2 s, the sentinel after every 20 jobs as in any search without a reference.

Busy is told twice, between the first job's start and the last one's end:
- running: a job is between its first phase (its workers start) and its end;
- slept: the backend slept, i.e. a real board would have worked for the network. The rest of a
  job is the start of its worker and the talk between the agent and it.

The searches with one and with several boards, and with nothing overlapped, must give the same
candidates in the same order with the same times; exits with 1 if they do not.

Usage: python benchmarks/fleet_efficiency.py [--candidates 200] [--boards 1 4] [--serial] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.host.experiment import TargetSettings
from boardfront.host.targets import Targets, TargetSurroundings
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos.records import Finished, Result, Working
from boardfront.search.algorithms import catalog as algorithms
from boardfront.search.evaluation import CandidateEvaluator
from boardfront.search.loop import Budget, search
from boardfront.search.objective import Objective, ObjectiveKind
from boardfront.search.spaces import catalog as spaces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boardfront.host.targets import ConnectedTarget
    from boardfront.protos.records import JobEvent
    from boardfront.search.evaluation import Candidate, LatencySource

_SPACE = {"resolution": 16, "classes": 10, "stem_channels": 16, "stages": [[32, 4], [64, 4]]}
_OBJECTIVES = (
    Objective(name="accuracy", kind=ObjectiveKind.ACCURACY),
    Objective(name="latency", kind=ObjectiveKind.LATENCY, target="board"),
)
_LOOK_S = 0.8
_TIME_S = "0.001-0.004"
_COMPILE_S = "0-1"
"""With a warm-up of 0.2 s and windows of 0.8 s a job sleeps 1 to 2 s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One search."""

    boards: int
    overlapped: bool
    candidates: int
    jobs: int
    first_to_last_job_s: float
    running_share: float
    slept_share: float
    candidates_a_s: float
    gap_s: float
    digest: str


class _Estimator:
    """Knows an accuracy of every encoding, after a while."""

    state_id = "benchmark"

    def __init__(self, takes_s: float) -> None:
        self._takes_s = takes_s

    def validation_accuracy(self, encoding: str) -> float:
        time.sleep(self._takes_s)
        return int(hashlib.sha256(encoding.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


class _Log:
    """Listens to all boards' jobs: when each ran, by the agents' clock, which is this one's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun_s: dict[int, float] = {}
        self.jobs: dict[int, list[tuple[float, float]]] = defaultdict(list)
        self.slept_s = 0.0
        self.candidates = 0

    def __call__(self, label: str, event: JobEvent) -> None:
        board = threading.get_ident()
        with self._lock:
            if isinstance(event.body, Working):
                self._begun_s.setdefault(board, event.time_unix_s)
            if isinstance(event.body, Result):
                self.slept_s += _slept_s(event.body)
                self.candidates += label != "sentinel"
            if isinstance(event.body, Finished) and board in self._begun_s:
                self.jobs[board].append((self._begun_s.pop(board), event.time_unix_s))


class _Seen:
    """Follows a search."""

    def __init__(self) -> None:
        self.candidates: list[tuple[int, int, str, float | None]] = []

    def before(self, index: int, encoding: str) -> None:
        """Nobody wants to stop."""

    def scored(self, index: int, generation: int, candidate: Candidate) -> None:
        """Keep what a journal would."""
        latency = candidate.latencies.get("board")
        self.candidates.append(
            (index, generation, candidate.encoding, latency.median_s if latency else None)
        )

    def generation_done(self, generation: int, front: Sequence[Candidate]) -> None:
        """Say how far it is."""
        sys.stderr.write(f"  generation {generation}: front of {len(front)}\n")


class _Alone:
    """A LatencySource that lets nothing overlap its measurements."""

    ahead = 0

    def __init__(self, target: ConnectedTarget) -> None:
        self.corrections = target.source.corrections
        self.latency = target.source.latency
        self.begin = target.source.begin


def main() -> int:
    """Run all searches, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--population", type=int, default=50)
    parser.add_argument("--accuracy-s", type=float, default=0.1)
    parser.add_argument("--boards", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--serial", action="store_true", help="also one board without overlap")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = [run(options, count, overlapped=True) for count in options.boards]
    if options.serial:
        runs.insert(0, run(options, 1, overlapped=False))
    if options.json:
        sys.stdout.write(json.dumps([asdict(one) for one in runs], indent=2) + "\n")
    else:
        _print(runs)
    if len({one.digest for one in runs}) > 1:
        sys.stderr.write("the searches differ: expected equal candidates in equal order\n")
        return 1
    return 0


def run(options: argparse.Namespace, boards: int, *, overlapped: bool) -> Run:
    """Search once with so many boards."""
    sys.stderr.write(f"{boards} boards{'' if overlapped else ', nothing overlapped'}\n")
    space = spaces.load("spos", _SPACE)
    log, seen = _Log(), _Seen()
    with _serving(boards) as (folder, addresses), MeasurementStore(folder / "store.db") as store:
        targets = Targets(
            [_target(addresses)],
            space,  # type: ignore[arg-type]
            TargetSurroundings(store=store, job_seed="benchmark", say=_say, listener=log),
        )
        try:
            target = targets.by_name["board"]
            source: LatencySource = target.source if overlapped else _Alone(target)
            search(
                algorithms.load("nsga2")(
                    space,
                    objectives=2,
                    seed=7,
                    population=options.population,
                    crossover_probability=0.9,
                    mutation_probability=0.8,
                ),
                CandidateEvaluator(_Estimator(options.accuracy_s), {"board": source}, {}),
                _OBJECTIVES,
                Budget(evaluations=options.candidates),
                seen,
            )
        finally:
            targets.close()
    return _summary(log, seen, boards, overlapped=overlapped)


def _target(addresses: tuple[str, ...]) -> TargetSettings:
    return TargetSettings(
        name="board",
        device=addresses,
        backend="fake",
        options={"sleep": "along", "time_s": _TIME_S, "compile_s": _COMPILE_S},
        reference="none",
        min_duration_s=_LOOK_S,
    )


def _summary(log: _Log, seen: _Seen, boards: int, *, overlapped: bool) -> Run:
    intervals = [job for jobs in log.jobs.values() for job in jobs]
    first_s = min(begin_s for begin_s, _ in intervals)
    last_s = max(end_s for _, end_s in intervals)
    wall_s = last_s - first_s
    gaps_s = sorted(
        after - before
        for jobs in log.jobs.values()
        for (_, before), (after, _) in itertools.pairwise(jobs)
    )
    return Run(
        boards=boards,
        overlapped=overlapped,
        candidates=len(seen.candidates),
        jobs=len(intervals),
        first_to_last_job_s=wall_s,
        running_share=sum(end_s - begin_s for begin_s, end_s in intervals) / wall_s / boards,
        slept_share=log.slept_s / wall_s / boards,
        candidates_a_s=log.candidates / wall_s,
        gap_s=gaps_s[len(gaps_s) // 2],
        digest=hashlib.sha256(repr(seen.candidates).encode()).hexdigest()[:12],
    )


def _slept_s(result: Result) -> float:
    """Return what the backend slept: its compiling, its warm-up, its windows and their gaps."""
    last = result.windows[-1]
    window_s = (len(last.samples_s) + 1) * last.loops * result.statistics.median_s
    return result.compile_s + sum(result.warm_up_s) + last.start_s + window_s


def _print(runs: Sequence[Run]) -> None:
    base = next(one for one in runs if one.overlapped)
    sys.stdout.write(
        "| boards | overlap | jobs | first to last | running | slept | between jobs "
        "| candidates a second | against one |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    for one in runs:
        sys.stdout.write(
            f"| {one.boards} | {'yes' if one.overlapped else 'no'} | {one.jobs} "
            f"| {one.first_to_last_job_s:.1f} s | {one.running_share:.1%} "
            f"| {one.slept_share:.1%} | {1e3 * one.gap_s:.0f} ms | {one.candidates_a_s:.3f} "
            f"| {one.candidates_a_s / base.candidates_a_s:.2f} |\n"
        )


@contextlib.contextmanager
def _serving(boards: int) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Run so many agents, each in a process and a folder of its own."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        agents = [stack.enter_context(_agent(folder / f"agent{i}")) for i in range(boards)]
        yield folder, tuple(agents)


@contextlib.contextmanager
def _agent(state: Path) -> Iterator[str]:
    state.mkdir()
    with (state / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "boardfront.device_agent.cli", "serve"),
                *("--listen", "127.0.0.1:0", "--state", str(state), "--exit-with-stdin"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ,
        )
    if process.stdout is None or process.stdin is None:
        raise AssertionError("both are pipes")
    with process, process.stdout, process.stdin:
        yield process.stdout.readline().split()[-1]
        process.stdin.close()
        process.wait(timeout=20.0)


def _say(line: str) -> None:
    sys.stderr.write(f"  {line}\n")


if __name__ == "__main__":
    sys.exit(main())
