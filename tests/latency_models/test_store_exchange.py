"""Files of measurements: what a person finds in them, and what must not pass for one.

That all comes back whole, from every database, is in `tests/conformance/test_stores.py`.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import os
import random
import shutil
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from tests.latency_models import samples, store_samples

from boardfront.latency_models import store_entry, store_exchange
from boardfront.latency_models.store import MeasurementStore
from boardfront.latency_models.store_absorb import Absorbed
from boardfront.latency_models.store_entry import StoreEntry
from boardfront.latency_models.store_exchange import export_file, import_file, merge_store
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SUFFIXES = (".csv", ".csv.gz", ".json", ".json.gz", ".parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that was filled and an empty one, to be copied."""
    folder = tmp_path_factory.mktemp("stores")
    MeasurementStore(folder / "empty.db").close()
    with MeasurementStore(folder / "filled.db", clock=lambda: 5.0) as filled:
        store_samples.fill(filled)
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Iterator[MeasurementStore]:
    with MeasurementStore(shutil.copy(made / "filled.db", tmp_path / "store.db")) as opened:
        yield opened


@pytest.fixture
def other(made: Path, tmp_path: Path) -> Iterator[MeasurementStore]:
    with MeasurementStore(shutil.copy(made / "empty.db", tmp_path / "other.db")) as opened:
        yield opened


@pytest.mark.parametrize("suffix", _SUFFIXES)
def test_the_same_measurements_are_the_same_bytes(
    store: MeasurementStore, other: MeasurementStore, tmp_path: Path, suffix: str
) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    export_file(store, first)
    assert import_file(other, first) == Absorbed(added=5, quarantines=3)
    export_file(other, second)
    assert second.read_bytes() == first.read_bytes()
    assert import_file(other, second) == Absorbed(known=5)


def test_a_table_says_its_units_and_reads_as_numbers(
    store: MeasurementStore, tmp_path: Path
) -> None:
    path = tmp_path / "all.csv"
    export_file(store, path)
    csv.field_size_limit(1 << 20)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["job_id"] for row in rows] == ["job-1", "job-2", '=job;"3"', "job-4", "job-5"]
    assert float(rows[0]["median_s [s]"]) == 0.002
    assert float(rows[0]["created_unix_s [s since 1970-01-01 UTC]"]) == 1 / 3
    assert float(rows[0]["temperature_before_c [degC]"]) == 41.5
    assert rows[0]["options"] == "threads=1"
    assert rows[0]["quarantined"] == "true"
    assert rows[0]["quarantine_reasons"] == 'and more; it "drifted", so'
    assert (rows[1]["failure_kind"], rows[1]["median_s [s]"]) == ("timeout", "")
    assert rows[3]["quarantined"] == "false"


def test_a_document_says_its_units(store: MeasurementStore, tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    export_file(store, path)
    document = json.loads(path.read_text())
    assert document["units"]["_s"] == "s"
    assert document["units"]["_c"] == "degC"
    assert document["count"] == len(document["measurements"]) == 5
    statistics = document["measurements"][0]["outcome"]["body"]["statistics"]
    assert statistics["median_s"] == 0.002


def test_parquet_has_typed_columns_with_units(store: MeasurementStore, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "all.parquet"
    export_file(store, path)
    table = pq.read_table(path)
    assert table.column("median_s").to_pylist()[:2] == [0.002, None]
    assert table.schema.field("median_s").metadata == {b"unit": b"s"}
    assert str(table.schema.field("median_s").type) == "double"
    assert str(table.schema.field("quarantined").type) == "bool"
    assert json.loads(table.schema.metadata[b"boardfront"])["version"] == 1


def test_a_document_of_another_layout_is_read(
    store: MeasurementStore, other: MeasurementStore, tmp_path: Path
) -> None:
    path = tmp_path / "all.json"
    export_file(store, path)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=3))
    assert import_file(other, path) == Absorbed(added=5, quarantines=3)
    assert store_samples.entries(other) == store_samples.entries(store)


def test_columns_may_be_moved_added_and_left_out(
    store: MeasurementStore, other: MeasurementStore, tmp_path: Path
) -> None:
    path = tmp_path / "all.csv"
    export_file(store, path)
    _rewrite(path, lambda row: [row[-1], "a note", row[0], row[25].upper()])
    text = path.read_text().replace("MEDIAN_S [S]", "median_s [s]")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert import_file(other, path) == Absorbed(added=5, quarantines=3)


