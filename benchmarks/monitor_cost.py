"""What it costs a search that it is watched: the same search with and without monitors, in turns.

Each search is a command of its own with the fake backend on this machine, an empty store and the
same seed. The monitors are `boardfront monitor` on terminals of their own (160x50), as three
people would have them open; what they draw is read and thrown away. A round is one search of
each kind, and the kind that goes first changes from round to round.

The time of a search is what its evaluations took, out of its journal; the wall time of the whole
command, with its short training and its finalists, is told beside it.

Usage: python benchmarks/monitor_cost.py [--evaluations 2000] [--rounds 5] [--monitors 3]
"""

from __future__ import annotations

import argparse
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from boardfront.host import journal_records as records
from boardfront.host.journal import read_journal
from boardfront.host.run_folder import RunFolder, list_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEAVES_WITHIN_S = 20.0

EXPERIMENT = """\
seed = 3

[space]
name = "spos"
resolution = 8
classes = 10
in_channels = 1
stem_channels = 8
stem_stride = 1
stages = [[16, 3], [32, 3]]
last_channels = 32

[data]
name = "digits"

[supernet]
epochs = 1
batch = 64
learning_rate = 0.2
recalibration_images = 64
device = "cpu"
augment = false

[search]
population = 50
evaluations = {evaluations}

[[target]]
name = "here"
device = "local"
backend = "fake"
options = {{ time_s = 0.001 }}
min_duration_s = 0.05
reference = "none"

[[objective]]
name = "accuracy"
kind = "accuracy"

[[objective]]
name = "latency"
kind = "latency"
target = "here"

[finalists]
precision = 0.1
min_duration_s = 0.05
processes = 1
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Searched:
    """What one search took.

    Args:
        search_s: Its evaluations together.
        wall_s: The whole command.
        monitors_s: Processor time of all monitors.
    """

    search_s: float
    wall_s: float
    monitors_s: float


def main() -> int:
    """Search with and without monitors, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluations", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--monitors", type=int, default=3)
    options = parser.parse_args()
    found: dict[int, list[Searched]] = {0: [], options.monitors: []}
    print("| round | monitors | evaluations | command | processor time of the monitors |")
    print("|---|---|---|---|---|")
    for number in range(options.rounds):
        kinds = sorted(found, reverse=number % 2 == 1)
        for monitors in kinds:
            one = search(options.evaluations, monitors)
            found[monitors].append(one)
            print(
                f"| {number + 1} | {monitors} | {one.search_s:.2f} s | {one.wall_s:.2f} s "
                f"| {one.monitors_s:.2f} s |",
                flush=True,
            )
    tell(found[0], found[options.monitors])
    return 0


def tell(without: list[Searched], watched: list[Searched]) -> None:
    """Print the ratio of the medians, and how far the rounds are from each other."""
    for what, of in (("search", "search_s"), ("command", "wall_s")):
        alone, seen = ([getattr(one, of) for one in kind] for kind in (without, watched))
        ratios = [b / a for a, b in zip(alone, seen, strict=True)]
        print(
            f"{what}: {median(seen):.2f} s watched, {median(alone):.2f} s alone: "
            f"{median(seen) / median(alone) - 1:+.2%} "
            f"(rounds {min(ratios) - 1:+.2%} .. {max(ratios) - 1:+.2%}; "
            f"alone {min(alone):.2f} .. {max(alone):.2f} s)"
        )


def search(evaluations: int, monitors: int) -> Searched:
    """Run one search in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        file = place / "watched.toml"
        file.write_text(EXPERIMENT.format(evaluations=evaluations), encoding="utf-8")
        environment = {
            **os.environ,
            "XDG_STATE_HOME": str(place / "state"),
            "BOARDFRONT_STORE": str(place / "measurements.db"),
            "BOARDFRONT_FLEET": str(place / "fleet.toml"),
            "TERM": "xterm-256color",
        }
        said = place / "said.txt"
        begun_s = time.monotonic()
        with said.open("wb") as output:
            command = _start(["search", str(file)], place, environment, output.fileno())
            with ExitStack() as stack:
                watchers = [
                    stack.enter_context(_monitor(place, environment)) for _ in range(monitors)
                ]
                code = command.wait()
                wall_s = time.monotonic() - begun_s
        if code:
            raise SystemExit(said.read_text(encoding="utf-8"))
        (folder,) = list_runs(place / "runs")
        return Searched(
            search_s=_search_s(folder), wall_s=wall_s, monitors_s=sum(w.busy_s for w in watchers)
        )


class _Watcher:
    """A monitor on a terminal of its own."""

    def __init__(self, place: Path, environment: dict[str, str]) -> None:
        self.busy_s = 0.0
        self._terminal, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        self._process = _start(["monitor"], place, environment, slave)
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Leave as a person does, or be ended where that does not help."""
        os.write(self._terminal, b"q")
        killer = threading.Timer(_LEAVES_WITHIN_S, self._process.kill)
        killer.start()
        _, _, usage = os.wait4(self._process.pid, 0)
        killer.cancel()
        self.busy_s = usage.ru_utime + usage.ru_stime
        self._process.returncode = 0
        self._reader.join()
        os.close(self._terminal)

    def _read(self) -> None:
        with suppress(OSError):
            while os.read(self._terminal, 65536):
                pass


@contextmanager
def _monitor(place: Path, environment: dict[str, str]) -> Iterator[_Watcher]:
    watcher = _Watcher(place, environment)
    try:
        yield watcher
    finally:
        watcher.close()


def _start(
    arguments: list[str], place: Path, environment: dict[str, str], output: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "boardfront.host.cli", *arguments],
        cwd=place,
        env=environment,
        stdin=output,
        stdout=output,
        stderr=output,
    )


def _search_s(folder: RunFolder) -> float:
    history = read_journal(folder.journal).records
    return sum(r.elapsed_s for r in history if isinstance(r, records.Evaluation))


if __name__ == "__main__":
    sys.exit(main())
