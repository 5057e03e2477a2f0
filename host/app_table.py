"""The arguments of `boardfront table`; the work is in `commands/table_*.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from boardfront.host import complete
from boardfront.host.app_options import (  # noqa: TC001 - typer reads annotations
    Device,
    FleetFile,
    Json,
    Priority,
    Store,
)
from boardfront.host.paths import default_fleet, default_store

table_app = typer.Typer(
    help="Latency tables: what the blocks of a space cost on a device.",
    epilog="Example: boardfront table build --space spos -o spos.json --budget 45m",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_File = Annotated[Path, typer.Argument(metavar="TABLE.json", help="A latency table.")]
_Output = Annotated[
    Path,
    typer.Option("-o", "--output", metavar="FILE", help="Where it is written; whole or not."),
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
_Force = Annotated[
    bool,
    typer.Option("--force", help="Also where the device is not as it was; marks the results."),
]
_Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="KEY=VALUE", help="Backend option, e.g. threads=4; repeatable."
    ),
]
_Cpus = Annotated[
    str,
    typer.Option("--cpus", metavar="4-7", help="Cores to run on (default: the fastest cluster)."),
]
_Precision = Annotated[
    float,
    typer.Option(
        "--precision",
        min=0.001,
        max=0.5,
        help="Asked of a block's time: half of its 95 % interval over it.",
    ),
]
_Duration = Annotated[
    float,
    typer.Option(
        "--duration", min=0.05, metavar="SECONDS", help="Shortest spread of a closer look."
    ),
]


@table_app.command(
    "build",
    epilog="Example: boardfront table build --space spos --set resolution=96 --device pi5 "
    "-o spos-pi5.json --budget 45m. Called again it goes on where it was.",
)
def _build(
    *,
    space: Annotated[
        str,
        typer.Option(
            "--space", metavar="SPACE", help="Whose blocks.", autocompletion=complete.spaces
        ),
    ],
    output: _Output,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A space's setting as in TOML; repeatable."
        ),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(min=1, metavar="PIXELS", help="As --set resolution=PIXELS.")
    ] = None,
    device: Device = "local",
    backend: Annotated[
        str, typer.Option(help="What executes the networks.", autocompletion=complete.backends)
    ] = "onnxruntime",
    option: _Options = None,
    cpus: _Cpus = "",
    task: Annotated[
        str,
        typer.Option(
            "--task",
            metavar="inference|training-step|training-step-graph",
            help="What to time: a forward call, or a step of training.",
            autocompletion=complete.tasks,
        ),
    ] = "inference",
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 1,
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            metavar="45m",
            help="Stop after so long; what fits is planned, all blocks coarsely first.",
        ),
    ] = "",
    precision: _Precision = 0.05,
    duration: _Duration = 2.0,
    rounds: Annotated[
        int, typer.Option(min=0, help="Rounds of closer looks after the coarse one.")
    ] = 2,
    base: Annotated[
        str,
        typer.Option(
            metavar="ENCODING",
            help="Network that blocks are inserted into (default: a middle one).",
        ),
    ] = "",
    calibration: Annotated[
        int, typer.Option(min=0, help="Whole networks to calibrate the sums on.")
    ] = 12,
    held_out: Annotated[int, typer.Option(min=0, help="Whole networks to judge by.")] = 20,
    repeats: Annotated[
        int, typer.Option(min=0, help="How many of these are measured again: the noise floor.")
    ] = 5,
    seed: Annotated[int, typer.Option(help="Draws the whole networks.")] = 0,
    blocks: Annotated[
        int,
        typer.Option(min=12, help="Measure at most so many blocks; others are interpolated."),
    ] = 300,
    target_error: Annotated[
        float,
        typer.Option(min=0.0, help="Where there are more: stop when the rest is so well known."),
    ] = 0.15,
    start_below: Annotated[
        float | None,
        typer.Option(metavar="DEGREES_C", help="Wait until the device is no hotter than this."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew and measure all of it again.")
    ] = False,
    force: _Force = False,
    as_json: Json = False,
    store: Store = None,
    fleet: FleetFile = None,
    priority: Priority = 0,
) -> int:
    """Measure a space's blocks, and whole networks to judge them by."""
    from boardfront.host.commands import table_build as command
    from boardfront.host.commands.space import parse_settings
    from boardfront.host.models import parse_option
    from boardfront.latency_models.table_rule import BuildRule

    settings = parse_settings(setting or ())
    if resolution is not None:
        settings["resolution"] = resolution
    rule = command.quick(BuildRule(precision=precision, rounds=rounds), duration)
    return command.run(
        command.BuildArguments(
            space=space,
            settings=settings,
            task=task,
            batch=batch,
            where=command.Where(
                device=device,
                backend=backend,
                options=dict(parse_option(text) for text in option or ()),
                cpus=cpus,
                start_below_c=start_below,
                store=store or default_store(),
                fleet=fleet or default_fleet(),
                priority=priority,
            ),
            output=output,
            rule=replace(rule, budget_s=command.parse_duration(budget)),
            base=base,
            calibration=calibration,
            held_out=held_out,
            repeats=repeats,
            seed=seed,
            most_blocks=blocks,
            target_error=target_error,
            overwrite=overwrite,
            force=force,
            as_json=as_json,
        )
    )


