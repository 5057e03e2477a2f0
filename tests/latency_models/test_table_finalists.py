"""What searches add to a table: a row each, whole or not, and nothing else changes."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.latency_models import table_samples

from boardfront.latency_models.table import FinalistRow, Table
from boardfront.latency_models.table_exchange import export_table, import_any
from boardfront.latency_models.table_finalists import (
    FinalistTime,
    Usage,
    add_row,
    judge,
    save_with_rows,
)
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from pathlib import Path


def _time(
    encoding: str, predicted_s: float, measured_s: float, *, over: bool = False
) -> FinalistTime:
    return FinalistTime(
        encoding=encoding,
        predicted_s=predicted_s,
        low_s=0.95 * predicted_s,
        high_s=1.05 * predicted_s,
        measured_s=measured_s,
        over_limit=over,
    )


def _row(table: Table, run: str = "night", target: str = "pi") -> FinalistRow:
    usage = Usage(
        run=run,
        target=target,
        measured_unix_s=1_700_000_000.0,
        table_digest=table.content_digest,
        model="additive, calibrated",
        level=1.1,
    )
    finalists = [
        _time("a", 1.0, 1.1),
        _time("b", 2.0, 2.2, over=True),
        _time("c", 3.0, 3.0),
        _time("d", 4.0, 4.4),
    ]
    row = judge(usage, finalists)
    assert row is not None
    return row


@pytest.fixture
def table() -> Table:
    """A whole table."""
    return table_samples.table()


@pytest.fixture
def path(table: Table, tmp_path: Path) -> Path:
    """Its file."""
    table.save(tmp_path / "toy.json")
    return tmp_path / "toy.json"


def test_what_is_said_of_finalists(table: Table) -> None:
    row = _row(table)
    error = row.error
    # Errors: -1/11 three times, 0 once.
    assert error.networks == 4
    assert error.mape == pytest.approx(3 / 44)
    assert error.bias == pytest.approx(-3 / 44)
    assert (error.within_5, error.within_10) == (0.25, 1.0)
    assert error.worst == pytest.approx(-1 / 11)
    assert error.worst_encoding in {"a", "b", "d"}
    assert error.spearman == 1.0
    # 1.05 times what was predicted is less than what was measured of the three.
    assert (row.inside, row.over_limit) == (1, 1)
    # At the level of 1.1 only the other one is off.
    assert row.at_level is not None
    assert row.at_level.mape == pytest.approx(0.1 / 4)
    assert row.at_level.worst_encoding == "c"


def test_no_finalists_no_row_and_no_level_no_error_at_it() -> None:
    usage = Usage(
        run="r", target="t", measured_unix_s=0.0, table_digest="d", model="additive", level=None
    )
    assert judge(usage, []) is None
    row = judge(usage, [_time("a", 1.0, 1.0)])
    assert row is not None
    assert (row.level, row.at_level, row.error.spearman) == (None, None, None)


def test_a_row_is_added_and_changes_nothing_else(table: Table, path: Path) -> None:
    add_row(path, _row(table))
    found = Table.load(path)
    assert found.finalists == (_row(table),)
    assert replace(found, finalists=()) == table
    assert found.residual == table.residual
    assert found.content_digest == table.content_digest
    assert list(path.parent.iterdir()) == [path]


def test_a_run_has_one_row_a_target(table: Table, path: Path) -> None:
    add_row(path, _row(table))
    add_row(path, _row(table, run="day"))
    add_row(path, _row(table, target="gpu"))
    again = replace(_row(table), measured_unix_s=1_800_000_000.0)
    add_row(path, again)
    found = Table.load(path).finalists
    assert [(one.run, one.target) for one in found] == [
        ("day", "pi"),
        ("night", "gpu"),
        ("night", "pi"),
    ]
    assert found[-1] == again


def test_many_writers_lose_no_row(table: Table, path: Path) -> None:
    rows = [_row(table, run=f"run-{number}") for number in range(12)]
    threads = [threading.Thread(target=add_row, args=(path, row)) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30.0)
    found = Table.load(path).finalists
    assert sorted(one.run for one in found) == sorted(row.run for row in rows)
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays_a_link(table: Table, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(path)
    add_row(link, _row(table))
    assert link.is_symlink()
    assert len(Table.load(path).finalists) == 1


def test_a_read_only_table_is_left_alone(table: Table, path: Path) -> None:
    path.chmod(0o444)
    before = path.read_bytes()
    with pytest.raises(WrongInputError, match="got a read-only file"):
        add_row(path, _row(table))
    assert path.read_bytes() == before


def test_a_table_that_was_built_anew_gets_no_row_of_the_old_one(table: Table, path: Path) -> None:
    replace(table, notes=("built on Friday",)).save(path)
    before = path.read_bytes()
    with pytest.raises(WrongInputError, match="built anew or gone on with since"):
        add_row(path, _row(table))
    assert path.read_bytes() == before
    with pytest.raises(WrongInputError, match="expected a latency table, got No such file"):
        add_row(path.with_name("none.json"), _row(table))


def test_a_build_that_goes_on_keeps_the_rows(table: Table, path: Path) -> None:
    add_row(path, _row(table))
    longer = replace(table, notes=("looked again",))
    save_with_rows(longer, path)
    assert Table.load(path) == replace(longer, finalists=(_row(table),))
    # Another build under the same name is another table, and replaces what it was told to.
    mine, another = replace(table, seed="mine"), replace(table, seed="another")
    save_with_rows(mine, path)
    with pytest.raises(WrongInputError, match="one that another build has written meanwhile"):
        save_with_rows(another, path)
    assert Table.load(path).seed == "mine"
    save_with_rows(another, path, replaces="mine")
    assert Table.load(path).finalists == ()
    path.write_text("{")
    save_with_rows(table, path)
    assert Table.load(path) == table


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_rows_leave_with_the_table_and_come_back(
    table: Table, tmp_path: Path, ending: str
) -> None:
    full = replace(table, finalists=(_row(table),))
    export_table(full, tmp_path / f"out.{ending}")
    assert import_any(tmp_path / f"out.{ending}", name="") == full


def test_a_table_of_before_is_read(table: Table, path: Path) -> None:
    content = json.loads(path.read_text())
    del content["finalists"]
    path.write_text(json.dumps(content))
    assert Table.load(path) == table
