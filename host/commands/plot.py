"""`boardfront plot`: any plot of a report alone, as SVG or PNG."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host.report.plots import Plot

RESIDUAL = "residual"
"""The kind that shows a latency table instead of a run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlotArguments:
    """What the person asked.

    Args:
        subjects: A run; several for the kinds that lay them over each other; or the file of a
            latency table for the kind `RESIDUAL`.
        kind: Which plot.
        runs: Where runs are kept.
        output: Ends in .svg or .png; None: a default name, or standard output (SVG) where that
            is no terminal.
        target: Whose times; empty takes the first, of several runs the first that all have.
        scale: Pixels a unit, of a PNG.
    """

    subjects: tuple[str, ...]
    kind: str
    runs: Path
    output: Path | None = None
    target: str = ""
    scale: float = 2.0


def run(arguments: PlotArguments) -> int:
    """Draw the plot and say what it shows and where it is.

    Raises:
        WrongInputError: There is no such run, kind or target, or the file cannot be written.
        NothingToDrawError: The run has nothing of what the plot shows.
        MissingPlotsError: The libraries that draw are not installed.
    """
    from boardfront.host.commands.report import write_whole
    from boardfront.host.report.drawing import check_libraries, png_of
    from boardfront.host.report.theme import PAPER

    suffix = _suffix(arguments.output)
    default, plot = _plot(arguments)
    check_libraries("altair", "vl_convert")
    svg = plot.svg(PAPER)
    output = arguments.output
    if output is None and not sys.stdout.isatty():
        sys.stdout.write(svg + "\n")
        return 0
    output = output or Path(f"{default}.svg")
    content = png_of(svg, scale=arguments.scale) if suffix == ".png" else svg.encode()
    write_whole(output, content)
    sys.stderr.write(f"{plot.message}\n{output}\n")
    return 0


def _suffix(output: Path | None) -> str:
    suffix = output.suffix.lower() if output else ".svg"
    if suffix not in {".svg", ".png"}:
        raise WrongInputError(f"{output}: expected a name that ends in .svg or .png: choose one")
    return suffix


def _plot(arguments: PlotArguments) -> tuple[str, Plot]:
    """Return what a file of the plot is called by default, and the plot."""
    from boardfront.host.report import plots

    if arguments.kind == RESIDUAL:
        return _table_plot(arguments.subjects)
    if arguments.kind not in plots.KINDS:
        known = ", ".join((*plots.KINDS, RESIDUAL))
        raise WrongInputError(f"no plot {arguments.kind!r}: expected one of {known}")
    from boardfront.host.commands.report import read_runs

    found = read_runs(arguments.subjects, arguments.runs)
    if len(found) > 1:
        from boardfront.host.report.comparing import comparison_plot

        plot = comparison_plot(found, arguments.kind, arguments.target)
    else:
        plot = plots.plot(found[0], arguments.kind, arguments.target)
    names = "-and-".join(one.view.folder.resolve().name for one in found)
    return f"{names}-{plot.name}", plot


def _table_plot(subjects: Sequence[str]) -> tuple[str, Plot]:
    from boardfront.host.report import plots
    from boardfront.latency_models.table import Table

    if len(subjects) != 1:
        raise WrongInputError(
            f"{len(subjects)} files for the plot {RESIDUAL!r}: expected one latency table"
        )
    path = Path(subjects[0])
    return f"{path.stem}-{RESIDUAL}", plots.table_plot(Table.load(path))
