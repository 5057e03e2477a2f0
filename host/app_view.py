"""The arguments of the commands that show a run; the work is in `commands/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from boardfront.host import complete
from boardfront.host.app_options import (  # noqa: TC001 - typer reads annotations
    FleetFile,
    Json,
    Store,
)
from boardfront.host.paths import default_store, use_fleet


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "monitor",
        epilog="Example: boardfront monitor latest; the run may go on here, have ended, or be on "
        "another machine whose folder is shared.",
    )(_monitor)
    app.command(
        "export",
        epilog="Example: boardfront export latest --max-latency 12ms -o net --verify",
    )(_export)
    app.command(
        "report",
        epilog="Example: boardfront report latest -o report.html; or boardfront report A B to "
        "compare runs.",
    )(_report)
    app.command(
        "plot",
        epilog="Example: boardfront plot latest front -o front.png; boardfront plot A B front to "
        "lay runs over each other; or boardfront plot spos-pi5.json residual",
    )(_plot)


def _export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|latest",
            help="A finished run: its folder or its name.",
            autocompletion=complete.runs,
        ),
    ] = "latest",
    *,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FOLDER", help="What is written; whole or not."),
    ],
    pick: Annotated[
        str | None,
        typer.Option(
            "--pick",
            metavar="knee|fastest|best|INDEX",
            autocompletion=complete.picks,
            help="Which network of the front (default: knee).",
        ),
    ] = None,
    max_latency: Annotated[
        str,
        typer.Option(
            "--max-latency",
            metavar="12ms",
            help="The most accurate network whose whole measured interval keeps this.",
        ),
    ] = "",
    target: Annotated[
        str, typer.Option("--target", metavar="NAME", help="Whose times count (default: first).")
    ] = "",
    tvm: Annotated[
        bool, typer.Option("--tvm", help="Compile it for the target's processor as well.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Measure it again on the target; 1 if it is slower."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export.")
    ] = False,
    runs: Annotated[
        Path, typer.Option("--runs", metavar="FOLDER", help="Where runs are kept.")
    ] = Path("runs"),
    as_json: Json = False,
    store: Store = None,
    fleet: FleetFile = None,
) -> int:
    """Take one network of a run along: ONNX, README, promised time."""
    from boardfront.host.commands import export

    use_fleet(fleet)
    return export.run(
        export.ExportArguments(
            run=run,
            runs=runs,
            output=output,
            rule=pick,
            max_latency=max_latency,
            target=target,
            tvm=tvm,
            verify=verify,
            overwrite=overwrite,
            as_json=as_json,
            store=store or default_store(),
        )
    )


def _monitor(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|latest",
            help="A run: its folder or its name.",
            autocompletion=complete.runs,
        ),
    ] = "latest",
    *,
    runs: Annotated[
        Path, typer.Option("--runs", metavar="FOLDER", help="Where runs are kept.")
    ] = Path("runs"),
    control: Annotated[
        bool, typer.Option("--control", help="Let the keys p, r, c and C pause, resume, cancel.")
    ] = False,
    fleet: FleetFile = None,
    as_json: Json = False,
) -> int:
    """Look at a run as it goes on or as it ended."""
    from boardfront.host.commands import monitor

    use_fleet(fleet)
    return monitor.run(
        monitor.MonitorArguments(run=run, runs=runs, control=control, as_json=as_json)
    )


def _report(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|latest]...",
            help="Folders or names; several are compared.",
            autocompletion=complete.runs,
        ),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="What is written; whole or not."),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="html|md",
            help="One page that needs no network, or Markdown (default: as FILE ends, or html).",
        ),
    ] = "",
    runs: Annotated[
        Path, typer.Option("--runs", metavar="FOLDER", help="Where runs are kept.")
    ] = Path("runs"),
    as_json: Json = False,
) -> int:
    """Write what a run found as one page; compare several."""
    from boardfront.host.commands import report

    return report.run(
        report.ReportArguments(
            names=tuple(run or ()), runs=runs, output=output, form=form, as_json=as_json
        )
    )


def _runs_or_plots(ctx: typer.Context, incomplete: str) -> complete.Offers:
    """Offer runs, and behind the first one the plots too."""
    is_behind = bool(ctx.params.get("kind") or ctx.params.get("subjects"))
    return [*(complete.plots(incomplete) if is_behind else []), *complete.runs(ctx, incomplete)]


def _plot(
    subjects: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|latest|TABLE.json",
            help="A run, or a table for residual; several runs for front and hypervolume.",
            autocompletion=_runs_or_plots,
        ),
    ],
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            autocompletion=complete.plots,
            help="front, hypervolume, predicted, devices, architectures, training; residual: a "
            "latency table's whole networks, predicted against measured.",
        ),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Ends in .svg or .png."),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", metavar="NAME", help="Whose times count (default: first).")
    ] = "",
    scale: Annotated[float, typer.Option(min=0.5, max=8.0, help="Pixels a unit, of a PNG.")] = 2.0,
    runs: Annotated[
        Path, typer.Option("--runs", metavar="FOLDER", help="Where runs are kept.")
    ] = Path("runs"),
) -> int:
    """Draw one plot of a run, of several runs, or of a table."""
    from boardfront.host.commands import plot

    return plot.run(
        plot.PlotArguments(
            subjects=tuple(subjects),
            kind=kind,
            runs=runs,
            output=output,
            target=target,
            scale=scale,
        )
    )
