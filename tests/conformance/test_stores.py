"""Every database that a store may be in keeps what `MeasurementStore` promises."""

from __future__ import annotations

import dataclasses
import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from tests.latency_models import samples, store_samples, store_writer
from tests.latency_models.postgres_server import PASSWORD, PostgresServer

from boardfront.latency_models import store_entry
from boardfront.latency_models.store import MeasurementStore, StoreError
from boardfront.latency_models.store_absorb import Absorbed
from boardfront.latency_models.store_engine import VERSION_TABLE, open_engine
from boardfront.latency_models.store_entry import StoreEntry, entry_from_json
from boardfront.latency_models.store_exchange import export_file, import_file, merge_store
from boardfront.latency_models.store_location import store_url
from boardfront.latency_models.store_schema import metadata
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Failure, FailureKind, Precision, Purpose, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(120)

_GOLDEN = Path(__file__).parents[1] / "golden"
_ASKED = Precision(relative_half_width=0.02, min_duration_s=2.0)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as running:
        yield running


@pytest.fixture(scope="module")
def shared_database(server: PostgresServer) -> str:
    """A database that tests use one after the other: emptying it is quicker than a new one."""
    url = server.make_database()
    MeasurementStore(url).close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Makes places that hold no store yet."""

    def make(name: str) -> str:
        if kind == "sqlite":
            return str(tmp_path / f"{name}.db")
        url: str = request.getfixturevalue("shared_database")
        return PostgresServer.make_schema(url, f"{request.node.name}-{name}")

    return make


@pytest.fixture(scope="module")
def shared_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's file that tests take copies of: they need not each migrate one."""
    path = tmp_path_factory.mktemp("store") / "store.db"
    MeasurementStore(path).close()
    return path