def _rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(map(change, rows))


@pytest.mark.parametrize(
    ("column", "value"), [("median_s [s]", "0.001"), ("job_id", "job-9"), ("verdict", "unstable")]
)
def test_an_edited_table_is_refused(
    store: MeasurementStore, other: MeasurementStore, tmp_path: Path, column: str, value: str
) -> None:
    path = tmp_path / "all.csv"
    export_file(store, path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    rows[4][rows[0].index(column)] = value
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    name = column.partition(" ")[0]
    with pytest.raises(WrongInputError, match=f"line 5: expected {name} .* table was edited"):
        import_file(other, path)
    assert store_samples.entries(other) == []


def test_a_record_that_is_changed_is_a_conflict(
    store: MeasurementStore, other: MeasurementStore, tmp_path: Path
) -> None:
    path = tmp_path / "all.json"
    export_file(store, path)
    before = store_samples.entries(store)
    path.write_text(path.read_text().replace('"median_s":0.002', '"median_s":0.00200001', 1))
    assert import_file(store, path) == Absorbed(known=4, conflicts=(("job-1", "s0"),))
    assert store_samples.entries(store) == before
    assert import_file(other, path).added == 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"", "a whole JSON document, got its end"),
        ("a.json", b"[1]", r"got '\[' for '{'"),
        ("a.json", b'{"format": "other"}', "whose format is 'other'"),
        ("a.json", b'{"measurements": []}', "whose format is None"),
        ("a.json", b'{"format": "boardfront measurements", "version": 2}', "form 1, got 2"),
        ("a.json", b"{" * 100_000, "a whole JSON document"),
        ("a.json", b"\xff\xfe", "of boardfront store export, got .*decode"),
        ("a.csv", b"", "the columns of boardfront store export"),
        ("a.csv", b"median_s,verdict\n1,ok\n", "got 'median_s, verdict'"),
        ("a.csv", b'"record [boardfront measurements 9, JSON]"\n', "form 1, got 9"),
        ("a.csv", b'"record [boardfront measurements 1, JSON]"\nnothing\n', "line 2.* a record"),
        ("a.csv", b'"record [boardfront measurements 1, JSON]"\n"[', "line 2.*unexpected end"),
        ("a.csv", b'"record [boardfront measurements 1, JSON]"\n1,2\n', "1 cells, got 2"),
        ("a.csv", b'"record [boardfront measurements 1, JSON]"\n{}\n', "a measurement at"),
        ("a.csv.gz", b"no gzip", "Not a gzipped file"),
        ("a.parquet", b"no parquet", "a Parquet file of boardfront store export"),
        ("a.txt", b"", r"ends in \.csv, \.json"),
        ("a.parquet.gz", b"", r"ends in \.csv, \.json"),
        ("no-suffix", b"", "got 'none of them'"),
    ],
)
def test_what_is_no_export_is_refused_in_one_line(
    other: MeasurementStore, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WrongInputError, match=message) as error:
        import_file(other, path)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_a_file_that_is_not_there_is_one_line(other: MeasurementStore, tmp_path: Path) -> None:
    with pytest.raises(WrongInputError, match="No such file"):
        import_file(other, tmp_path / "missing.csv")
    with pytest.raises(WrongInputError, match="a measurement store, got no such file"):
        merge_store(other, tmp_path / "missing.db")
    assert not (tmp_path / "missing.db").exists()


@pytest.mark.parametrize("suffix", _SUFFIXES)
def test_a_cut_or_damaged_file_is_refused_or_makes_sense(
    store: MeasurementStore, other: MeasurementStore, tmp_path: Path, suffix: str
) -> None:
    """Wherever it is cut or hit: one line, or whole measurements."""
    path = tmp_path / f"all{suffix}"
    export_file(store, path)
    whole = path.read_bytes()
    pick = random.Random(7)  # noqa: S311 - where to hit
    refused = 0
    for number in range(16):
        cut = bytearray(whole[: pick.randrange(len(whole))] if number % 2 else whole)
        if number % 2 == 0:
            cut[pick.randrange(len(cut))] ^= 1 << pick.randrange(8)
        path.write_bytes(cut)
        try:
            # A flipped bit may be in a text; a cut CSV may end between two lines.
            import_file(other, path)
        except WrongInputError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
            refused += 1
    assert refused >= 8
    assert all(entry.measurement.job_id for entry in store_samples.entries(other))


