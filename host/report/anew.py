"""What to type to search anew: the experiment and the tables that a run went by, found again."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.host.config import recall_experiment
from boardfront.host.run_folder import RunFolder
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host.experiment import Experiment
    from boardfront.host.view.run_view import RunView


def recalled(view: RunView) -> Experiment | None:
    """Return a run's experiment; None where it cannot be read."""
    try:
        return recall_experiment(view.experiment_text, file=str(RunFolder(view.folder).experiment))
    except BoardfrontError:
        return None


def search_anew(view: RunView) -> str:
    """Return the shell line that makes the same search anew.

    It names the file that the run was started from where that is still what it was. Else the
    run's own copies are laid out in a new folder as the originals stood to each other: an
    experiment finds its tables relative to itself, and is called after its file where it has no
    name of its own.
    """
    run = RunFolder(view.folder)
    source = _source(run)
    tables = [
        (run.table(index), target.table.name)
        for index, target in enumerate(view.targets)
        if target.table is not None
    ]
    if source is not None and _is_as_it_was(source, view, [name for _, name in tables]):
        return line("boardfront", "search", _short(source))
    stem = source.stem if source is not None else run.experiment.stem
    lost = [(copy, name) for copy, name in tables if not _stands_by_itself(name)]
    if not lost and _is_called_alike(view, stem):
        return line("boardfront", "search", str(run.experiment))
    return " && ".join(_laid_out(run, stem, lost))


def line(*parts: str) -> str:
    """Return words as a shell reads them."""
    return " ".join(shlex.quote(part) for part in parts)


def _source(run: RunFolder) -> Path | None:
    """Return the file that the run was started from, there or not; None where nobody wrote it."""
    try:
        return run.source
    except (BoardfrontError, TypeError):
        return None


def _is_as_it_was(source: Path, view: RunView, tables: Sequence[str]) -> bool:
    """Return whether a search of this file would be the same: it and its tables are there."""
    try:
        is_same = source.read_text(encoding="utf-8") == view.experiment_text
    except (OSError, ValueError):
        return False
    return is_same and all((source.parent / table).is_file() for table in tables)


def _stands_by_itself(table: str) -> bool:
    """Return whether a table is found from any folder."""
    return Path(table).is_absolute() and Path(table).is_file()


def _is_called_alike(view: RunView, stem: str) -> bool:
    """Return whether the run's own copy gives new runs the name that a file of that stem does."""
    own = recalled(view)
    try:
        wanted = recall_experiment(view.experiment_text, file=f"{stem}.toml")
    except BoardfrontError:
        return True
    return own is None or own.name == wanted.name


def _laid_out(run: RunFolder, stem: str, tables: Sequence[tuple[Path, str]]) -> list[str]:
    """Return the commands that copy a run's experiment and tables and search with them."""
    ups = max((_ups(name) for _, name in tables), default=0)
    folder = Path(f"{stem}-again", *["experiment"] * ups)
    file = folder / f"{stem}.toml"
    copies = {str(file): run.experiment}
    copies |= {os.path.normpath(folder / name): copy for copy, name in tables}
    return [
        line("mkdir", "-p", *dict.fromkeys(str(Path(copy).parent) for copy in copies)),
        *(line("cp", str(copy), to) for to, copy in copies.items()),
        line("boardfront", "search", str(file)),
    ]


def _ups(name: str) -> int:
    """Return by how many folders a relative name leads upwards."""
    parts = Path(os.path.normpath(name)).parts
    return sum(part == ".." for part in parts)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
