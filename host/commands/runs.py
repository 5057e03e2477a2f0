"""`boardfront runs`: what was searched here, and what can be gone on with."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from boardfront.host import journal_records as records
from boardfront.host.journal import is_written, read_journal
from boardfront.host.run_folder import RunFolder, list_runs
from boardfront.host.table import print_table
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """One line of the list. `state` is running, interrupted, completed or damaged."""

    name: str
    folder: str
    state: str
    started_unix_s: float | None
    epochs: int
    evaluations: int
    front: int
    detail: str = ""


def run(runs: Path, *, as_json: bool) -> int:
    """Print the runs, newest first."""
    summaries = [summarise(folder) for folder in list_runs(runs)]
    if as_json:
        sys.stdout.write(json.dumps([asdict(s) for s in summaries], indent=2) + "\n")
        return 0
    if not summaries:
        sys.stderr.write(f"no runs in {runs}: start one with boardfront search EXPERIMENT.toml\n")
        return 0
    _print(summaries)
    return 0


def summarise(folder: RunFolder) -> RunSummary:
    """Return what a run's journal says, without disturbing the run."""
    # Before it is read: what ends meanwhile has written its end.
    is_running = is_written(folder.journal)
    try:
        history = read_journal(folder.journal).records if folder.journal.exists() else ()
    except BoardfrontError as error:
        return _summary(folder, "damaged", (), detail=str(error))
    return _summary(folder, _state(history, is_running=is_running), history)


def _summary(
    folder: RunFolder, state: str, history: tuple[object, ...], detail: str = ""
) -> RunSummary:
    started = [r.time_unix_s for r in history if isinstance(r, records.RunStarted)]
    fronts = [r.front_size for r in history if isinstance(r, records.GenerationDone)]
    reasons = [r.reason for r in history if isinstance(r, records.Interrupted)]
    if state == "interrupted" and reasons and not detail:
        detail = reasons[-1]
    epochs = [r.epoch for r in history if isinstance(r, records.TrainingProgress)]
    return RunSummary(
        name=folder.path.name,
        folder=str(folder.path),
        state=state,
        started_unix_s=started[0] if started else None,
        epochs=max(epochs, default=0),
        evaluations=len({r.encoding for r in history if isinstance(r, records.Evaluation)}),
        front=fronts[-1] if fronts else 0,
        detail=detail,
    )


def _state(history: tuple[object, ...], *, is_running: bool) -> str:
    if is_running:
        # A completed run that is resumed has its earlier end in its journal.
        return "running"
    is_finished = any(isinstance(record, records.RunFinished) for record in history)
    return "completed" if is_finished else "interrupted"


def _print(summaries: list[RunSummary]) -> None:
    headings = ("run", "state", "started", "epochs", "candidates", "front")
    print_table(headings, [_row(item) for item in summaries])
    for item in summaries:
        if item.state == "interrupted":
            sys.stderr.write(f"go on with: boardfront search --resume {item.folder}\n")
            break


def _row(item: RunSummary) -> tuple[str, ...]:
    started = "-"
    if item.started_unix_s is not None:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.started_unix_s))
    return (
        item.name,
        item.state,
        started,
        str(item.epochs),
        str(item.evaluations),
        str(item.front),
    )