@table_app.command(
    "transfer",
    epilog="Example: boardfront table transfer spos-pi5.json --device rock5b -o spos-rock5b.json. "
    "Called again it goes on where it was.",
)
def _transfer(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE.json", help="Another device's table of the space.")
    ],
    *,
    output: _Output,
    device: Device = "local",
    backend: Annotated[
        str,
        typer.Option(
            help="What executes the networks (default: the source's).",
            autocompletion=complete.backends,
        ),
    ] = "",
    option: _Options = None,
    cpus: _Cpus = "",
    task: Annotated[
        str,
        typer.Option(
            "--task",
            metavar="inference|training-step|training-step-graph",
            help="What to time (default: the source's task).",
            autocompletion=complete.tasks,
        ),
    ] = "",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images at once (default: the source's).")
    ] = None,
    samples: Annotated[
        int, typer.Option(min=3, help="Whole networks to measure and to fit on.")
    ] = 12,
    held_out: Annotated[
        int, typer.Option(min=0, help="Whole networks to judge by, drawn at random.")
    ] = 8,
    repeats: Annotated[
        int, typer.Option(min=0, help="How many of these are measured again: the noise floor.")
    ] = 3,
    budget: Annotated[
        str,
        typer.Option("--budget", metavar="20m", help="Stop after so long; what fits is planned."),
    ] = "",
    duration: _Duration = 2.0,
    seed: Annotated[int, typer.Option(help="Draws the whole networks.")] = 0,
    start_below: Annotated[
        float | None,
        typer.Option(metavar="DEGREES_C", help="Wait until the device is no hotter than this."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew and measure all of it again.")
    ] = False,
    force: _Force = False,
    as_json: Json = False,
    store: Store = None,
    fleet: FleetFile = None,
    priority: Priority = 0,
) -> int:
    """Make a table from another device's and a few whole networks."""
    from boardfront.host.commands import table_transfer as command
    from boardfront.host.commands.table_build import Where, parse_duration, quick
    from boardfront.host.models import parse_option
    from boardfront.latency_models.table_rule import BuildRule

    return command.run(
        command.TransferArguments(
            source=source,
            where=Where(
                device=device,
                backend=backend,
                options=dict(parse_option(text) for text in option or ()),
                cpus=cpus,
                start_below_c=start_below,
                store=store or default_store(),
                fleet=fleet or default_fleet(),
                priority=priority,
            ),
            output=output,
            rule=replace(quick(BuildRule(), duration), budget_s=parse_duration(budget)),
            samples=samples,
            held_out=held_out,
            repeats=repeats,
            seed=seed,
            task=task,
            batch=batch,
            overwrite=overwrite,
            force=force,
            as_json=as_json,
        )
    )


@table_app.command("show", epilog="Example: boardfront table show spos-pi5.json")
def _show(
    file: _File,
    *,
    networks: Annotated[
        bool, typer.Option("--networks/--no-networks", help="Plot the whole networks' errors.")
    ] = True,
    as_json: Json = False,
) -> int:
    """Show a table: how good it is, and a heat map of its blocks."""
    from boardfront.host.commands import table_show as command

    return command.run(file, networks=networks, as_json=as_json)


@table_app.command("verify", epilog="Example: boardfront table verify spos-pi5.json --device pi5")
def _verify(
    file: _File,
    *,
    device: Device = "local",
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Part of the blocks to measure again.")
    ] = 0.1,
    networks: Annotated[int, typer.Option(min=0, help="Whole networks to measure, new ones.")] = 6,
    precision: _Precision = 0.05,
    duration: _Duration = 2.0,
    seed: Annotated[int, typer.Option(help="Draws them, together with the time.")] = 0,
    start_below: Annotated[
        float | None,
        typer.Option(metavar="DEGREES_C", help="Wait until the device is no hotter than this."),
    ] = None,
    force: _Force = False,
    as_json: Json = False,
    store: Store = None,
    fleet: FleetFile = None,
    priority: Priority = 0,
) -> int:
    """Measure some of a table again; 1 if it holds no more."""
    from boardfront.host.commands import table_verify as command
    from boardfront.host.commands.table_build import Where, quick
    from boardfront.latency_models.table_rule import BuildRule

    return command.run(
        command.VerifyArguments(
            file=file,
            where=Where(
                device=device,
                backend="",
                start_below_c=start_below,
                store=store or default_store(),
                fleet=fleet or default_fleet(),
                priority=priority,
            ),
            rule=quick(BuildRule(precision=precision, rounds=1), duration),
            share=share,
            networks=networks,
            seed=seed,
            force=force,
            as_json=as_json,
        )
    )


@table_app.command("export", epilog="Example: boardfront table export spos-pi5.json spos-pi5.csv")
def _export(
    file: _File,
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
    output: _Output,
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
