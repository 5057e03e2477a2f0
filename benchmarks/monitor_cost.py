"""What it costs a search that it is watched: watched and unwatched stretches of it in turn.

The search is a command of its own with the fake backend on this machine and an empty store. The
monitors are `boardfront monitor` on terminals of their own (160x50), as three people would have
them open; what they draw is read and thrown away. After each stretch of evaluations they are
stopped (SIGTSTP) or let go on (SIGCONT), where they also read and draw what they missed. Two
stretches are a pair, and the kind that goes first changes from pair to pair, so that a machine
whose level wanders within minutes does so for both alike.

The time of an evaluation is what the run's journal says it took; the one during which the monitors
change is left out, and so are those before the monitors have drawn. Told are the median over the
pairs of the ratio of their stretches, by medians and by means, with 95 % bootstrap intervals.

Usage: python benchmarks/monitor_cost.py [--evaluations 2000] [--stretch 20] [--monitors 3]
"""

from __future__ import annotations

import argparse
import math
import os
import pty
import signal
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
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boardfront.host import journal_records as records
from boardfront.host.journal import read_journal
from boardfront.host.run_folder import RunFolder, list_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_LEAVES_WITHIN_S = 20.0
_POLL_S = 0.02
_UNTIL_DRAWN = 2
"""Stretches that are waited for until the monitors have surely drawn."""

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
class Stretch:
    """Evaluations that follow each other.

    Args:
        watched: Whether the monitors ran.
        times_s: What each took.
    """

    watched: bool
    times_s: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Searched:
    """What one search took.

    Args:
        pairs: Its stretches, two and two.
        wall_s: The whole command.
        monitors_s: Processor time of all monitors.
    """

    pairs: tuple[tuple[Stretch, Stretch], ...]
    wall_s: float
    monitors_s: float


def main() -> int:
    """Search, and print what the stretches took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluations", type=int, default=2000)
    parser.add_argument("--stretch", type=int, default=20)
    parser.add_argument("--monitors", type=int, default=3)
    options = parser.parse_args()
    tell(search(options.evaluations, options.stretch, options.monitors))
    return 0


def tell(searched: Searched) -> None:
    """Print what was found."""
    pairs = searched.pairs
    print(
        f"{searched.wall_s:.0f} s for the command; monitors {searched.monitors_s:.1f} s of "
        f"processor time, running half of the time; {len(pairs)} pairs"
    )
    for watched in (True, False):
        times_s = [
            t for pair in pairs for one in pair if one.watched is watched for t in one.times_s
        ]
        low, middle, high = np.percentile(times_s, (25, 50, 75)).tolist()
        print(
            f"{'watched' if watched else 'alone'}: {len(times_s)} evaluations, median "
            f"{middle:.4f} s (quartiles {low:.4f} .. {high:.4f} s), {sum(times_s):.1f} s in all"
        )
    for name, of in (("medians", np.median), ("means", np.mean)):
        logs = np.array([_log_ratio(pair, of) for pair in pairs])
        rng = np.random.default_rng(0)
        drawn = np.median(rng.choice(logs, (10_000, len(logs))), axis=1)
        low, high = np.expm1(np.percentile(drawn, (2.5, 97.5))).tolist()
        first, third = np.expm1(np.percentile(logs, (25, 75))).tolist()
        print(
            f"watched against alone, by {name} of stretches: {np.expm1(np.median(logs)):+.2%} "
            f"(95 % {low:+.2%} .. {high:+.2%}; half of the pairs {first:+.1%} .. {third:+.1%})"
        )


def _log_ratio(pair: tuple[Stretch, Stretch], of: Callable[[Sequence[float]], Any]) -> float:
    watched, alone = sorted(pair, key=lambda one: not one.watched)
    return math.log(of(watched.times_s) / of(alone.times_s))


def search(evaluations: int, stretch: int, monitors: int) -> Searched:
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
                switches = _in_turn(command, place / "runs", watchers, stretch)
                code = command.wait()
                wall_s = time.monotonic() - begun_s
        if code:
            raise SystemExit(said.read_text(encoding="utf-8"))
        (folder,) = list_runs(place / "runs")
        return Searched(
            pairs=_pairs(_times_s(folder), switches),
            wall_s=wall_s,
            monitors_s=sum(w.busy_s for w in watchers),
        )


def _in_turn(
    command: subprocess.Popen[bytes], runs: Path, watchers: list[_Watcher], stretch: int
) -> list[tuple[int, bool]]:
    """Let the monitors run and stand in turn until the command ends.

    Returns:
        For each stretch how many evaluations stood in the journal when it began, and whether it
        is a watched one.
    """
    switches: list[tuple[int, bool]] = []
    done = 0
    journal = None
    position = 0
    while command.poll() is None:
        time.sleep(_POLL_S)
        if journal is None:
            journal = next(iter(runs.glob("*/journal.jsonl")), None)
            continue
        with journal.open("rb") as file:
            file.seek(position)
            data = file.read()
        position += len(data)
        done += data.count(b'"type":"evaluation"')
        if done < (len(switches) + _UNTIL_DRAWN) * stretch:
            continue
        watched = len(switches) % 4 in {0, 3}
        for watcher in watchers:
            watcher.let(run=watched)
        switches.append((done, watched))
    for watcher in watchers:
        watcher.let(run=True)
    return switches


def _pairs(
    times_s: list[float], switches: list[tuple[int, bool]]
) -> tuple[tuple[Stretch, Stretch], ...]:
    """Return what lies between switches, without the evaluation that each fell into."""
    stretches = [
        Stretch(watched=watched, times_s=tuple(times_s[begin + 1 : end]))
        for (begin, watched), (end, _) in pairwise(switches)
    ]
    return tuple(zip(stretches[::2], stretches[1::2], strict=False))


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

    def let(self, *, run: bool) -> None:
        """Let it go on, or stop it where it is."""
        self._process.send_signal(signal.SIGCONT if run else signal.SIGTSTP)

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


def _times_s(folder: RunFolder) -> list[float]:
    history = read_journal(folder.journal).records
    return [r.elapsed_s for r in history if isinstance(r, records.Evaluation)]


if __name__ == "__main__":
    sys.exit(main())
