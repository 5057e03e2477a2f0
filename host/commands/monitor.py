"""`boardfront monitor`: look at a run while it goes on, or afterwards."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.host.run_folder import find_run, list_runs
from boardfront.host.table import print_table
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from boardfront.host.run_folder import RunFolder

_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class MonitorArguments:
    """What the person asked."""

    run: str
    runs: Path
    control: bool
    as_json: bool


def run(arguments: MonitorArguments) -> int:
    """Show the run on the terminal; where there is none, print how it stands and return."""
    if arguments.run.endswith(".json") or Path(arguments.run).is_file():
        return _show_table(arguments)
    if arguments.as_json or not sys.stdout.isatty():
        return _print(arguments)
    if find_spec("textual") is None:
        raise BoardfrontError(
            "the screens are not installed: run pip install 'boardfront[host]', or look once "
            "with boardfront monitor --json"
        )
    folder = _wait_for(arguments)
    from boardfront.host.tui.app import MonitorApp
    from boardfront.host.tui.pace import give_way

    give_way()
    newest = partial(_newest, arguments.runs) if arguments.run == "latest" else None
    app = MonitorApp(folder, control=arguments.control, newest=newest)
    app.run()
    return app.return_code or 0


def _print(arguments: MonitorArguments) -> int:
    from boardfront.host.view.follow import read_run
    from boardfront.host.view.snapshot import front_table, to_json, to_text

    view = read_run(find_run(arguments.run, arguments.runs))
    if arguments.as_json:
        sys.stdout.write(to_json(view) + "\n")
        return 0
    # What is for programs goes alone into the pipe; the rest is for who looks on.
    sys.stderr.write(to_text(view))
    sys.stderr.flush()
    print_table(*front_table(view))
    return 0


def _show_table(arguments: MonitorArguments) -> int:
    from boardfront.host.commands import monitor_table

    as_lines = arguments.as_json or not sys.stdout.isatty()
    return monitor_table.run(Path(arguments.run), as_lines=as_lines, as_json=arguments.as_json)


def _wait_for(arguments: MonitorArguments) -> RunFolder:
    """Return the run; where the newest is asked for and there is none yet, wait for one."""
    if arguments.run == "latest" and _newest(arguments.runs) is None:
        sys.stderr.write(f"no runs in {arguments.runs} yet: waiting for one; Ctrl-C ends this\n")
        while _newest(arguments.runs) is None:
            time.sleep(_LOOK_EVERY_S)
    return find_run(arguments.run, arguments.runs)


def _newest(runs: Path) -> RunFolder | None:
    return next(list_runs(runs), None)
