"""The arguments of `boardfront table`; the work is in `commands/table_*.py`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import Annotated

import typer

from boardfront.host.app_options import (  # noqa: TC001 - typer reads annotations
    Json,
    TableFile,
    TableOutput,
)
from boardfront.host.app_table_build import register as register_building

table_app = typer.Typer(
    help="Latency tables: what the blocks of a space cost on a device.",
    epilog="Example: boardfront table build --space spos -o spos.json --budget 45m",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]

register_building(table_app)


@table_app.command("show", epilog="Example: boardfront table show spos-pi5.json")
def _show(
    file: TableFile,
    *,
    networks: Annotated[
        bool, typer.Option("--networks/--no-networks", help="Plot the whole networks' errors.")
    ] = True,
    as_json: Json = False,
) -> int:
    """Show a table: how good it is, and a heat map of its blocks."""
    from boardfront.host.commands import table_show as command

    return command.run(file, networks=networks, as_json=as_json)


@table_app.command("export", epilog="Example: boardfront table export spos-pi5.json spos-pi5.csv")
def _export(
    file: TableFile,
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="Ends in .csv, .json, .yaml or .parquet.")
    ],
    *,
    overwrite: _Overwrite = False,
    as_json: Json = False,
) -> int:
    """Write a table as CSV, JSON, YAML or Parquet, seconds throughout."""
    from boardfront.host.commands import table_files as command

    return command.run_export(file, output, overwrite=overwrite, as_json=as_json)


@table_app.command(
    "import",
    epilog="Example: boardfront table import mobile_trim.yaml -o pixel.json --name pixel1",
)
def _import(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="once-for-all's YAML (ms), or a JSON or YAML export of ours."
        ),
    ],
    output: TableOutput,
    *,
    name: Annotated[str, typer.Option(help="Device that it was measured on, for people.")] = "",
    overwrite: _Overwrite = False,
    as_json: Json = False,
) -> int:
    """Make a table of a published one; its times are marked as imported."""
    from boardfront.host.commands import table_files as command

    return command.run_import(file, output, name=name, overwrite=overwrite, as_json=as_json)


@table_app.command("diff", epilog="Example: boardfront table diff pi5-monday.json pi5-friday.json")
def _diff(
    a: Annotated[Path, typer.Argument(metavar="A.json", help="A latency table.")],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="Another one.")],
    *,
    as_json: Json = False,
) -> int:
    """Compare two tables block by block, the most different first."""
    from boardfront.host.commands import table_files as command

    return command.run_diff(a, b, as_json=as_json)
