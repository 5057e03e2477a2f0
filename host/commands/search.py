"""`boardfront search`: a new run, or the rest of an earlier one."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    priority: int = 0


def run(arguments: SearchArguments) -> int:
    """Search, print the front, and return the exit code."""
    from boardfront.host.progress import make_progress

    folder, experiment = _open(arguments)
    progress = make_progress()
    progress.say(f"run {folder.path}")
    try:
        report = _execute(arguments, folder, experiment, progress)
    except KeyboardInterrupt:
        progress.close()
        sys.stderr.write(
            f"boardfront: interrupted; nothing is lost, go on with: {_resume_command(folder)}\n"
        )
        return 130
    except WrongInputError:
        raise
    except BoardfrontError as error:
        if str(folder.path) in str(error):
            raise
        raise BoardfrontError(f"{error} (go on with: {_resume_command(folder)})") from error
    finally:
        progress.close()
    if arguments.as_json:
        from boardfront.host.front import to_json

        content = {"run": str(folder.path), **to_json(report)}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        _print(folder, report)
    return 0


def _open(arguments: SearchArguments) -> tuple[RunFolder, Experiment]:
    from boardfront.host.config import load_experiment
    from boardfront.host.run_folder import create_run, find_run

    if arguments.resume is None:
        if arguments.experiment is None:
            raise WrongInputError(
                "no experiment: expected boardfront search EXPERIMENT.toml, or --resume RUN"
            )
        experiment = load_experiment(arguments.experiment)
        return create_run(arguments.runs, experiment.name, arguments.experiment), experiment
    folder = find_run(arguments.resume, arguments.runs)
    experiment = load_experiment(folder.experiment)
    _refuse_changes(folder, experiment, arguments.experiment)
    return folder, experiment


def _refuse_changes(folder: RunFolder, experiment: Experiment, given: Path | None) -> None:
    """Refuse to go on where the person's experiment file is no longer what the run began with.

    The file that the run was started from may be gone; then the run's own copy stands.
    """
    from boardfront.host.config import load_experiment
    from boardfront.host.experiment import differences

    source = given or folder.source
    if given is None and not source.is_file():
        return
    changed = differences(experiment, load_experiment(source))
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


def _resume_command(folder: RunFolder) -> str:
    return f"boardfront search --resume {folder.path}"


def _print(folder: RunFolder, report: FrontReport) -> None:
    from boardfront.host.front import summary, table_rows
    from boardfront.host.table import print_table

    for target in report.targets:
        headings, rows = table_rows(report, target=target)
        right = set(headings) - {"encoding", "verdict"}
        print_table(headings, rows, title=f"front on {target}", right=right)
    for line in [*summary(report), f"models, tables and report in {folder.path}"]:
        sys.stderr.write(f"{line}\n")
