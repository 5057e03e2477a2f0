"""The store as a file: what a person does with it, and what may be in its way.

What every store promises is in `tests/conformance/test_stores.py`.
"""

from __future__ import annotations

import dataclasses
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from tests.latency_models import samples

from boardfront.latency_models.store import MeasurementStore, StoreError
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MeasurementStore]:
    with MeasurementStore(tmp_path / "store.db", clock=lambda: 5.0) as opened:
        yield opened


def _add(store: MeasurementStore, number: int) -> None:
    store.append(samples.measurement(job_id=f"job-{number}"))


def test_a_person_can_read_it_with_sqlite3(store: MeasurementStore, tmp_path: Path) -> None:
    _add(store, 1)
    with sqlite3.connect(tmp_path / "store.db") as connection:
        row = connection.execute(
            "select median_s, interval_low_s, interval_high_s, verdict, purpose, origin, backend "
            "from measurements",
        ).fetchone()
        mode = connection.execute("pragma journal_mode").fetchone()
    connection.close()
    assert row[0] == 0.002
    assert row[1] < row[0] < row[2]
    assert row[3:] == ("ok", "candidate", "programmed", "onnxruntime")
    assert mode == ("wal",)


def test_a_url_is_accepted(tmp_path: Path) -> None:
    with MeasurementStore(f"sqlite:///{tmp_path}/by-url.db") as store:
        _add(store, 1)
    assert (tmp_path / "by-url.db").exists()


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database at all\n" * 100)
    with pytest.raises(WrongInputError, match="a boardfront store, got a file of another kind"):
        MeasurementStore(path)
    assert path.read_text().startswith("not a database")


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path / "missing" / "store.db"):
        assert (tmp_path / "missing" / "store.db").is_file()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"check its folder") as error:
        MeasurementStore(tmp_path / "file" / "store.db")
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    MeasurementStore(tmp_path / "store.db").close()
    url = f"sqlite:///file:{tmp_path}/store.db?mode=ro&uri=true"
    with (
        pytest.raises(StoreError, match=r"readonly database.*run again") as error,
        MeasurementStore(url) as store,
    ):
        _add(store, 1)
    assert "\n" not in str(error.value)


def test_a_full_disk_is_one_line_and_stores_nothing(store: MeasurementStore) -> None:
    _add(store, 1)

    @sa.event.listens_for(store._engine, "begin")
    def _no_space(connection: sa.engine.Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")

    big = dataclasses.replace(samples.result(), warm_up_s=(0.5,) * 100_000)
    with pytest.raises(StoreError, match=r"database or disk is full.*free space") as error:
        store.append(samples.measurement(big, job_id="job-2"))
    assert "\n" not in str(error.value)
    assert len(store.history(samples.KEY)) == 1


def _start_writer(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.latency_models.store_writer", *map(str, arguments)]
    return subprocess.Popen(command, cwd=_ROOT)


def test_what_append_returned_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    assert _start_writer(path, 0, 1, "die").wait(timeout=60) == -signal.SIGKILL
    with MeasurementStore(path) as store:
        assert len(store.history(samples.KEY)) == 2
        _add(store, 2)
