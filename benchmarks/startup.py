"""What does `boardfront --help` cost beside an empty program of the same command-line library?

Fresh processes in turn, round after round: a typer program with one empty command, the same with
one group, and ours. Wall time from start to end, and the processor time of the process, which
other programs disturb less. A row's ratio is that of the medians; its range is that of the ratios
of single rounds from the first to the third quartile.

Usage: python benchmarks/startup.py [--rounds 40] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

EMPTY = """
import typer

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

@app.command()
def nothing() -> None:
    "Do nothing."

app()
"""

EMPTY_GROUP = """
import typer

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
group = typer.Typer(rich_markup_mode=None)
app.add_typer(group, name="group")

@group.command("nothing")
def nothing() -> None:
    "Do nothing."

@group.command("neither")
def neither() -> None:
    "Do nothing either."

app()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        empty, group = Path(folder) / "empty.py", Path(folder) / "group.py"
        empty.write_text(EMPTY)
        group.write_text(EMPTY_GROUP)
        ours = (sys.executable, "-m", "boardfront.host.cli")
        rows = [
            compare(name, mine, theirs, options.rounds)
            for name, mine, theirs in (
                ("boardfront --help", (*ours, "--help"), (sys.executable, empty, "--help")),
                (
                    "boardfront device add --help",
                    (*ours, "device", "add", "--help"),
                    (sys.executable, group, "group", "nothing", "--help"),
                ),
                (
                    "boardfront measure --help",
                    (*ours, "measure", "--help"),
                    (sys.executable, group, "group", "nothing", "--help"),
                ),
            )
        ]
    for row in rows:
        print(json.dumps(row) if options.json else _line(row))
    return 0


def compare(
    name: str, mine: tuple[object, ...], theirs: tuple[object, ...], rounds: int
) -> dict[str, Any]:
    """Run both in turn and return medians, their ratio and its spread."""
    times: dict[str, list[tuple[float, float]]] = {"mine": [], "theirs": []}
    for _ in range(rounds + 1):  # the first round fills the caches of files
        for who, command in (("theirs", theirs), ("mine", mine)):
            times[who].append(_spent(command))
    row: dict[str, Any] = {"name": name, "rounds": rounds}
    for index, unit in enumerate(("wall", "processor")):
        a = [pair[index] for pair in times["mine"][1:]]
        b = [pair[index] for pair in times["theirs"][1:]]
        low, _, high = quantiles([x / y for x, y in zip(a, b, strict=True)], n=4)
        row[unit] = {
            "ours_s": median(a),
            "empty_s": median(b),
            "ratio": median(a) / median(b),
            "quartiles": [low, high],
        }
    return row


def _spent(command: tuple[object, ...]) -> tuple[float, float]:
    """Return seconds of wall and of processor that a process took."""
    begin_s = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - begin_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return wall_s, usage.ru_utime + usage.ru_stime


def _line(row: dict[str, Any]) -> str:
    parts = []
    for unit in ("wall", "processor"):
        figures = row[unit]
        low, high = figures["quartiles"]
        parts.append(
            f"{unit} {figures['ours_s'] * 1e3:.0f} ms / {figures['empty_s'] * 1e3:.0f} ms = "
            f"{figures['ratio']:.2f} ({low:.2f} .. {high:.2f})"
        )
    return f"{row['name']}: {'; '.join(parts)}"


if __name__ == "__main__":
    sys.exit(main())
