"""A search so small that a test can wait for it, and the command line in a place of its own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
from tests.device_agent.harness import until

from boardfront.host import journal_records as records
from boardfront.host.journal import read_journal
from boardfront.host.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from typing_extensions import Self

_Record = TypeVar("_Record")

WITHIN_S = 200.0
"""Longest wait for a whole search; an idle machine needs a tenth."""

EVALUATIONS = 10
EPOCHS = 3
PROCESSES = 2

# Programmed times and one thread: everything in the front is a function of this file.
EXPERIMENT = f"""\
seed = 3

[space]
name = "spos"
resolution = 8
classes = 10
in_channels = 1
stem_channels = 8
stem_stride = 1
stages = [[16, 2], [32, 2]]
last_channels = 32

[data]
name = "digits"

[supernet]
epochs = {EPOCHS}
batch = 64
learning_rate = 0.2
recalibration_images = 128
device = "cpu"
augment = false

[search]
population = 5
evaluations = {EVALUATIONS}

[[target]]
name = "here"
device = "local"
backend = "fake"
min_duration_s = 0.05

[[objective]]
name = "accuracy"
kind = "accuracy"

[[objective]]
name = "latency"
kind = "latency"
target = "here"

[finalists]
precision = 0.05
min_duration_s = 0.05
processes = {PROCESSES}
"""


class Place:
    """A folder with a person's files: nothing outside is touched.

    Args:
        folder: Empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "measurements.db"
        self.fleet = folder / "fleet.toml"
        self.runs = folder / "runs"
        self.experiment = folder / "tiny.toml"
        self.experiment.write_text(EXPERIMENT)

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that say where things are."""
        return {
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "BOARDFRONT_STORE": str(self.store),
            "BOARDFRONT_FLEET": str(self.fleet),
            # Two searches' threads that wait for each other busily take a hundred times as long.
            "OMP_NUM_THREADS": "1",
        }

    @property
    def run_folder(self) -> RunFolder:
        """The only run here."""
        (found,) = self.runs.iterdir()
        return RunFolder(found)

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `boardfront` to its end."""
        return subprocess.run(
            _command(arguments),
            cwd=self.folder,
            env={**os.environ, **self.settings},
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )

    def start(self, *arguments: str) -> Running:
        """Start `boardfront`."""
        return Running(self, arguments)

    def resume_arguments(self) -> tuple[str, ...]:
        """The arguments that go on with the only run."""
        return ("search", "--resume", str(self.run_folder.path))


class Running:
    """A `boardfront` that may be interrupted. Killed at the end of its `with`."""

    def __init__(self, place: Place, arguments: Sequence[str]) -> None:
        self._errors = place.folder / "stderr.txt"
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                _command(arguments),
                cwd=place.folder,
                env={**os.environ, **place.settings},
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        self._place = place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait()

    @property
    def stderr(self) -> str:
        """What it said so far."""
        return self._errors.read_text()

    def signal(self, number: signal.Signals) -> int:
        """Send a signal to the host process alone and return its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return its exit code."""
        return self.process.wait(timeout=WITHIN_S)

    def until_journalled(self, kind: type[_Record], count: int) -> None:
        """Wait until the run's journal holds so many records of a kind."""

        def enough() -> bool:
            assert self.process.poll() is None, self.stderr
            runs = self._place.runs
            return runs.is_dir() and any(
                len(journalled(RunFolder(path), kind)) >= count for path in runs.iterdir()
            )

        until(enough, within_s=WITHIN_S)

    def agent(self) -> psutil.Process:
        """The local agent that it started."""
        return next(
            child
            for child in psutil.Process(self.process.pid).children()
            if "boardfront.device_agent.cli" in child.cmdline()
        )


def journalled(folder: RunFolder, kind: type[_Record]) -> list[_Record]:
    """Return a run's records of one kind so far."""
    if not folder.journal.exists():
        return []
    return [record for record in read_journal(folder.journal).records if isinstance(record, kind)]


def front(folder: RunFolder) -> dict[str, Any]:
    """Return a finished run's front."""
    content: dict[str, Any] = json.loads(folder.front_json.read_text())
    return content


def gist(folder: RunFolder) -> list[tuple[object, ...]]:
    """Return what two runs of one experiment must have in common, a row a member."""
    return [
        (
            member["encoding"],
            member["validation_accuracy"],
            member["test_accuracy"],
            {name: time["median_s"] for name, time in member["searched"].items()},
        )
        for member in front(folder)["members"]
    ]


def finalist_times_s(folder: RunFolder) -> list[float]:
    """Return all times of the members measured whole, in order.

    How many windows fit depends on the machine's load, so two runs give nearly the same.
    """
    wholes = [time for member in front(folder)["members"] for time in member["whole"].values()]
    return [s for w in wholes for s in (*w["process_medians_s"], w["latency"]["median_s"])]


def evaluated(folder: RunFolder) -> list[str]:
    """Return the encodings that were scored, in order."""
    return [record.encoding for record in journalled(folder, records.Evaluation)]


def times_measured(store: Path, purpose: str) -> list[int]:
    """Return how often each key was measured for a purpose."""
    with closing(sqlite3.connect(store)) as connection:
        rows = connection.execute(
            "select count(*) from measurements where purpose = ? group by key_digest", (purpose,)
        ).fetchall()
    return [count for (count,) in rows]


def errors(stderr: str) -> Iterator[str]:
    """Yield the lines that tell an error; progress is not among them."""
    return (line for line in stderr.splitlines() if line.startswith("boardfront: "))


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "boardfront.host.cli", *arguments]