@pytest.fixture
def location(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where a store without measurements is."""
    if kind == "sqlite":
        file: Path = request.getfixturevalue("shared_file")
        return str(shutil.copy(file, tmp_path / "store.db"))
    url: str = request.getfixturevalue("shared_database")
    PostgresServer.execute(url, "truncate measurements, quarantines restart identity")
    return url


@pytest.fixture
def store(location: str) -> Iterator[MeasurementStore]:
    with MeasurementStore(location, clock=lambda: 5.0) as opened:
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


def test_what_is_trusted_is_what_lookups_answer(store: MeasurementStore) -> None:
    alone, hidden = _of_device(store, 1), _of_device(store, 2)
    unstable = samples.result(verdict=Verdict.UNSTABLE)
    _of_device(store, 3, outcome=unstable)
    _of_device(store, 4, outcome=samples.failure())
    # Sampled in turn: no time of its own, but its ratio may be good.
    _of_device(store, 5, sampled_in_turn=True)
    good = dataclasses.replace(unstable, normalised=store_samples.normalised(Verdict.OK))
    bad = dataclasses.replace(
        samples.result(), normalised=store_samples.normalised(Verdict.DRIFTED)
    )
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


def test_reading_is_what_was_written_to_the_last_bit(store: MeasurementStore) -> None:
    result = dataclasses.replace(samples.result(), warm_up_s=store_samples.EXTREMES, load_s=-0.0)
    stored = store.append(samples.measurement(result, created_unix_s=1 / 3))
    assert stored.result is not None
    assert [one.hex() for one in stored.result.warm_up_s] == [
        one.hex() for one in store_samples.EXTREMES
    ]
    assert stored.result.load_s.hex() == (-0.0).hex()
    assert stored.created_unix_s.hex() == (1 / 3).hex()


def test_names_may_be_long_and_texts_of_any_characters(store: MeasurementStore) -> None:
    failure = Failure(kind=FailureKind.CRASHED, message="a\0b\udcff\r\n\u2603", detail="\0")
    measurement = dataclasses.replace(
        samples.measurement(failure, job_id="j" * 1000), device_name="n" * 1000 + '"\n;='
    )
    assert dataclasses.replace(store.append(measurement), id=None) == measurement


def test_the_migrations_lead_to_the_tables_in_code(location: str) -> None:
    engine = open_engine(location)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def _old_store(kind: str, revision: str, empty: Callable[[str], str]) -> str:
    """Return a store as this project wrote it at a revision.

    Origin: the SQLite files were written by the code of that time; the PostgreSQL ones are dumps
    (pg_dump 18) of a database that the migrations of that time made, with the same rows, and
    come into a schema of their own.
    """
    place = empty(f"revision-{revision}")
    if kind == "sqlite":
        Path(place).write_bytes((_GOLDEN / f"store_revision_{revision}.db").read_bytes())
    else:
        dump = _GOLDEN / f"store_revision_{revision}_postgresql.sql"
        schema = place.rpartition("%3D")[2]
        PostgresServer.execute(place, dump.read_text().replace("public.", f"{schema}."))
    return place


def test_a_store_of_revision_1_is_read(kind: str, empty: Callable[[str], str]) -> None:
    with MeasurementStore(_old_store(kind, "0001", empty)) as store:
        key = dataclasses.replace(samples.KEY, measurement_protocol_version=1)
        history = store.history(key)
        assert [m.quarantined for m in history] == [False, True, False]
        assert dataclasses.replace(history[0], id=None) == samples.measurement(key=key)
        assert history[2].failure == samples.failure()
        assert store.summary().revision == "0003"
        assert _add(store, 4) == 4


def test_a_store_of_revision_2_is_read(kind: str, empty: Callable[[str], str]) -> None:
    with MeasurementStore(_old_store(kind, "0002", empty)) as store:
        history = store.history(samples.KEY)
        assert [m.quarantined for m in history] == [False, True, False, True]
        assert dataclasses.replace(history[0], id=None) == samples.measurement()
        turn = dataclasses.replace(
            samples.result(), normalised=store_samples.normalised(Verdict.OK)
        )
        assert history[3].result == turn
        assert history[3].sampled_in_turn
        # Its time is in quarantine, its ratio is not.
        ratio = store.lookup(samples.KEY, precision=_ASKED, reference_sha256="c" * 64)
        assert ratio == history[3]
        assert [m.id for m in store.recent(device_id="device-1")] == [4, 3, 2, 1]
        assert _add(store, 5) == 5


def test_a_newer_store_is_refused(empty: Callable[[str], str]) -> None:
    place = empty("newer")
    engine = open_engine(place)
    versions = sa.table(VERSION_TABLE, sa.column("version_num"))
    with engine.begin() as connection:
        connection.execute(versions.update().values(version_num="0999"))
    engine.dispose()
    with pytest.raises(WrongInputError, match=r"revision 0003 or older, got 0999: a newer board"):
        MeasurementStore(place)


def test_another_database_is_refused_and_left_alone(empty: Callable[[str], str]) -> None:
    place = empty("songs")
    engine = sa.create_engine(store_url(place))
    with engine.begin() as connection:
        connection.execute(sa.text("create table songs (title text)"))
    with pytest.raises(WrongInputError, match="a boardfront store, got a database with the table"):
        MeasurementStore(place)
    assert sa.inspect(engine).get_table_names() == ["songs"]
    engine.dispose()


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Two processes that are up before they are needed: what they do shall overlap."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(time.sleep, [0.2, 0.2]))
        yield pool


def test_processes_migrate_append_and_quarantine_at_once(
    kind: str, empty: Callable[[str], str], processes: ProcessPoolExecutor
) -> None:
    # Whoever comes first migrates, the others wait; then all append their own jobs, and all the
    # same shared ones, and put their own first and the first shared one in quarantine.
    place = _old_store(kind, "0001", empty)
    others = [processes.submit(store_writer.write, place, writer, 10) for writer in (1, 2)]
    store_writer.write(place, 0, 10)
    for other in others:
        other.result(timeout=60)
    with MeasurementStore(place) as store:
        history = store.history(samples.KEY)
        assert len({(m.job_id, m.subject_id) for m in history}) == len(history) == 40
        hidden = {m.job_id for m in history if m.quarantined}
        assert hidden == {"job-0-0", "job-1-0", "job-2-0", "shared-0"}
        with store.snapshot() as snapshot:
            # Three and a quarantine were there before.
            assert snapshot.count == 43
            marks = [entry_from_json(entry).quarantines for entry in snapshot.entries]
        assert sum(len(some) for some in marks) == 1 + 6


def test_threads_share_a_store(store: MeasurementStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        appended = list(
            pool.map(lambda i: store.append(samples.measurement(job_id=f"{i // 2}")), range(16))
        )
    assert len({one.id for one in appended}) == 8
    assert len(store.history(samples.KEY)) == 8


def test_what_is_taken_in_is_there_once(store: MeasurementStore) -> None:
    entries = [
        store_samples.entry(1, "drift", "more drift"),
        store_samples.entry(2),
        store_samples.entry(2),
    ]
    assert store.absorb(entries) == Absorbed(added=2, known=1, quarantines=2)
    assert store.absorb(entries) == Absorbed(added=0, known=3, quarantines=0)
    assert store_samples.entries(store) == entries[:2]
    # A quarantine that came later comes too, and those that are there stay.
    later = dataclasses.replace(entries[1], quarantines=entries[0].quarantines[:1])
    assert store.absorb([later]) == Absorbed(known=1, quarantines=1)
    assert [m.quarantined for m in store.history(samples.KEY)] == [True, True]


def test_what_differs_is_left_out_and_told(store: MeasurementStore) -> None:
    store.absorb([store_samples.entry(1)])
    came = [
        store_samples.entry(1, "made up", median_s=0.001),
        store_samples.entry(2),
        store_samples.entry(2, median_s=0.003),
    ]
    assert store.absorb(came) == Absorbed(added=1, conflicts=(("job-1", "s0"), ("job-2", "s0")))
    assert store_samples.entries(store) == [store_samples.entry(1), store_samples.entry(2)]


def test_nothing_is_taken_in_where_one_cannot_be(store: MeasurementStore) -> None:
    bad = dataclasses.replace(samples.result(), load_s=float("inf"))
    broken = StoreEntry(measurement=samples.measurement(bad, job_id="job-2"))
    with pytest.raises(WrongInputError, match="finite number at load_s"):
        store.absorb([store_samples.entry(1), broken])
    assert store_samples.entries(store) == []


def test_what_arrives_late_is_looked_up_and_is_no_news(store: MeasurementStore) -> None:
    # The sentinel goes by the order of numbers: an old look must not pass for the last one.
    own = _of_device(store, 1, created_unix_s=100.0)
    store.absorb(
        [store_samples.entry(2, created_unix_s=50.0), store_samples.entry(3, created_unix_s=150.0)]
    )
    store.absorb([store_samples.entry(4, created_unix_s=120.0)])
    assert [m.job_id for m in store.recent(device_id="device-1")] == ["job-3", "job-1"]
    assert store.count_jobs(device_id="device-1", after_id=own) == 1
    assert len(store.history(samples.KEY)) == len(store.trusted(device_id="device-1")) == 4
    found = store.lookup(samples.KEY, precision=_ASKED)
    assert found is not None
    assert found.job_id == "job-3"


def test_an_export_sees_one_moment(
    store: MeasurementStore, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_entry, "_ENTRIES_A_PAGE", 4)
    store.absorb([store_samples.entry(number) for number in range(10)])
    with store.snapshot() as snapshot, MeasurementStore(location) as other:
        first = next(snapshot.entries)
        appended = other.append(samples.measurement(job_id="meanwhile"))
        other.quarantine([appended.id or 0, 10], "drift")
        rest = list(snapshot.entries)
    assert first["job_id"] == "job-0"
    assert len(rest) + 1 == snapshot.count == 10
    assert not any(entry["quarantines"] for entry in rest)


@pytest.mark.parametrize("suffix", [".json.gz", ".csv", ".parquet"])
def test_files_carry_all_there_and_back(
    store: MeasurementStore, tmp_path: Path, suffix: str
) -> None:
    store_samples.fill(store)
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    assert export_file(store, first) == 5
    with MeasurementStore(tmp_path / "other.db") as other:
        assert import_file(other, first) == Absorbed(added=5, quarantines=3)
        assert store_samples.entries(other) == store_samples.entries(store)
        assert export_file(other, second) == 5
    # Not one bit of a number, not one character of a text is another.
    assert second.read_bytes() == first.read_bytes()
    assert import_file(store, second) == Absorbed(known=5)


def test_stores_are_merged(
    store: MeasurementStore, tmp_path: Path, empty: Callable[[str], str]
) -> None:
    store_samples.fill(store)
    for place in (str(tmp_path / "a-file.db"), empty("target")):
        with MeasurementStore(place) as target:
            assert merge_store(target, _place_of(store)) == Absorbed(added=5, quarantines=3)
            assert merge_store(target, _place_of(store)) == Absorbed(known=5)
            assert store_samples.entries(target) == store_samples.entries(store)


def _place_of(store: MeasurementStore) -> str | Path:
    return store._location


def test_a_store_is_not_merged_with_itself(store: MeasurementStore) -> None:
    with pytest.raises(WrongInputError, match="another store than the one that it goes into"):
        merge_store(store, _place_of(store))


def test_a_store_is_summed_up(store: MeasurementStore, kind: str) -> None:
    assert store.summary().measurements == 0
    store_samples.fill(store)
    _of_device(store, 6, device_id="device-2", created_unix_s=9.0)
    summary = store.summary()
    assert summary.database == kind
    assert summary.measurements == 6
    assert summary.verdicts == {"ok": 5}
    assert summary.failures == {"timeout": 1}
    assert summary.quarantined == 2
    assert (summary.networks, summary.keys) == (1, 1)
    assert [(one.device_id, one.measurements) for one in summary.devices] == [
        ("device-1", 5),
        ("device-2", 1),
    ]
    assert summary.devices[1].last_unix_s == 9.0
    assert PASSWORD not in repr(summary)


def test_several_stores_are_opened_at_once(empty: Callable[[str], str]) -> None:
    places = [empty("a"), empty("b")]
    with ThreadPoolExecutor(4) as pool:
        for store in pool.map(MeasurementStore, [places[i // 2] for i in range(4)]):
            store.close()


def test_a_lost_connection_is_made_again(server: PostgresServer, shared_database: str) -> None:
    with MeasurementStore(shared_database) as store:
        count = store.summary().measurements
        server.execute(
            server.url(),
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'boardfront'",
        )
        assert store.summary().measurements == count


@pytest.mark.parametrize("wrong", ["password", "database", "port"])
def test_a_server_that_refuses_is_one_line_without_the_password(
    server: PostgresServer, wrong: str
) -> None:
    url = server.url("store_0" if wrong != "database" else "nowhere")
    if wrong == "password":
        url = url.replace("boardfront:", "boardfront:also%40secret")
    if wrong == "port":
        url = url.replace(f":{url.rpartition(':')[2].partition('/')[0]}/", ":1/")
    with pytest.raises(StoreError, match="check that the server runs") as error:
        MeasurementStore(url)
    text = str(error.value)
    assert "\n" not in text
    assert "secret" not in text
    assert PASSWORD not in text
    assert url not in text
    assert "boardfront:***@127.0.0.1" in text


def test_a_schema_of_ones_own_is_used(server: PostgresServer, shared_database: str) -> None:
    # What the URL asks of the server goes together with what the store asks of it.
    place = server.make_schema(shared_database, "team")
    with MeasurementStore(place) as store:
        _add(store, 1)
    server.execute(shared_database, "select 1 / count(*) from team.measurements")