@pytest.mark.parametrize("suffix", _SUFFIXES)
def test_an_interrupted_export_leaves_nothing(
    store: MeasurementStore, tmp_path: Path, suffix: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / f"all{suffix}"

    def interrupt(done: int, total: int) -> None:
        assert total == 5
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_file(store, path, on_progress=interrupt)
    assert list(folder.iterdir()) == []
    path.write_text("older")
    with pytest.raises(KeyboardInterrupt):
        export_file(store, path, overwrite=True, on_progress=interrupt)
    assert path.read_text() == "older"
    assert list(folder.iterdir()) == [path]


def test_a_file_that_is_there_is_kept_unless_told(store: MeasurementStore, tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("mine")
    with pytest.raises(WrongInputError, match="a new file, got one that is there"):
        export_file(store, path)
    assert path.read_text() == "mine"
    assert export_file(store, path, overwrite=True) == 5
    assert path.read_text().count("job-4") == 2


def test_a_folder_that_takes_no_file_is_one_line(store: MeasurementStore, tmp_path: Path) -> None:
    with pytest.raises(BoardfrontError, match=r"cannot write .*No such file or directory"):
        export_file(store, tmp_path / "missing" / "all.csv")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")  # noqa: PTH110
def test_a_full_disk_is_one_line(store: MeasurementStore, tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    part = store_exchange._part_of(path)
    part.symlink_to("/dev/full")
    with pytest.raises(BoardfrontError, match=r"No space left on device.*free space"):
        export_file(store, path)
    assert not path.exists()
    assert not part.is_symlink()


def test_an_interrupted_import_goes_on_where_it_was(
    other: MeasurementStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_exchange, "_ENTRIES_A_TRANSACTION", 10)
    path = tmp_path / "many.json"
    with MeasurementStore("sqlite://") as many:
        many.absorb([store_samples.entry(number, "drift") for number in range(25)])
        export_file(many, path)

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_file(other, path, on_progress=interrupt)
    assert len(store_samples.entries(other)) == 10
    assert all(entry.quarantines for entry in store_samples.entries(other))
    assert import_file(other, path) == Absorbed(added=15, known=10, quarantines=15)


def test_memory_does_not_grow_with_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small pages and transactions: the same with a few entries.
    monkeypatch.setattr(store_entry, "_ENTRIES_A_PAGE", 3)
    monkeypatch.setattr(store_exchange, "_ENTRIES_A_TRANSACTION", 3)

    def peak_bytes(count: int) -> int:
        place, path = tmp_path / f"{count}.db", tmp_path / f"{count}.csv"
        with (
            MeasurementStore(place) as store,
            MeasurementStore(tmp_path / f"{count}-copy.db") as copy,
        ):
            store.absorb([_big(number) for number in range(count)])
            tracemalloc.start()
            export_file(store, path)
            import_file(copy, path)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert path.stat().st_size > count * 20_000
        return peak

    peak_bytes(1)
    assert peak_bytes(36) < 1.3 * peak_bytes(9)


def _big(number: int) -> StoreEntry:
    numbers = random.Random(number)  # noqa: S311 - samples
    result: Any = dataclasses.replace(
        samples.result(), warm_up_s=tuple(numbers.random() for _ in range(1000))
    )
    return StoreEntry(measurement=samples.measurement(result, job_id=f"job-{number}"))


def test_without_pyarrow_parquet_says_what_to_install(
    store: MeasurementStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BoardfrontError, match=r"pip install 'boardfront\[parquet\]'"):
        export_file(store, tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()


def test_without_psycopg_a_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(BoardfrontError, match=r"pip install 'boardfront\[postgresql\]'") as error:
        MeasurementStore("postgresql://u:secret@127.0.0.1:1/d")
    assert "secret" not in str(error.value)


def test_a_packed_file_is_what_gzip_reads(store: MeasurementStore, tmp_path: Path) -> None:
    plain, packed = tmp_path / "all.json", tmp_path / "all.json.gz"
    export_file(store, plain)
    export_file(store, packed)
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
