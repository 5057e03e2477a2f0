"""`boardfront monitor TABLE.json`: look at a latency table while it is built, or afterwards."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from boardfront.host.table import print_pairs
from boardfront.host.view import table_view
from boardfront.host.view.table_view import TableFollower

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.view.table_view import TableView


def run(path: Path, *, as_lines: bool, as_json: bool = False) -> int:
    """Show a table on the terminal, or print how it stands and return.

    Args:
        path: The table's file; it need not be there as long as somebody builds it.
        as_lines: Whether to print.
        as_json: Whether to print JSON, SI units throughout.
    """
    follower = TableFollower(path)
    view = follower.poll()
    if as_json:
        sys.stdout.write(json.dumps(_to_json(view), indent=2) + "\n")
        return 0
    if as_lines:
        done, total, left = table_view.progress(view)
        looks = [("looks", f"{done} of {total}, {left}")] if total else []
        print_pairs([("state", table_view.headline(view)), *looks, *table_view.lines(view)])
        return 0
    from boardfront.host.tui.pace import give_way
    from boardfront.host.tui.table_app import TableApp

    give_way()
    TableApp(follower.poll).run()
    return 0


def _to_json(view: TableView) -> dict[str, object]:
    from dataclasses import asdict

    table = view.table
    return {
        "file": str(view.path),
        "state": view.state.value,
        "time_unix_s": view.time_unix_s,
        "left_s": view.left_s,
        "build": None if view.news is None else asdict(view.news),
        "entries": 0 if table is None else len(table.entries),
        "missing": None if table is None else len(table.missing),
        "networks": 0 if table is None else len(table.networks),
        "verdicts": dict(view.verdicts),
    }
