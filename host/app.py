"""The arguments of `boardfront`; each command's work is in `commands/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from boardfront.host.paths import default_store
from boardfront.protos.errors import WrongInputError

app = typer.Typer(
    help="Find the networks that are Pareto-optimal on the boards you own. "
    "Errors are one line; --debug adds the traceback.",
    epilog="Example: boardfront search examples/quickstart.toml",
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
_device = typer.Typer(
    help="One device: is it still what it was?",
    epilog="Example: boardfront device verify local",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(_device, name="device")

_Json = Annotated[bool, typer.Option("--json", help="Print JSON, seconds throughout.")]
_Store = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="FILE", help="Measurement store (default: BOARDFRONT_STORE, or yours)."
    ),
]
_Runs = Annotated[Path, typer.Option("--runs", metavar="FOLDER", help="Where runs are kept.")]


@app.command("measure", epilog="Example: boardfront measure net.onnx --option threads=4 --json")
def _measure(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Any ONNX file.")],
    *,
    device: Annotated[
        str, typer.Option(metavar="HOST:PORT|local", help="The agent that measures.")
    ] = "local",
    backend: Annotated[str, typer.Option(help="What executes the network.")] = "onnxruntime",
    batch: Annotated[int, typer.Option(min=1, help="Batch of a dynamic first dimension.")] = 1,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=1x3x224x224", help="Shape of a dynamic input; repeatable."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Backend option, e.g. threads=4; repeatable."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="OTHER.onnx", help="Alternate with this network and give the ratio to it."
        ),
    ] = None,
    cpus: Annotated[
        str, typer.Option(metavar="4-7", help="Cores to run on (default: the fastest cluster).")
    ] = "",
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
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure what the store holds.")] = False,
    precision: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="Half of the 95 % interval over the median.")
    ] = 0.01,
    duration: Annotated[
        float, typer.Option(min=0.05, metavar="SECONDS", help="Shortest spread of the windows.")
    ] = 2.0,
    deadline: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Longest time of running.")
    ] = 30.0,
    compile_deadline: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Longest time of compiling.")
    ] = 300.0,
    as_json: _Json = False,
    store: _Store = None,
) -> int:
    """Measure the inference time of an ONNX file on a device."""
    from boardfront.host.commands import measure
    from boardfront.host.models import parse_option, parse_shape
    from boardfront.protos.records import Deadlines, Precision

    if deadline < duration:
        raise WrongInputError(
            f"--deadline {deadline:g} is shorter than --duration {duration:g}: "
            "expected at least as long"
        )
    return measure.run(
        measure.MeasureArguments(
            model=model,
            reference=reference,
            device=device,
            backend=backend,
            batch=batch,
            shapes=dict(parse_shape(text) for text in shape or ()),
            options=dict(parse_option(text) for text in option or ()),
            cpus=cpus,
            start_below_c=start_below,
            fresh=fresh,
            sentinel=sentinel,
            as_json=as_json,
            precision=Precision(relative_half_width=precision, min_duration_s=duration),
            deadlines=Deadlines(run_s=deadline, compile_s=compile_deadline),
            store=store or default_store(),
        )
    )


@app.command("devices", epilog="Example: boardfront devices --device 192.168.1.20:50051")
def _devices(
    *,
    device: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT|local", help="Device to ask; repeatable."),
    ] = None,
    as_json: _Json = False,
) -> int:
    """Show devices: what they are, their backends, their queue."""
    from boardfront.host.commands import devices

    return devices.run(device or ["local"], as_json=as_json)


@_device.command(
    "verify", epilog="Example: boardfront device verify 192.168.1.20:50051 --sample 20"
)
def _device_verify(
    device: Annotated[
        str, typer.Argument(metavar="HOST:PORT|local", help="The agent that measures.")
    ],
    *,
    sample: Annotated[int, typer.Option(min=1, help="How many are measured again.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the random sample.")] = 0,
    as_json: _Json = False,
    store: _Store = None,
) -> int:
    """Measure again a sample of what the store holds; 0 if all agree within 2 %, else 1."""
    from boardfront.host.commands import device as command

    return command.run_verify(
        command.VerifyArguments(
            device=device,
            sample=sample,
            seed=seed,
            as_json=as_json,
            store=store or default_store(),
        )
    )


@app.command("search", epilog="Example: boardfront search examples/quickstart.toml")
def _search(
    experiment: Annotated[
        Path | None, typer.Argument(metavar="EXPERIMENT.toml", help="What to search.")
    ] = None,
    *,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN|latest", help="Go on with a run: its folder or its name."),
    ] = None,
    runs: _Runs = Path("runs"),
    as_json: _Json = False,
    store: _Store = None,
) -> int:
    """Train a supernet, search it, and ship the front measured whole."""
    from boardfront.host.commands import search

    return search.run(
        search.SearchArguments(
            experiment=experiment,
            resume=resume,
            runs=runs,
            as_json=as_json,
            store=store or default_store(),
        )
    )


@app.command("runs", epilog="Example: boardfront runs --json")
def _runs(*, runs: _Runs = Path("runs"), as_json: _Json = False) -> int:
    """List runs, newest first, and how to go on with them."""
    from boardfront.host.commands import runs as command

    return command.run(runs, as_json=as_json)


@_space.command("list", epilog="Example: boardfront space list --json")
def _space_list(*, as_json: _Json = False) -> int:
    """List the search spaces and their settings."""
    from boardfront.host.commands import space

    return space.run_list(as_json=as_json)


@_space.command(
    "show", epilog="Example: boardfront space show spos 3357-x7x3-33573x57-5xx3 --json"
)
def _space_show(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="Name of the space.")],
    encoding: Annotated[str, typer.Argument(metavar="ENCODING", help="The architecture.")],
    *,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting as in TOML; repeatable."),
    ] = None,
    as_json: _Json = False,
) -> int:
    """Show an architecture's size: parameters, MACs, activations."""
    from boardfront.host.commands import space as command

    return command.run_show(
        space, encoding, command.parse_settings(setting or ()), as_json=as_json
    )
