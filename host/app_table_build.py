"""The arguments of the `boardfront table` commands that measure: build, transfer, verify."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import Annotated

import typer

from boardfront.host import complete
from boardfront.host.app_options import (  # noqa: TC001 - typer reads annotations
    Backend,
    BackendOptions,
    Cpus,
    Device,
    FleetFile,
    Json,
    Priority,
    SpaceSettings,
    StartBelow,
    Store,
    TableFile,
    TableOutput,
    TaskKind,
)
from boardfront.host.paths import default_fleet, default_store, use_fleet

_Force = Annotated[
    bool,
    typer.Option("--force", help="Also where the device is not as it was; marks the results."),
]
_ForceAnew = Annotated[
    bool,
    typer.Option(
        "--force", help="Where the device is not as it was: measure all of it anew, and note why."
    ),
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
_Seed = Annotated[int, typer.Option(help="Draws the whole networks.")]
_Repeats = Annotated[
    int, typer.Option(min=0, help="How many of these are measured again: the noise floor.")
]
_Anew = Annotated[
    bool, typer.Option("--overwrite", help="Begin anew and measure all of it again.")
]
_Budget = Annotated[
    str,
    typer.Option(
        "--budget",
        metavar="45m",
        help="Stop after so long; what fits is planned, all blocks coarsely first.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "build",
        epilog="Example: boardfront table build --space spos --set resolution=96 --device pi5 "
        "-o spos-pi5.json --budget 45m; or boardfront table build --target "
        "examples/spos_table.toml. Called again it goes on where it was.",
    )(_build)
    app.command(
        "transfer",
        epilog="Example: boardfront table transfer spos-pi5.json --device rock5b "
        "-o spos-rock5b.json. Called again it goes on where it was.",
    )(_transfer)
    app.command(
        "verify",
        epilog="Example: boardfront table verify spos-pi5.json --device pi5",
    )(_verify)


def _build(
    context: typer.Context,
    *,
    space: Annotated[
        str,
        typer.Option(
            "--space", metavar="SPACE", help="Whose blocks.", autocompletion=complete.spaces
        ),
    ] = "",
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="EXPERIMENT.toml[:NAME]",
            help="Of this target of an experiment: its space, device, backend, options, cores, "
            "task and batch, and its table as -o. What else is said here goes before.",
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where it is written; whole or not."),
    ] = None,
    setting: SpaceSettings = None,
    resolution: Annotated[
        int | None, typer.Option(min=1, metavar="PIXELS", help="As --set resolution=PIXELS.")
    ] = None,
    device: Device = "local",
    backend: Backend = "onnxruntime",
    option: BackendOptions = None,
    cpus: Cpus = "",
    task: TaskKind = "inference",
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 1,
    budget: _Budget = "",
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
    repeats: _Repeats = 5,
    seed: _Seed = 0,
    blocks: Annotated[
        int,
        typer.Option(min=12, help="Measure at most so many blocks; others are interpolated."),
    ] = 300,
    target_error: Annotated[
        float,
        typer.Option(min=0.0, help="Where there are more: stop when the rest is so well known."),
    ] = 0.15,
    start_below: StartBelow = None,
    overwrite: _Anew = False,
    force: _ForceAnew = False,
    as_json: Json = False,
    store: Store = None,
    fleet: FleetFile = None,
    priority: Priority = 0,
) -> int:
    """Measure a space's blocks, and whole networks to judge them by."""
    from boardfront.host.commands import table_build as command
    from boardfront.host.commands import table_target
    from boardfront.host.commands.space import parse_settings
    from boardfront.host.commands.table_where import Where, parse_duration
    from boardfront.host.models import parse_option
    from boardfront.latency_models.table_rule import BuildRule, quick

    use_fleet(fleet)
    settings = parse_settings(setting or ())
    if resolution is not None:
        settings["resolution"] = resolution
    asked = table_target.Asked(
        space=space,
        settings=settings,
        device=device,
        backend=backend,
        options=dict(parse_option(text) for text in option or ()),
        cpus=cpus,
        task=task,
        batch=batch,
        start_below_c=start_below,
        output=output,
    )
    if target:
        asked = table_target.asked_of_target(target, asked, _said(context))
    rule = quick(BuildRule(precision=precision, rounds=rounds), duration)
    return command.run(
        command.BuildArguments(
            space=asked.space,
            settings=asked.settings,
            task=asked.task,
            batch=asked.batch,
            where=Where(
                device=asked.device,
                backend=asked.backend,
                options=asked.options,
                cpus=asked.cpus,
                start_below_c=asked.start_below_c,
                store=store or default_store(),
                fleet=fleet or default_fleet(),
                priority=priority,
            ),
            output=table_target.output_of(asked),
            rule=replace(rule, budget_s=parse_duration(budget)),
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


def _transfer(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE.json", help="Another device's table of the space.")
    ],
    *,
    output: TableOutput,
    device: Device = "local",
    backend: Annotated[
        str,
        typer.Option(
            help="What executes the networks (default: the source's).",
            autocompletion=complete.backends,
        ),
    ] = "",
    option: BackendOptions = None,
    cpus: Cpus = "",
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
    repeats: _Repeats = 3,
    budget: _Budget = "",
    duration: _Duration = 2.0,
    seed: _Seed = 0,
    start_below: StartBelow = None,
    overwrite: _Anew = False,
    force: _ForceAnew = False,
    as_json: Json = False,
    store: Store = None,
    fleet: FleetFile = None,
    priority: Priority = 0,
) -> int:
    """Make a table from another device's and a few whole networks."""
    from boardfront.host.commands import table_transfer as command
    from boardfront.host.commands.table_where import Where, parse_duration
    from boardfront.host.models import parse_option
    from boardfront.latency_models.table_rule import BuildRule, quick

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


def _verify(
    file: TableFile,
    *,
    device: Device = "local",
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Part of the blocks to measure again.")
    ] = 0.1,
    networks: Annotated[int, typer.Option(min=0, help="Whole networks to measure, new ones.")] = 6,
    precision: _Precision = 0.05,
    duration: _Duration = 2.0,
    seed: Annotated[int, typer.Option(help="Draws them, together with the time.")] = 0,
    start_below: StartBelow = None,
    force: _Force = False,
    as_json: Json = False,
    store: Store = None,
    fleet: FleetFile = None,
    priority: Priority = 0,
) -> int:
    """Measure some of a table again; 1 if it holds no more."""
    from boardfront.host.commands import table_verify as command
    from boardfront.host.commands.table_where import Where
    from boardfront.latency_models.table_rule import BuildRule, quick

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


def _said(context: typer.Context) -> set[str]:
    """Return the options that are no defaults."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source and source.name != "DEFAULT"}
