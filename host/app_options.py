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
