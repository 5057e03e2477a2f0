"""`boardfront report`: a run as a page or as Markdown, or several runs beside each other."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.host.report.findings import Findings
    from boardfront.host.report.page import Document
    from boardfront.host.report.plots import Plot

FORMATS = ("html", "md")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportArguments:
    """What the person asked.

    Args:
        names: Of runs: their folders, names under `runs`, or "latest".
        runs: Where runs are kept.
        output: The file; None: a default name, or standard output where that is no terminal.
        form: One of `FORMATS`; empty takes the output's suffix, else html.
        as_json: Print the values instead.
    """

    names: tuple[str, ...]
    runs: Path
    output: Path | None = None
    form: str = ""
    as_json: bool = False


def run(arguments: ReportArguments) -> int:
    """Write the report and say where it is.

    Raises:
        WrongInputError: There is no such run or format, or the file cannot be written.
        MissingPlotsError: The libraries that draw are not installed.
    """
    form = _form(arguments)
    found = read_runs(arguments.names or ("latest",), arguments.runs)
    if arguments.as_json:
        sys.stdout.write(json.dumps(_to_json(found), indent=2) + "\n")
        return 0
    output = arguments.output
    if output is None and sys.stdout.isatty():
        output = Path(f"{'-and-'.join(one.view.folder.name for one in found)}-report.{form}")
    document = _write_html(found) if form == "html" else _write_markdown(found, output)
    if output is None:
        sys.stdout.write(document)
        return 0
    _save(output, document)
    return 0


def _form(arguments: ReportArguments) -> str:
    suffix = arguments.output.suffix.lstrip(".").lower() if arguments.output else ""
    form = arguments.form or {"htm": "html", "markdown": "md"}.get(suffix, suffix) or "html"
    if form not in FORMATS:
        raise WrongInputError(
            f"no report format {form!r}: expected one of {', '.join(FORMATS)}; "
            "plots alone are written by boardfront plot"
        )
    return form


def read_runs(names: Sequence[str], runs: Path) -> list[Findings]:
    """Read runs that a person named; each is called by another name, by its folder if need be.

    Raises:
        WrongInputError: There is no such run, one is named twice, or one cannot be read.
    """
    from boardfront.host.report.reading import read_findings
    from boardfront.host.run_folder import find_run

    folders = [find_run(name, runs) for name in names]
    paths = [folder.path.resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise WrongInputError(
            f"expected runs that differ, got {folders[0].path} twice: give each once"
        )
    found = [read_findings(folder) for folder in folders]
    if len({one.view.name for one in found}) == len(found):
        return found
    # Copies of one name from different places.
    return [replace(one, view=replace(one.view, name=str(one.view.folder))) for one in found]


def _to_json(found: Sequence[Findings]) -> dict[str, Any]:
    from boardfront.host.report import comparing, rows

    return rows.to_json(found[0]) if len(found) == 1 else comparing.to_json(found)


def _document(found: Sequence[Findings], draw: Callable[[Plot], dict[str, str]]) -> Document:
    from boardfront.host.report import comparing, page

    return page.report(found[0], draw) if len(found) == 1 else comparing.comparison(found, draw)


def _write_html(found: Sequence[Findings]) -> str:
    from boardfront.host.report import page
    from boardfront.host.report.drawing import check_libraries

    check_libraries("altair", "vl_convert", "jinja2")
    return page.page(_document(found, page.in_page), time.time())


def _write_markdown(found: Sequence[Findings], output: Path | None) -> str:
    """Write Markdown; with a file its plots lie in a folder beside it."""
    from boardfront.host.report import page
    from boardfront.host.report.drawing import check_libraries

    if output is None:
        check_libraries("jinja2")
        return page.markdown(_document(found, lambda _: {}))
    check_libraries("altair", "vl_convert", "jinja2")
    folder = output.with_name(f"{output.stem}-plots")

    def draw(plot: Plot) -> dict[str, str]:
        from urllib.parse import quote

        from boardfront.host.report.theme import PAPER

        _make_folder(folder)
        file = folder / f"{plot.name}.svg"
        write_whole(file, plot.svg(PAPER).encode())
        return {"file": quote(f"{folder.name}/{file.name}")}

    return page.markdown(_document(found, draw))


def _save(output: Path, document: str) -> None:
    content = document.encode()
    write_whole(output, content)
    sys.stderr.write(f"{output} ({_size(len(content))})\n")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as problem:
        raise WrongInputError(
            f"{folder}: expected a folder for the plots, got {problem.strerror}: choose another "
            "place by -o"
        ) from problem


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        WrongInputError: It cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as problem:
        part.unlink(missing_ok=True)
        raise WrongInputError(
            f"{path}: expected a place to write to, got {problem.strerror}: choose another by -o"
        ) from problem


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"
