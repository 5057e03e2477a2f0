"""Options that several commands have, each with one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from boardfront.host import complete

Priority = Annotated[
    int,
    typer.Option("--priority", metavar="N", help="Higher is served first where others wait too."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, seconds throughout.")]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="FILE|URL",
        help="Measurement store: an SQLite file or postgresql://USER@HOST/DATABASE "
        "(default: BOARDFRONT_STORE, or yours).",
    ),
]
FleetFile = Annotated[
    Path | None,
    typer.Option(
        "--fleet",
        metavar="FILE",
        help="Fleet file (default: BOARDFRONT_FLEET, or yours).",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME|TAGS|HOST:PORT|local",
        autocompletion=complete.devices,
        help="The agent that measures: a name or tags (soc=rk3588,room=lab: the first free board "
        "of them) of the fleet file, an address, or this machine's own.",
    ),
]
Runs = Annotated[Path, typer.Option("--runs", metavar="FOLDER", help="Where runs are kept.")]
Backend = Annotated[
    str, typer.Option(help="What executes the network.", autocompletion=complete.backends)
]
BackendOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="KEY=VALUE", help="Backend option, e.g. threads=4; repeatable."
    ),
]
Cpus = Annotated[
    str,
    typer.Option("--cpus", metavar="4-7", help="Cores to run on (default: the fastest cluster)."),
]
StartBelow = Annotated[
    float | None,
    typer.Option(metavar="DEGREES_C", help="Wait until the device is no hotter than this."),
]
TaskKind = Annotated[
    str,
    typer.Option(
        "--task",
        metavar="inference|training-step|training-step-graph",
        help="What to time: a forward call, or a step of training.",
        autocompletion=complete.tasks,
    ),
]
SpaceSettings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A space's setting as in TOML; repeatable."),
]
TableFile = Annotated[Path, typer.Argument(metavar="TABLE.json", help="A latency table.")]
TableOutput = Annotated[
    Path,
    typer.Option("-o", "--output", metavar="FILE", help="Where it is written; whole or not."),
]
