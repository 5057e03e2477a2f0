"""A run's folder: where everything of one search lies, and how a run is found again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_FORMAT = 1
_REQUESTS = ("pause", "resume", "cancel")
_CANCEL_JOB = "cancel-job"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Names of the files in a run's folder.

    `control/` takes requests, empty files: `pause`, `resume` and `cancel` are for the run;
    `cancel-job` ends the job that is under way for it, `cancel-job-ID` the one of that id.
    """

    path: Path

    @property
    def experiment(self) -> Path:
        """Copy of the experiment file, made when the run began."""
        return self.path / "experiment.toml"

    @property
    def about(self) -> Path:
        """Where the experiment file came from."""
        return self.path / "run.json"

    @property
    def journal(self) -> Path:
        """Typed JSON lines: everything that happened, in order."""
        return self.path / "journal.jsonl"

    @property
    def ledger(self) -> Path:
        """Which board got which job, where there are several; which was left out, and why."""
        return self.path / "boards.jsonl"

    @property
    def control(self) -> Path:
        """Folder for requests to the run."""
        return self.path / "control"

    @property
    def log(self) -> Path:
        """What the run said beside its journal, a line each with the time before it."""
        return self.path / "log.txt"

    @property
    def supernet(self) -> Path:
        """The supernet's last checkpoint."""
        return self.path / "checkpoints" / "supernet.pt"

    @property
    def models(self) -> Path:
        """Folder of the finalists' ONNX files."""
        return self.path / "models"

    @property
    def front_json(self) -> Path:
        """The front with everything known of it."""
        return self.path / "front.json"

    @property
    def front_csv(self) -> Path:
        """The front as a table, units in the header."""
        return self.path / "front.csv"

    @property
    def report(self) -> Path:
        """The front for people."""
        return self.path / "report.txt"

    @property
    def measurements(self) -> Path:
        """Raw samples and circumstances of every measurement, JSON lines."""
        return self.path / "measurements.jsonl"

    def table(self, target: int) -> Path:
        """Copy of the latency table of a target by its place in the experiment, from 0."""
        return self.path / "tables" / f"{target}.json"

    @property
    def job_seed(self) -> str:
        """What names this run's jobs on the agents."""
        return self._told("job_seed")

    @property
    def source(self) -> Path:
        """The experiment file that the run was started from."""
        return Path(self._told("experiment_source"))

    def _told(self, what: str) -> str:
        """Return what was written down when the run was made.

        Raises:
            WrongInputError: If that is gone.
        """
        try:
            return str(json.loads(self.about.read_text(encoding="utf-8"))[what])
        except (OSError, ValueError, KeyError) as error:
            raise WrongInputError(
                f"{self.about}: expected what the run was made with, got none ({error}): put the "
                "file back from a copy, or begin a new run"
            ) from error

    @property
    def store(self) -> str | None:
        """Where the run's measurements are kept, without a password; None if nobody wrote it."""
        try:
            return self._told("store")
        except WrongInputError:
            return None

    def unwritable(self, problem: OSError) -> BoardfrontError:
        """Return what to say of a file of the run that cannot be written."""
        return BoardfrontError(
            f"{problem.filename or self.path}: expected a file that can be written, got "
            f"{problem.strerror or problem}: check the folder, its rights and the free space, "
            "then resume the run"
        )

    def request(self, what: str) -> None:
        """Lay a request into `control/`.

        Raises:
            WrongInputError: If there is no such request, or the folder cannot be written.
        """
        if what not in _REQUESTS and what != _CANCEL_JOB and not _job_of(what):
            raise WrongInputError(
                f"request {what!r}: expected {', '.join(_REQUESTS)}, {_CANCEL_JOB} or "
                f"{_CANCEL_JOB}-ID"
            )
        try:
            (self.control / what).touch()
        except OSError as error:
            raise WrongInputError(
                f"cannot write to {self.control}: {error.strerror}: ask where the run is"
            ) from error

    def requested(self) -> str | None:
        """Take and return the oldest request to the run in `control/`, or None."""
        return _take_oldest([self.control / name for name in _REQUESTS])

    def job_requested(self) -> str | None:
        """Take the oldest request to end a job; return its id, "" for any, or None for none."""
        try:
            found = [path for path in self.control.iterdir() if _is_of_job(path.name)]
        except OSError:
            return None
        taken = _take_oldest(found)
        return None if taken is None else _job_of(taken)

    def forget_requests(self) -> tuple[str, ...]:
        """Take all requests away; return their names."""
        forgotten = []
        with contextlib.suppress(OSError):
            for path in sorted(self.control.iterdir()):
                if path.name in _REQUESTS or _is_of_job(path.name):
                    path.unlink(missing_ok=True)
                    forgotten.append(path.name)
        return tuple(forgotten)


