"""`boardfront search`: a new run, or the rest of an earlier one."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from boardfront.host.tracking.sink import TrackingChoice
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.experiment import Experiment
    from boardfront.host.front import FrontReport
    from boardfront.host.progress import RunProgress
    from boardfront.host.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchArguments:
    """What the person asked."""

    experiment: Path | None
    resume: str | None
    runs: Path
    as_json: bool
    store: str | Path
    fleet: Path | None = None
    priority: int = 0
    tracking: TrackingChoice = field(default_factory=TrackingChoice)
    live: bool = False


def run(arguments: SearchArguments) -> int:
    """Search, print the front, and return the exit code."""
    from boardfront.host.run_log import LoggedProgress
    from boardfront.host.tracking.tracked import with_tracking

    arguments.tracking.check_installed()
    is_live = arguments.live and _can_be_live()
    folder, experiment = _open(arguments)
    arguments = _with_store(arguments, folder)
    resume = _resume_command(arguments, folder)
    shown = LoggedProgress(_make_progress(folder, is_live=is_live), folder.log)
    progress = with_tracking(shown, folder, arguments.tracking)
    progress.say(f"run {folder.path}")
    try:
        report = _execute(arguments, folder, experiment, progress)
    except KeyboardInterrupt:
        progress.close()
        sys.stderr.write(f"boardfront: interrupted; nothing is lost, go on with: {resume}\n")
        return 130
    except WrongInputError:
        raise
    except BoardfrontError as error:
        if "--resume" in str(error):
            raise
        raise BoardfrontError(f"{error} (go on with: {resume})") from error
    finally:
        progress.close()
    if arguments.as_json:
        from boardfront.host.front import to_json

        content = {"run": str(folder.path), **to_json(report)}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        _print(folder, report)
    return 0


def _can_be_live() -> bool:
    """Whether there is a terminal for a screen.

    Raises:
        BoardfrontError: There is one, and no screen is installed.
    """
    from importlib.util import find_spec

    from boardfront.host.live import has_terminal

    if not has_terminal():
        return False
    if find_spec("textual") is None:
        raise BoardfrontError(
            "--live: the screens are not installed: run pip install 'boardfront[host]', or leave "
            "it out"
        )
    return True


def _make_progress(folder: RunFolder, *, is_live: bool) -> RunProgress:
    if is_live:
        from boardfront.host.live import LiveProgress, interrupt_main

        return LiveProgress(folder, interrupt_main)
    from boardfront.host.progress import make_progress

    return make_progress()


def _open(arguments: SearchArguments) -> tuple[RunFolder, Experiment]:
    from boardfront.host.config import load_experiment
    from boardfront.host.run_folder import create_run, find_run
    from boardfront.host.run_store import recorded
    from boardfront.host.table_part import table_files, with_copies, with_tables

    if arguments.resume is None:
        if arguments.experiment is None:
            raise WrongInputError(
                "no experiment: expected boardfront search EXPERIMENT.toml, or --resume RUN"
            )
        experiment = with_tables(load_experiment(arguments.experiment))
        tables = table_files(experiment)
        folder = create_run(
            arguments.runs,
            experiment.name,
            arguments.experiment,
            tables,
            store=recorded(arguments.store),
        )
        return folder, with_copies(experiment, folder)
    folder = find_run(arguments.resume, arguments.runs)
    experiment = with_copies(load_experiment(folder.experiment), folder)
    _refuse_changes(folder, experiment, arguments.experiment)
    return folder, experiment


def _with_store(arguments: SearchArguments, folder: RunFolder) -> SearchArguments:
    from boardfront.host.paths import default_store
    from boardfront.host.run_store import store_of_run

    return replace(arguments, store=store_of_run(folder, arguments.store, default_store()))


def _refuse_changes(folder: RunFolder, experiment: Experiment, given: Path | None) -> None:
    """Refuse to go on where the person's experiment file is no longer what the run began with.

    The file that the run was started from may be gone; then the run's own copy stands.
    """
    from boardfront.host.config import load_experiment
    from boardfront.host.experiment import differences
    from boardfront.host.table_part import with_tables

    source = given or folder.source
    if given is None and not source.is_file():
        return
    changed = differences(experiment, with_tables(load_experiment(source), lost=folder))
    if changed:
        raise WrongInputError(
            f"{source} has changed since the run began ({'; '.join(changed)}): a run goes on as "
            f"it began: undo the change, or start a new run with boardfront search {source}"
        )


def _execute(
    arguments: SearchArguments,
    folder: RunFolder,
    experiment: Experiment,
    progress: RunProgress,
) -> FrontReport:
    from boardfront.host.search_run import SearchRun
    from boardfront.latency_models.store import MeasurementStore

    with MeasurementStore(arguments.store) as store:
        return SearchRun(
            folder, experiment, store, progress, priority=arguments.priority
        ).execute()


def _resume_command(arguments: SearchArguments, folder: RunFolder) -> str:
    from boardfront.host.paths import default_store

    words = ["boardfront", "search", "--resume", str(folder.path)]
    if arguments.store != default_store():
        words += ["--store", str(arguments.store)]
    if arguments.fleet is not None:
        words += ["--fleet", str(arguments.fleet)]
    return shlex.join(words)


def _print(folder: RunFolder, report: FrontReport) -> None:
    from boardfront.host.front import summary, table_rows
    from boardfront.host.table import print_tables

    tables = {target: table_rows(report, target=target) for target in report.targets}
    print_tables("target", tables, title="front on {}", left={"encoding", "verdict"})
    for line in [*summary(report), f"models, tables and report in {folder.path}"]:
        sys.stderr.write(f"{line}\n")
