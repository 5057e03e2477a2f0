"""The arguments of `boardfront`; each command's work is in `commands/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from boardfront.host import complete
from boardfront.host.app_device import device_app
from boardfront.host.app_options import (  # noqa: TC001 - typer reads annotations
    Device,
    FleetFile,
    Json,
    Priority,
    Store,
)
from boardfront.host.app_store import store_app
from boardfront.host.app_table import table_app
from boardfront.host.app_view import register as register_views
from boardfront.host.paths import default_fleet, default_store

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

_Runs = Annotated[Path, typer.Option("--runs", metavar="FOLDER", help="Where runs are kept.")]


_Shape = Annotated[
    list[str] | None,
    typer.Option(
        "--shape", metavar="NAME=1x3x224x224", help="Shape of a dynamic input; repeatable."
    ),
]
_Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="KEY=VALUE", help="Backend option, e.g. threads=4; repeatable."
    ),
]
_Space = Annotated[
    str,
    typer.Option(
        "--space",
        metavar="SPACE",
        help="Take encodings of this space.",
        autocompletion=complete.spaces,
    ),
]
_Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A space's setting as in TOML; repeatable."),
]
_TaskOption = Annotated[
    str,
    typer.Option(
        "--task",
        metavar="inference|training-step|training-step-graph",
        help="What to time: a forward call, or a step of training.",
        autocompletion=complete.tasks,
    ),
]
_Frozen = Annotated[
    int,
    typer.Option("--frozen-stages", min=0, help="Stages that a training step leaves as they are."),
]
_WithWeights = Annotated[
    bool,
    typer.Option("--with-weights", help="Send the file as it is: where zeros save time."),
]
_Cpus = Annotated[
    str,
    typer.Option("--cpus", metavar="4-7", help="Cores to run on (default: the fastest cluster)."),
]
_Precision = Annotated[
    float,
    typer.Option(
        "--precision", min=0.0001, max=0.5, help="Half of the 95 % interval over the median."
    ),
]
_Duration = Annotated[
    float,
    typer.Option(
        "--duration", min=0.05, metavar="SECONDS", help="Shortest spread of the windows."
    ),
]
_Deadline = Annotated[
    float,
    typer.Option("--deadline", min=0.1, metavar="SECONDS", help="Longest time of running."),
]
_CompileDeadline = Annotated[
    float,
    typer.Option(
        "--compile-deadline", min=0.1, metavar="SECONDS", help="Longest time of compiling."
    ),
]


@app.command(
    "measure",
    epilog="Example: boardfront measure net.onnx --option threads=4 --json; or "
    "boardfront measure --space spos --encoding 3357-x7x3-33573x57-5xx3 --task training-step "
    "--batch 64 --backend torch",
)
def _measure(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL.onnx", help="Any ONNX file.")
    ] = None,
    *,
    space: _Space = "",
    encoding: Annotated[
        str, typer.Option(metavar="ENCODING", help="An architecture of --space.")
    ] = "",
    setting: _Settings = None,
    task: _TaskOption = "inference",
    frozen_stages: _Frozen = 0,
    device: Device = "local",
    backend: Annotated[
        str, typer.Option(help="What executes the network.", autocompletion=complete.backends)
    ] = "onnxruntime",
    batch: Annotated[int, typer.Option(min=1, help="Batch of a dynamic first dimension.")] = 1,
    shape: _Shape = None,
    option: _Options = None,
    tune: Annotated[
        str,
        typer.Option(
            metavar="minutes=10", help="Let the backend search for faster code this long."
        ),
    ] = "",
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="OTHER.onnx", help="Alternate with this network and give the ratio to it."
        ),
    ] = None,
    cpus: _Cpus = "",
    start_below: Annotated[
        float | None,
        typer.Option(metavar="DEGREES_C", help="Wait until the device is no hotter than this."),
    ] = None,
    sentinel: Annotated[
        bool,
        typer.Option(
            "--sentinel/--no-sentinel",
            help="Every 20 jobs of a device, time the agent's own network to see drift.",
        ),
    ] = True,
    with_weights: _WithWeights = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure what the store holds.")] = False,
    precision: _Precision = 0.01,
    duration: _Duration = 2.0,
    deadline: _Deadline = 30.0,
    compile_deadline: _CompileDeadline = 300.0,
    as_json: Json = False,
    store: Store = None,
    fleet: FleetFile = None,
    priority: Priority = 0,
) -> int:
    """Time a network on a device: an ONNX file, or a space's encoding."""
    from boardfront.host.commands import arguments, measure
    from boardfront.host.models import parse_option

    return measure.run(
        measure.MeasureArguments(
            network=arguments.one_network(model, space, encoding, setting or ()),
            task=arguments.task_choice(
                task,
                batch=batch,
                frozen_stages=frozen_stages,
                shapes=shape or (),
                with_weights=with_weights,
            ),
            reference=reference,
            device=device,
            backend=backend,
            options=dict(parse_option(text) for text in option or ()),
            cpus=cpus,
            tuning_budget_s=arguments.parse_budget(tune),
            start_below_c=start_below,
            sentinel=sentinel,
            fresh=fresh,
            as_json=as_json,
            precision=arguments.precision(precision, duration),
            deadlines=arguments.deadlines(duration, deadline, compile_deadline),
            store=store or default_store(),
            fleet=fleet or default_fleet(),
            priority=priority,
        )
    )


