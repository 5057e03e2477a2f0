"""The arguments of `boardfront`; each command's work is in `commands/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from boardfront.host import complete
from boardfront.host.app_device import device_app
from boardfront.host.app_measure import register as register_measuring
from boardfront.host.app_options import (  # noqa: TC001 - typer reads annotations
    FleetFile,
    Json,
    Priority,
    Runs,
    SpaceSettings,
    Store,
)
from boardfront.host.app_store import store_app
from boardfront.host.app_table import table_app
from boardfront.host.app_view import register as register_views
from boardfront.host.paths import default_fleet, default_store, use_fleet

app = typer.Typer(
    # Kept short: all of --help fits 24 lines, and a test says so.
    help="\b\nFind the networks that are Pareto-optimal on the boards you own.\n"
    "Example: boardfront search examples/quickstart.toml; --debug adds tracebacks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_space = typer.Typer(
    help="Search spaces and their architectures.",
    epilog="Example: boardfront space list",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(_space, name="space")
app.add_typer(device_app, name="device")
app.add_typer(store_app, name="store")
app.add_typer(table_app, name="table")


register_measuring(app)


@app.command("devices", epilog="Example: boardfront devices --device 192.168.1.20:50051")
def _devices(
    *,
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|TAGS|HOST:PORT|local",
            autocompletion=complete.devices,
            help="Device to ask; repeatable (default: this machine and all of the fleet file).",
        ),
    ] = None,
    within: Annotated[
        float,
        typer.Option("--within", min=0.1, metavar="SECONDS", help="Longest wait for answers."),
    ] = 30.0,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Follow them: a screen, or a line a change in a pipe."),
    ] = False,
    as_json: Json = False,
    fleet: FleetFile = None,
) -> int:
    """Show devices: what, where, held by whom; 1 if one is away."""
    from boardfront.host.commands import devices

    if watch:
        return devices.watch(device or (), fleet or default_fleet(), as_json=as_json)
    return devices.run(device or (), fleet or default_fleet(), within_s=within, as_json=as_json)


@app.command("search", epilog="Example: boardfront search examples/quickstart.toml")
def _search(
    experiment: Annotated[
        Path | None, typer.Argument(metavar="EXPERIMENT.toml", help="What to search.")
    ] = None,
    *,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|latest",
            help="Go on with a run: its folder or its name.",
            autocompletion=complete.runs,
        ),
    ] = None,
    runs: Runs = Path("runs"),
    live: Annotated[
        bool,
        typer.Option("--live", help="Show it on a screen; q leaves the screen, not the run."),
    ] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Tell TensorBoard too, by event files in here."),
    ] = None,
    mlflow: Annotated[
        str,
        typer.Option(metavar="URI", help="Tell MLflow too: a server, sqlite:///FILE or a folder."),
    ] = "",
    as_json: Json = False,
    store: Store = None,
    fleet: FleetFile = None,
    priority: Priority = 0,
) -> int:
    """Train a supernet, search it, and ship the front measured whole."""
    from boardfront.host.commands import search
    from boardfront.host.tracking.sink import TrackingChoice

    use_fleet(fleet)
    return search.run(
        search.SearchArguments(
            experiment=experiment,
            resume=resume,
            runs=runs,
            as_json=as_json,
            store=store or default_store(),
            fleet=fleet,
            priority=priority,
            tracking=TrackingChoice(tensorboard=tensorboard, mlflow=mlflow),
            live=live,
        )
    )


@app.command("runs", epilog="Example: boardfront runs --json")
def _runs(*, runs: Runs = Path("runs"), as_json: Json = False) -> int:
    """List runs, newest first, and how to go on with them."""
    from boardfront.host.commands import runs as command

    return command.run(runs, as_json=as_json)


register_views(app)


@_space.command("list", epilog="Example: boardfront space list --json")
def _space_list(*, as_json: Json = False) -> int:
    """List the search spaces and their settings."""
    from boardfront.host.commands import space

    return space.run_list(as_json=as_json)


@_space.command(
    "show", epilog="Example: boardfront space show spos 3357-x7x3-33573x57-5xx3 --json"
)
def _space_show(
    space: Annotated[
        str,
        typer.Argument(metavar="SPACE", help="Name of the space.", autocompletion=complete.spaces),
    ],
    encoding: Annotated[str, typer.Argument(metavar="ENCODING", help="The architecture.")],
    *,
    setting: SpaceSettings = None,
    as_json: Json = False,
) -> int:
    """Show an architecture's size: parameters, MACs, activations."""
    from boardfront.host.commands import space as command

    return command.run_show(
        space, encoding, command.parse_settings(setting or ()), as_json=as_json
    )
