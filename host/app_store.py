"""The arguments of `boardfront store`; the work is in `commands/store.py`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import Annotated

import typer

from boardfront.host.app_options import Json, Store  # noqa: TC001 - typer reads annotations
from boardfront.host.paths import default_store

store_app = typer.Typer(
    help="What was measured: look at it, export it, merge it.",
    epilog="Example: boardfront store export measurements.csv",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@store_app.command(
    "info", epilog="Example: boardfront store info --store postgresql://nas@lab/boardfront"
)
def _info(*, as_json: Json = False, store: Store = None) -> int:
    """Show what a store holds: measurements, devices, backends."""
    from boardfront.host.commands import store as command

    return command.run_info(store or default_store(), as_json=as_json)


@store_app.command("export", epilog="Example: boardfront store export measurements.json.gz")
def _export(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Ends in .csv, .json, .csv.gz, .json.gz or .parquet; appears whole or not.",
        ),
    ],
    *,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.")
    ] = False,
    as_json: Json = False,
    store: Store = None,
) -> int:
    """Write all measurements to a file; nothing is rounded."""
    from boardfront.host.commands import store as command

    return command.run_export(store or default_store(), file, overwrite=overwrite, as_json=as_json)


@store_app.command("import", epilog="Example: boardfront store import a.json.gz b.csv")
def _import(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Written by boardfront store export."),
    ],
    *,
    as_json: Json = False,
    store: Store = None,
) -> int:
    """Take files' measurements in, each once; 1 if some differ."""
    from boardfront.host.commands import store as command

    return command.run_import(store or default_store(), files, as_json=as_json)


@store_app.command(
    "merge", epilog="Example: boardfront store merge ~/.local/share/boardfront/measurements.db"
)
def _merge(
    sources: Annotated[
        list[str], typer.Argument(metavar="STORE...", help="Files or URLs of other stores.")
    ],
    *,
    as_json: Json = False,
    store: Store = None,
) -> int:
    """Take other stores' measurements in; they keep theirs."""
    from boardfront.host.commands import store as command

    return command.run_merge(store or default_store(), sources, as_json=as_json)
