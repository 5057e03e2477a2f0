"""What a table was worth on the finalists of searches: a row each, in the table's own file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.latency_models.accuracy import assess
from boardfront.latency_models.table import FinalistRow, Table
from boardfront.latency_models.table_parts import PredictionError
from boardfront.latency_models.table_residual import error_fields
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_WAIT_S = 10.0
_TRY_AGAIN_AFTER_S = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalistTime:
    """A network that a search chose, with what the table said of it and what was measured.

    Args:
        encoding: The network.
        predicted_s: Seconds a run.
        low_s: Of the predicted 95 % interval.
        high_s: Of the predicted 95 % interval.
        measured_s: Seconds a run.
        over_limit: Whether that is over the search's limit.
    """

    encoding: str
    predicted_s: float
    low_s: float
    high_s: float
    measured_s: float
    over_limit: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Which search used a table, and how.

    Args:
        run: Name of the run's folder.
        target: Of the run's experiment.
        measured_unix_s: When the finalists had been measured.
        table_digest: Of the table that predicted.
        model: What predicted.
        level: See `FinalistRow`.
        forced: See `FinalistRow`.
    """

    run: str
    target: str
    measured_unix_s: float
    table_digest: str
    model: str
    level: float | None = None
    forced: tuple[str, ...] = ()


def judge(usage: Usage, finalists: Sequence[FinalistTime]) -> FinalistRow | None:
    """Return how far a table was from finalists; None where none was measured."""
    if not finalists:
        return None
    level = usage.level
    return FinalistRow(
        run=usage.run,
        target=usage.target,
        measured_unix_s=usage.measured_unix_s,
        table_digest=usage.table_digest,
        model=usage.model,
        error=_error(finalists, 1.0),
        inside=sum(one.low_s <= one.measured_s <= one.high_s for one in finalists),
        over_limit=sum(one.over_limit for one in finalists),
        level=level,
        at_level=None if level is None else _error(finalists, level),
        forced=usage.forced,
    )


def add_row(path: Path, row: FinalistRow) -> None:
    """Add a row to a table's file, in place of an earlier one of the same run and target.

    The file is replaced whole or not at all; of several writers one waits for the other. Nothing
    but the rows changes.

    Raises:
        WrongInputError: The file is gone, damaged, may not be written, or holds another table by
            now than the one that predicted.
    """
    with _held(path) as place:
        if not place.stat().st_mode & 0o222:
            # Replacing a file needs no right to write it: a protected one is left alone.
            raise WrongInputError(
                f"{path}: expected a table that may be written, got a read-only file: allow it, "
                "or give the search a copy"
            )
        table = Table.load(place)
        if table.content_digest != row.table_digest:
            raise WrongInputError(
                f"{path}: expected the table that the search went by, got another: it was "
                "built anew or gone on with since"
            )
        others = (one for one in table.finalists if (one.run, one.target) != (row.run, row.target))
        replace(table, finalists=(*others, row)).save(place)


def seed_in(path: Path) -> str:
    """Return the seed of the build whose table a file holds; empty where it holds none."""
    found = _table_in(path)
    return "" if found is None else found.seed


def refuse_other(path: Path, seeds: Collection[str]) -> None:
    """Make sure that a file holds no table but these builds'.

    Args:
        path: The file.
        seeds: Of the builds.

    Raises:
        WrongInputError: Another build has written it meanwhile.
    """
    seed = seed_in(path)
    if seed and seed not in seeds:
        raise WrongInputError(
            f"{path}: expected no table but this build's, got one that another build has written "
            "meanwhile: call it again to go on with that one, or choose another -o"
        )


def save_with_rows(table: Table, path: Path, *, replaces: str = "") -> None:
    """Write a table; rows that searches have added to an earlier state of this build are kept.

    Args:
        table: What is known by now.
        path: Of the file.
        replaces: Seed of the build whose table may be written over as well.

    Raises:
        WrongInputError: The file cannot be written, or another build has written it meanwhile.
    """
    if not path.exists():
        table.save(path)
        return
    with _held(path) as place:
        refuse_other(place, (table.seed, replaces))
        replace(table, finalists=_rows_of(place, table.seed)).save(place)


def _rows_of(place: Path, seed: str) -> tuple[FinalistRow, ...]:
    """Return the rows in a file, if it is of this build."""
    before = _table_in(place)
    return before.finalists if before is not None and before.seed == seed else ()


def _table_in(path: Path) -> Table | None:
    try:
        return Table.load(path)
    except WrongInputError:  # what is written over need not be a table
        return None


def _error(finalists: Sequence[FinalistTime], level: float) -> PredictionError:
    found = assess(
        [one.predicted_s * level for one in finalists], [one.measured_s for one in finalists]
    )
    return PredictionError(**error_fields(found, [one.encoding for one in finalists]))


@contextlib.contextmanager
def _held(path: Path) -> Iterator[Path]:
    """Lock a file and give its place; it is the one of this name while the lock is held."""
    deadline_s = time.monotonic() + _WAIT_S
    # A link stays a link: what it points to is replaced.
    place = Path(os.path.realpath(path))
    while True:
        descriptor = _open(place)
        try:
            if _lock(descriptor) and _is_still(descriptor, place):
                yield place
                return
        finally:
            os.close(descriptor)
        if time.monotonic() > deadline_s:
            raise WrongInputError(
                f"{path}: expected a table that can be locked, got one that another process "
                f"has held for {_WAIT_S:.0f} s: try again when it is done"
            )
        time.sleep(_TRY_AGAIN_AFTER_S)


def _open(place: Path) -> int:
    try:
        return os.open(place, os.O_RDONLY)
    except OSError as problem:
        raise WrongInputError(
            f"{place}: expected a latency table, got {problem.strerror}: check the path"
        ) from problem


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a share that knows no locks
        return True
    return True


def _is_still(descriptor: int, place: Path) -> bool:
    """Return whether the file is not replaced: who waited may have locked the one of before."""
    try:
        now, mine = place.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino)
