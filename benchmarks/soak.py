"""Does an agent that measures all day leak anything?

A real agent in a process of its own, asked over loopback by the host's own client for one
measurement after the other, each of another artifact, programmed times on a virtual clock. Every
tenth artifact is followed by one whose worker crashes. The artifacts together are several times
what the agent may store. Looked at while the agent is idle: its open files, threads, processes
below it, resident memory, disk, and folders of workers.

Exits with 1 if a bound is broken. The figures are compared with the first look, which is taken
when the agent has done a tenth of its work (10 measurements at least).

Usage: python benchmarks/soak.py [--measurements 1000] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient, artifact_name
from boardfront.protos import records

if TYPE_CHECKING:
    from collections.abc import Iterator

_ARTIFACT_BYTES = 256 << 10
_MAX_STORE_MB = 32
_MEMORY_BYTES = 5 << 20
_MORE_FILES = 2
_MORE_THREADS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """The agent at one moment, idle."""

    measurements: int
    elapsed_s: float
    files: int
    threads: int
    children: int
    rss_bytes: int
    artifacts: int
    artifacts_bytes: int
    other_disk_bytes: int
    worker_folders: int


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measurements", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    # At most a quarter of what is sent is kept, so that eviction really happens.
    store_mb = max(1, min(_MAX_STORE_MB, options.measurements * _ARTIFACT_BYTES >> 22))
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), store_mb) as running:
        looks = soak(*running, options.measurements)
    broken = broken_bounds(looks, store_mb)
    if options.json:
        print(json.dumps({"looks": [asdict(look) for look in looks], "broken": broken}, indent=2))
    else:
        print_table(looks, broken)
    return 1 if broken else 0


@contextlib.contextmanager
def serving(folder: Path, store_mb: int) -> Iterator[tuple[Path, psutil.Process, str]]:
    """Run an agent; yield its folder, its process and its address."""
    state, temporary = folder / "state", folder / "tmp"
    temporary.mkdir()
    state.mkdir()
    with (state / "agent.log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "boardfront.device_agent.cli", "serve"),
                *("--listen", "127.0.0.1:0", "--state", str(state), "--exit-with-stdin"),
                *("--artifact-store-mb", str(store_mb)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**dict(psutil.Process().environ()), "TMPDIR": str(temporary)},
        )
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        address = process.stdout.readline().removeprefix("listening on ").strip()
        yield folder, psutil.Process(process.pid), address
    finally:
        process.stdin.close()
        process.wait(timeout=30.0)
        process.stdout.close()


def soak(folder: Path, agent: psutil.Process, address: str, measurements: int) -> list[Look]:
    """Measure; return how the agent looked every tenth of the way."""
    client = AgentClient(RemoteAddress(address))
    step = max(10, measurements // 10)
    looks = []
    begin_s = time.monotonic()
    try:
        client.describe()
        for number in range(1, measurements + 1):
            time_s = 0.001 + number * 1e-6
            measure(client, number, time_s=time_s)
            if number % 10 == 0:
                measure(client, number, time_s=time_s, fault="crash-run")
            if number % step == 0:
                looks.append(look(folder, agent, number, time.monotonic() - begin_s))
    finally:
        client.close()
    return looks


def measure(client: AgentClient, number: int, *, time_s: float, fault: str = "none") -> None:
    """Measure one artifact of its own and have the agent forget the job.

    Raises:
        SystemExit: If the answer is not the programmed one.
    """
    programme = json.dumps({"time_s": time_s, "fault": fault}).encode()
    content = programme + b" " * (_ARTIFACT_BYTES - len(programme))
    name = artifact_name(content)
    job = records.Job(
        job_id=f"soak-{number}-{fault}",
        subjects=(records.Subject(subject_id="s", artifact_sha256=name, backend="fake"),),
        task=records.Task(),
        precision=records.Precision(min_duration_s=0.5),
    )
    answer = client.run(job, {name: content}, lambda _: None)["s"]
    client.acknowledge(job.job_id)
    if isinstance(answer, records.Failure):
        right = fault != "none" and answer.kind is records.FailureKind.CRASHED
    else:
        right = fault == "none" and abs(answer.statistics.median_s / time_s - 1) < 0.01
    if not right:
        raise SystemExit(f"measurement {number} ({fault}) came to {answer}")


def look(folder: Path, agent: psutil.Process, measurements: int, elapsed_s: float) -> Look:
    """Count what the agent holds."""
    state = folder / "state"
    artifacts = [path.stat().st_size for path in (state / "artifacts").iterdir()]
    disk_bytes = sum(path.stat().st_size for path in state.rglob("*") if path.is_file())
    return Look(
        measurements=measurements,
        elapsed_s=elapsed_s,
        files=agent.num_fds(),
        threads=agent.num_threads(),
        children=len(agent.children(recursive=True)),
        rss_bytes=agent.memory_info().rss,
        artifacts=len(artifacts),
        artifacts_bytes=sum(artifacts),
        other_disk_bytes=disk_bytes - sum(artifacts),
        worker_folders=len(list((folder / "tmp").glob("boardfront-worker-*"))),
    )


def broken_bounds(looks: list[Look], store_mb: int) -> list[str]:
    """Return what leaked, in words."""
    first, broken = looks[0], []
    for now in looks:
        checks = {
            "open files": now.files <= first.files + _MORE_FILES,
            "threads": now.threads <= first.threads + _MORE_THREADS,
            "processes": now.children == 0,
            "memory": now.rss_bytes <= first.rss_bytes + _MEMORY_BYTES,
            "artifacts": now.artifacts_bytes <= store_mb << 20,
            "disk": now.other_disk_bytes <= first.other_disk_bytes + 200 * now.measurements,
            "worker folders": now.worker_folders == 0,
        }
        broken += [
            f"{name} after {now.measurements} measurements"
            for name, holds in checks.items()
            if not holds
        ]
    return broken


def print_table(looks: list[Look], broken: list[str]) -> None:
    """Print the figures for a person."""
    print(
        f"{'done':>6} {'time s':>7} {'files':>6} {'threads':>8} {'children':>9} {'RSS MiB':>8} "
        f"{'artifacts':>10} {'MiB':>6} {'other KiB':>10} {'folders':>8}"
    )
    for now in looks:
        print(
            f"{now.measurements:>6} {now.elapsed_s:>7.1f} {now.files:>6} {now.threads:>8} "
            f"{now.children:>9} {now.rss_bytes / 2**20:>8.2f} {now.artifacts:>10} "
            f"{now.artifacts_bytes / 2**20:>6.2f} {now.other_disk_bytes / 2**10:>10.1f} "
            f"{now.worker_folders:>8}"
        )
    print("broken: " + "; ".join(broken) if broken else "every bound holds")


if __name__ == "__main__":
    sys.exit(main())
