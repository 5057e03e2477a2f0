"""Which measurement store a run goes on with: a journal's numbers mean nothing in another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.latency_models.store_location import file_of, shown
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.run_folder import RunFolder


def recorded(location: str | Path) -> str:
    """Return a store's location as a run writes it down: whole, without a password."""
    file = file_of(location)
    return shown(location) if file is None else str(file.resolve())


def store_of_run(folder: RunFolder, given: str | Path, default: str) -> str | Path:
    """Return the store that a run goes on with.

    Args:
        folder: Of the run.
        given: What the person asked for, or `default`.
        default: Where measurements go unless a person says otherwise.

    Raises:
        WrongInputError: The person asked for another one than the run's, which still is there,
            or the run's needs a password.
    """
    kept = folder.store
    if kept is None or kept == recorded(given):
        return given
    file = file_of(kept)
    if file is not None and not file.is_file():
        # It was moved, or the run was; nobody but the person knows where to.
        return given
    if str(given) == default and "***" not in kept:
        return kept
    raise WrongInputError(
        f"the run's measurements are in {kept}, got the store {shown(given)}: resume it with "
        f"--store {kept}"
    )