@app.command(
    "compare",
    epilog="Example: boardfront compare a.onnx b.onnx --device 192.168.1.20:50051; or "
    "boardfront compare net.onnx net.onnx --backend onnxruntime --backend-b torch",
)
def _compare(
    a: Annotated[str, typer.Argument(metavar="A", help="ONNX file, or encoding of --space.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one, or the same again.")],
    *,
    space: _Space = "",
    setting: _Settings = None,
    task: _TaskOption = "inference",
    frozen_stages: _Frozen = 0,
    device: Device = "local",
    backend: Annotated[
        str, typer.Option(help="What executes A, and B too.", autocompletion=complete.backends)
    ] = "onnxruntime",
    backend_b: Annotated[
        str, typer.Option(help="What executes B.", autocompletion=complete.backends)
    ] = "",
    batch: Annotated[int, typer.Option(min=1, help="Batch of A, and of B too.")] = 1,
    batch_b: Annotated[int | None, typer.Option(min=1, help="Batch of B.")] = None,
    shape: _Shape = None,
    option: _Options = None,
    option_b: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of B instead of A's; repeatable."),
    ] = None,
    cpus: _Cpus = "",
    with_weights: _WithWeights = False,
    precision: _Precision = 0.01,
    duration: _Duration = 2.0,
    deadline: _Deadline = 60.0,
    compile_deadline: _CompileDeadline = 300.0,
    as_json: Json = False,
    store: Store = None,
    fleet: FleetFile = None,
    priority: Priority = 0,
) -> int:
    """Say which of two is faster: one job, run by run in turn."""
    from boardfront.host.commands import arguments, compare
    from boardfront.host.commands.space import parse_settings
    from boardfront.host.models import parse_option
    from boardfront.host.networks import choose

    settings = parse_settings(setting or ())
    options = dict(parse_option(text) for text in option or ())
    options_b = dict(parse_option(text) for text in option_b or ())
    if not options_b and backend_b in {"", backend}:
        options_b = options
    tasks = [
        arguments.task_choice(
            task,
            batch=images,
            frozen_stages=frozen_stages,
            shapes=shape or (),
            with_weights=with_weights,
        )
        for images in (batch, batch_b or batch)
    ]
    return compare.run(
        compare.CompareArguments(
            a=compare.Side(
                network=choose(a, space, settings),
                task=tasks[0],
                backend=backend,
                options=options,
                cpus=cpus,
            ),
            b=compare.Side(
                network=choose(b, space, settings),
                task=tasks[1],
                backend=backend_b or backend,
                options=options_b,
                cpus=cpus,
            ),
            device=device,
            precision=arguments.precision(precision, duration),
            deadlines=arguments.deadlines(duration, deadline, compile_deadline),
            as_json=as_json,
            store=store or default_store(),
            fleet=fleet or default_fleet(),
            priority=priority,
        )
    )


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
    runs: _Runs = Path("runs"),
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
    priority: Priority = 0,
) -> int:
    """Train a supernet, search it, and ship the front measured whole."""
    from boardfront.host.commands import search
    from boardfront.host.tracking.sink import TrackingChoice

    return search.run(
        search.SearchArguments(
            experiment=experiment,
            resume=resume,
            runs=runs,
            as_json=as_json,
            store=store or default_store(),
            priority=priority,
            tracking=TrackingChoice(tensorboard=tensorboard, mlflow=mlflow),
            live=live,
        )
    )


@app.command("runs", epilog="Example: boardfront runs --json")
def _runs(*, runs: _Runs = Path("runs"), as_json: Json = False) -> int:
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
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting as in TOML; repeatable."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Show an architecture's size: parameters, MACs, activations."""
    from boardfront.host.commands import space as command

    return command.run_show(
        space, encoding, command.parse_settings(setting or ()), as_json=as_json
    )