def _is_of_job(name: str) -> bool:
    return name == _CANCEL_JOB or bool(_job_of(name))


def _job_of(name: str) -> str:
    prefix = f"{_CANCEL_JOB}-"
    return name.removeprefix(prefix) if name.startswith(prefix) else ""


def _take_oldest(paths: Iterable[Path]) -> str | None:
    found = []
    for path in paths:
        # Whoever laid it there may take it back at any moment.
        with contextlib.suppress(OSError):
            found.append((path.stat().st_mtime_ns, path))
    if not found:
        return None
    _, oldest = min(found)
    oldest.unlink(missing_ok=True)
    return oldest.name


def create_run(
    runs: Path,
    name: str,
    experiment: Path,
    tables: Mapping[int, Path] | None = None,
    *,
    store: str = "",
) -> RunFolder:
    """Make the folder of a new run and copy its experiment file there.

    Args:
        runs: Holds all runs.
        name: The folder's begins with it.
        experiment: The file.
        tables: Latency tables by the place of their target, copied too.
        store: Where its measurements are kept, as `run_store.recorded` says it.

    Raises:
        WrongInputError: If the folder cannot be made.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        folder = RunFolder(runs / f"{name}-{stamp}{suffix}")
        try:
            folder.path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise WrongInputError(
                f"cannot make the run folder {folder.path}: {error.strerror}: choose another "
                "by --runs"
            ) from error
        about = {
            "format": _FORMAT,
            "experiment_source": str(experiment.resolve()),
            "job_seed": f"{folder.path.name} {os.urandom(8).hex()}",
            **({"store": store} if store else {}),
        }
        try:
            _fill(folder, experiment, tables or {}, about)
        except OSError as error:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise WrongInputError(
                f"cannot fill the run folder {folder.path}: {error.strerror or error}: make room, "
                "or choose another by --runs"
            ) from error
        return folder
    raise WrongInputError(f"{runs} has a hundred runs of this second: expected fewer")


def _fill(
    folder: RunFolder, experiment: Path, tables: Mapping[int, Path], about: Mapping[str, object]
) -> None:
    folder.control.mkdir()
    folder.models.mkdir()
    folder.supernet.parent.mkdir()
    for target, table in tables.items():
        folder.table(target).parent.mkdir(exist_ok=True)
        folder.table(target).write_bytes(table.read_bytes())
    folder.about.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    # Last: a folder with this file is a run.
    folder.experiment.write_bytes(experiment.read_bytes())


def find_run(text: str, runs: Path) -> RunFolder:
    """Return the run that a person means: `latest`, a name under `runs`, or a folder.

    Raises:
        WrongInputError: If there is none.
    """
    if text == "latest":
        newest = next(list_runs(runs), None)
        if newest is None:
            raise WrongInputError(f"no runs in {runs}: expected one; start it without --resume")
        return newest
    for candidate in (Path(text), runs / text):
        if (candidate / "experiment.toml").is_file():
            return RunFolder(candidate)
    known = ", ".join(folder.path.name for folder in list_runs(runs)) or "none"
    raise WrongInputError(f"no run {text!r}: expected a run's folder or one of {runs}: {known}")


def list_runs(runs: Path) -> Iterator[RunFolder]:
    """Yield the runs under `runs`, newest first."""
    found = [path.parent for path in runs.glob("*/experiment.toml")]
    for path in sorted(found, key=_made_ns, reverse=True):
        yield RunFolder(path)


def _made_ns(run: Path) -> int:
    """Return when a run was made; one that lost its `run.json` is the oldest."""
    try:
        return (run / "run.json").stat().st_mtime_ns
    except OSError:
        return 0
