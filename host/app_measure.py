"""The arguments of `boardfront measure` and `compare`; the work is in `commands/`."""

from __future__ import annotations

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
    TaskKind,
)
from boardfront.host.paths import default_fleet, default_store

_Shape = Annotated[
    list[str] | None,
    typer.Option(
        "--shape", metavar="NAME=1x3x224x224", help="Shape of a dynamic input; repeatable."
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
_Frozen = Annotated[
    int,
    typer.Option("--frozen-stages", min=0, help="Stages that a training step leaves as they are."),
]
_WithWeights = Annotated[
    bool,
    typer.Option("--with-weights", help="Send the file as it is: where zeros save time."),
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


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "measure",
        epilog="Example: boardfront measure net.onnx --option threads=4 --json; or "
        "boardfront measure --space spos --encoding 3357-x7x3-33573x57-5xx3 --task training-step "
        "--batch 64 --backend torch",
    )(_measure)
    app.command(
        "compare",
        epilog="Example: boardfront compare a.onnx b.onnx --device 192.168.1.20:50051; or "
        "boardfront compare net.onnx net.onnx --backend onnxruntime --backend-b torch",
    )(_compare)


def _measure(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL.onnx", help="Any ONNX file.")
    ] = None,
    *,
    space: _Space = "",
    encoding: Annotated[
        str, typer.Option(metavar="ENCODING", help="An architecture of --space.")
    ] = "",
    setting: SpaceSettings = None,
    task: TaskKind = "inference",
    frozen_stages: _Frozen = 0,
    device: Device = "local",
    backend: Backend = "onnxruntime",
    batch: Annotated[int, typer.Option(min=1, help="Batch of a dynamic first dimension.")] = 1,
    shape: _Shape = None,
    option: BackendOptions = None,
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
    cpus: Cpus = "",
    start_below: StartBelow = None,
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


def _compare(
    a: Annotated[str, typer.Argument(metavar="A", help="ONNX file, or encoding of --space.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one, or the same again.")],
    *,
    space: _Space = "",
    setting: SpaceSettings = None,
    task: TaskKind = "inference",
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
    option: BackendOptions = None,
    option_b: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of B instead of A's; repeatable."),
    ] = None,
    cpus: Cpus = "",
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
