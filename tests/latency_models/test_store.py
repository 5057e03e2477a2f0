"""The store keeps everything, answers by its one rule, and stands several processes."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.schema import CreateTable
from tests.latency_models import samples

from boardfront.latency_models.store import MeasurementStore, StoreError
from boardfront.latency_models.store_engine import VERSION_TABLE, open_engine
from boardfront.latency_models.store_schema import metadata
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Normalised, Precision, Purpose, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIXTURES = Path(__file__).parent / "fixtures"
_ROOT = Path(__file__).parents[2]
_ASKED = Precision(relative_half_width=0.02, min_duration_s=2.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MeasurementStore]:
    with MeasurementStore(tmp_path / "store.db", clock=lambda: 5.0) as opened:
        yield opened


def _add(store: MeasurementStore, number: int, created_unix_s: float = 0.0, **changes: Any) -> int:
    outcome = samples.result(**changes)
    measurement = samples.measurement(
        outcome,
        job_id=f"job-{number}",
        created_unix_s=created_unix_s,
    )
    stored = store.append(measurement)
    assert stored.id is not None
    return stored.id


@pytest.mark.parametrize("outcome", [samples.result(), samples.failure()], ids=["result", "fail"])
def test_what_was_appended_comes_back_whole(store: MeasurementStore, outcome: Any) -> None:
    measurement = samples.measurement(outcome)
    stored = store.append(measurement)
    assert stored.id is not None
    assert dataclasses.replace(stored, id=None) == measurement
    assert store.find("job-1", "s0") == stored
    assert store.history(samples.KEY) == (stored,)
    assert (stored.result is None) != (stored.failure is None)


def test_appending_again_returns_the_stored_one(store: MeasurementStore) -> None:
    first = store.append(samples.measurement())
    again = store.append(samples.measurement(samples.failure()))
    assert again == first
    assert len(store.history(samples.KEY)) == 1


def test_a_stored_measurement_is_not_appended(store: MeasurementStore) -> None:
    stored = store.append(samples.measurement())
    with pytest.raises(WrongInputError, match="never stored, got number 1"):
        store.append(stored)


def test_what_is_not_there_is_none(store: MeasurementStore) -> None:
    assert store.find("job-1", "s0") is None
    assert store.lookup(samples.KEY, precision=_ASKED) is None
    assert store.history(samples.KEY) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": Verdict.UNSTABLE},
        {"relative_half_width": 0.03},
        {"min_duration_s": 0.3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_lookup_leaves_out_what_is_not_good_enough(
    store: MeasurementStore,
    changes: dict[str, Any],
) -> None:
    _add(store, 1, **changes)
    store.append(samples.measurement(samples.failure(), job_id="job-2"))
    assert store.lookup(samples.KEY, precision=_ASKED) is None


def test_lookup_takes_the_narrowest_then_the_newest_never_the_fastest(
    store: MeasurementStore,
) -> None:
    _add(store, 1, created_unix_s=9.0, relative_half_width=0.02, median_s=0.001)
    _add(store, 2, created_unix_s=1.0, relative_half_width=0.005, median_s=0.004)
    newest = _add(store, 3, created_unix_s=2.0, relative_half_width=0.005, median_s=0.004)
    found = store.lookup(samples.KEY, precision=_ASKED)
    assert found is not None
    assert found.id == newest


def test_lookup_keeps_keys_apart(store: MeasurementStore) -> None:
    _add(store, 1)
    other = dataclasses.replace(samples.KEY, fingerprint="another board")
    assert store.lookup(other, precision=_ASKED) is None


def test_quarantine_hides_from_lookup_and_deletes_nothing(store: MeasurementStore) -> None:
    first, second = _add(store, 1, relative_half_width=0.001), _add(store, 2)
    store.quarantine([first, first], "the sentinel drifted by 4 %")
    found = store.lookup(samples.KEY, precision=_ASKED)
    assert found is not None
    assert found.id == second
    assert [m.quarantined for m in store.history(samples.KEY)] == [True, False]


def _of_device(
    store: MeasurementStore, number: int, device_id: str = "device-1", **changes: Any
) -> int:
    made = dataclasses.replace(
        samples.measurement(job_id=f"job-{number}"), device_id=device_id, **changes
    )
    stored = store.append(made)
    assert stored.id is not None
    return stored.id


def test_recent_is_of_one_device_newest_first(store: MeasurementStore) -> None:
    other_key = dataclasses.replace(samples.KEY, backend="fake")
    first, second = _of_device(store, 1), _of_device(store, 2, key=other_key)
    _of_device(store, 3, device_id="device-2")
    failed = _of_device(store, 4, outcome=samples.failure())
    store.quarantine([first], "drift")
    assert [m.id for m in store.recent(device_id="device-1")] == [failed, second, first]
    assert [m.id for m in store.recent(device_id="device-1", limit=2)] == [failed, second]
    assert [m.id for m in store.recent(device_id="device-1", after_id=second)] == [failed]
    assert [m.id for m in store.recent(device_id="device-1", key=other_key)] == [second]
    ok = store.recent(device_id="device-1", verdict=Verdict.OK)
    assert [m.id for m in ok] == [second, first]
    assert store.recent(device_id="device-3") == ()


def test_jobs_are_counted_and_not_their_subjects(store: MeasurementStore) -> None:
    first = _of_device(store, 1)
    _of_device(store, 2)
    _of_device(store, 2, subject_id="s1")
    _of_device(store, 3)
    _of_device(store, 4, device_id="device-2")
    assert store.count_jobs(device_id="device-1") == 3
    assert store.count_jobs(device_id="device-1", after_id=first) == 2
    assert store.count_jobs(device_id="device-3") == 0


def _normalised(verdict: Verdict) -> Normalised:
    return Normalised(
        reference_subject_id="reference",
        reference_sha256="c" * 64,
        ratio=2.0,
        low=1.99,
        high=2.01,
        windows=9,
        merged=1,
        autocorrelation=None,
        elasticity=1.0,
        reference_median_s=0.001,
        reference_quiet_s=None,
        verdict=verdict,
        evidence=(),
    )


def test_what_is_trusted_is_what_lookups_answer(store: MeasurementStore) -> None:
    alone, hidden = _of_device(store, 1), _of_device(store, 2)
    unstable = samples.result(verdict=Verdict.UNSTABLE)
    _of_device(store, 3, outcome=unstable)
    _of_device(store, 4, outcome=samples.failure())
    # Sampled in turn: no time of its own, but its ratio may be good.
    _of_device(store, 5, sampled_in_turn=True)
    good = dataclasses.replace(unstable, normalised=_normalised(Verdict.OK))
    bad = dataclasses.replace(samples.result(), normalised=_normalised(Verdict.DRIFTED))
    ratio = _of_device(store, 6, sampled_in_turn=True, outcome=good)
    _of_device(store, 7, sampled_in_turn=True, outcome=bad)
    gone = _of_device(store, 8, sampled_in_turn=True, outcome=good)
    _of_device(store, 9, device_id="device-2")
    store.quarantine([hidden, ratio], "drift", times_only=True)
    store.quarantine([gone], "a wrong model")
    found = store.trusted(device_id="device-1")
    assert [one.id for one in found] == [alone, ratio]
    assert found[0].fingerprint == samples.KEY.fingerprint
    assert (found[0].backend, found[0].backend_version) == ("onnxruntime", "1.18")
    assert found[0].purpose is Purpose.CANDIDATE


def test_quarantine_of_an_unknown_id_changes_nothing(store: MeasurementStore) -> None:
    known = _add(store, 1)
    with pytest.raises(WrongInputError, match=r"got \[1, 99\] of which at least one is not in"):
        store.quarantine([known, 99], "drift")
    assert not store.history(samples.KEY)[0].quarantined


def test_nan_is_never_stored(store: MeasurementStore) -> None:
    bad = dataclasses.replace(samples.result(), load_s=float("nan"))
    with pytest.raises(WrongInputError, match="finite number at load_s, got nan"):
        store.append(samples.measurement(bad))
    assert store.history(samples.KEY) == ()


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


def test_the_migrations_lead_to_the_tables_in_code(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "store.db")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_schema_compiles_for_postgresql() -> None:
    engine = sa.create_mock_engine("postgresql+psycopg://", lambda *_: None)
    for table in metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=engine.dialect))


def test_a_url_is_accepted(tmp_path: Path) -> None:
    with MeasurementStore(f"sqlite:///{tmp_path}/by-url.db") as store:
        _add(store, 1)
    assert (tmp_path / "by-url.db").exists()


def test_the_file_of_revision_1_is_read(tmp_path: Path) -> None:
    # Origin: written by this project at revision 1 (fixtures/write_revision_1.py).
    path = tmp_path / "old.db"
    shutil.copy(_FIXTURES / "store_revision_0001.db", path)
    with MeasurementStore(path) as store:
        key = dataclasses.replace(samples.KEY, measurement_protocol_version=1)
        history = store.history(key)
        assert [m.quarantined for m in history] == [False, True, False]
        assert dataclasses.replace(history[0], id=None) == samples.measurement(key=key)
        assert history[2].failure == samples.failure()
        assert _add(store, 4) == 4


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    MeasurementStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"update {VERSION_TABLE} set version_num = '0999'")  # noqa: S608
    connection.commit()
    connection.close()
    with pytest.raises(WrongInputError, match=r"revision 0002 or older, got 0999: a newer board"):
        MeasurementStore(path)


def test_another_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("create table songs (title text)")
    connection.close()
    with pytest.raises(WrongInputError, match="a boardfront store, got a database with the table"):
        MeasurementStore(path)


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


def test_two_processes_create_and_append_at_once(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    writers = [_start_writer(path, i, 25) for i in range(2)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    with MeasurementStore(path) as store:
        assert len(store.history(samples.KEY)) == 75


def test_what_append_returned_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    assert _start_writer(path, 0, 1, "die").wait(timeout=60) == -signal.SIGKILL
    with MeasurementStore(path) as store:
        assert len(store.history(samples.KEY)) == 2
        _add(store, 2)


def test_several_threads_may_open_stores_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for store in pool.map(MeasurementStore, [tmp_path / f"{i // 2}.db" for i in range(8)]):
            store.close()
