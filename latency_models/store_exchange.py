"""Measurements from store to file, from file to store, from store to store. Nothing is lost."""

from __future__ import annotations

import contextlib
import enum
import gzip
import io
import os
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeAlias, cast

from boardfront.latency_models.store import MeasurementStore
from boardfront.latency_models.store_absorb import Absorbed
from boardfront.latency_models.store_csv import read_csv, write_csv
from boardfront.latency_models.store_entry import StoreEntry, entry_from_json
from boardfront.latency_models.store_json import read_json, write_json
from boardfront.latency_models.store_location import check_exists, shown
from boardfront.latency_models.store_parquet import read_parquet, write_parquet
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from boardfront.latency_models.store import Snapshot
    from boardfront.latency_models.store_entry import EntryJson

    Progress: TypeAlias = Callable[[int, int], None]

_ENTRIES_A_TRANSACTION = 200


class FileFormat(enum.Enum):
    """What a file of measurements is, by the end of its name."""

    CSV = ".csv"
    JSON = ".json"
    PARQUET = ".parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    format: FileFormat
    packed: bool


def _nothing(_done: int, _total: int) -> None:
    """Tell nobody."""


def export_file(
    store: MeasurementStore,
    path: Path,
    *,
    overwrite: bool = False,
    on_progress: Progress = _nothing,
) -> int:
    """Write all measurements of a store to a file, which appears whole or not at all.

    Args:
        store: As of the moment of the call; others may append meanwhile.
        path: Its name's end says the format: .csv, .json, .parquet, and .csv.gz, .json.gz.
        overwrite: Whether a file that is there is replaced.
        on_progress: Hears how many measurements of how many are written.

    Returns:
        How many measurements there are in it.

    Raises:
        WrongInputError: The name's end is unknown, or the file is there already.
        BoardfrontError: The file cannot be written, or pyarrow is missing.
        StoreError: The store cannot be read.
    """
    kind = _kind(path)
    if path.exists() and not overwrite:
        raise WrongInputError(
            f"{path}: expected a new file, got one that is there: give another name or --overwrite"
        )
    done = 0
    with (
        store.snapshot() as snapshot,
        _whole_file(path) as file,
        contextlib.closing(_write(snapshot, kind, file)) as written,
    ):
        for done in written:
            on_progress(done, snapshot.count)
    return done


def import_file(
    store: MeasurementStore, path: Path, *, on_progress: Progress = _nothing
) -> Absorbed:
    """Take the measurements of a file into a store, each once.

    A few hundred at a time are stored together: where it stops early, what is in stays, and
    doing it again goes on.

    Args:
        store: Where they shall be.
        path: What `export_file` wrote.
        on_progress: Hears how many bytes of how many are read.

    Raises:
        WrongInputError: The file cannot be read, is damaged, or a newer boardfront wrote it.
        BoardfrontError: pyarrow is missing.
        StoreError: The store cannot be written.
    """
    kind = _kind(path)
    total = Absorbed()
    try:
        # Closed in this order also where it stops early.
        with path.open("rb") as file, contextlib.closing(_read(file, kind, path)) as found:
            size_bytes = os.fstat(file.fileno()).st_size
            entries = (entry_from_json(data, where) for where, data in found)
            for some in _batches(entries):
                total += store.absorb(some)
                on_progress(min(file.tell(), size_bytes), size_bytes)
    except (OSError, EOFError, OverflowError, zlib.error, UnicodeError) as problem:
        raise WrongInputError(
            f"{path}: expected a file of boardfront store export, got {_told(problem)!r:.100}: "
            "give a whole file that it wrote"
        ) from problem
    return total


def merge_store(
    store: MeasurementStore, source: str | Path, *, on_progress: Progress = _nothing
) -> Absorbed:
    """Take the measurements of another store into a store, each once.

    Args:
        store: Where they shall be.
        source: Path or URL of the other one, which is brought up to date and otherwise only read.
        on_progress: Hears how many measurements of how many were looked at.

    Raises:
        WrongInputError: There is no such store, or it is the same one.
        StoreError: One of the two cannot be used.
    """
    check_exists(source)
    if store.is_at(source):
        raise WrongInputError(
            f"{shown(source)}: expected another store than the one that it goes into, got the "
            "same: give two"
        )
    total = Absorbed()
    done = 0
    with MeasurementStore(source) as other, other.snapshot() as snapshot:
        entries = (entry_from_json(data, other.place) for data in snapshot.entries)
        for some in _batches(entries):
            total += store.absorb(some)
            done += len(some)
            on_progress(done, snapshot.count)
    return total


def _kind(path: Path) -> _Kind:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    last = suffixes[-2] if packed and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    for known in FileFormat:
        if known.value == last and not (packed and known is FileFormat.PARQUET):
            return _Kind(format=known, packed=packed)
    raise WrongInputError(
        f"{path}: expected a name that ends in .csv, .json, .csv.gz, .json.gz or .parquet, got "
        f"{''.join(path.suffixes) or 'none of them'!r}: the end of the name says the format"
    )


def _write(snapshot: Snapshot, kind: _Kind, file: IO[bytes]) -> Generator[int, None, None]:
    if kind.format is FileFormat.PARQUET:
        yield from write_parquet(snapshot, file)
        return
    write = write_csv if kind.format is FileFormat.CSV else write_json
    with _packing(file, kind) as inner, _as_text(inner, "utf-8") as text:
        yield from write(snapshot, text)


def _read(
    file: IO[bytes], kind: _Kind, path: Path
) -> Generator[tuple[str, EntryJson], None, None]:
    if kind.format is FileFormat.PARQUET:
        yield from read_parquet(file, str(path))
        return
    read = read_csv if kind.format is FileFormat.CSV else read_json
    # Spreadsheets put a byte-order mark at the beginning.
    with _packing(file, kind) as inner, _as_text(inner, "utf-8-sig") as text:
        yield from read(text, str(path))


@contextlib.contextmanager
def _packing(file: IO[bytes], kind: _Kind) -> Iterator[IO[bytes]]:
    """Give the file itself, or what packs or unpacks on the way."""
    if not kind.packed:
        yield file
        return
    mode = "wb" if file.writable() else "rb"
    # No name and no time in it: the same measurements give the same bytes.
    with gzip.GzipFile(filename="", mode=mode, fileobj=file, mtime=0) as packing:
        yield cast("IO[bytes]", packing)


@contextlib.contextmanager
def _as_text(file: IO[bytes], encoding: str) -> Iterator[IO[str]]:
    """Give a file's text; the file stays open: it is closed by whoever opened it."""
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    try:
        yield text
        text.flush()
    finally:
        with contextlib.suppress(OSError, ValueError):
            text.detach()


def _batches(entries: Iterator[StoreEntry]) -> Iterator[list[StoreEntry]]:
    waiting = []
    for entry in entries:
        waiting.append(entry)
        if len(waiting) == _ENTRIES_A_TRANSACTION:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a file that takes its name when the block ends well, and is gone where it does not."""
    part = _part_of(path)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as problem:
        raise BoardfrontError(
            f"cannot write {path}: expected a folder that takes files, got "
            f"{problem.strerror or problem}: check the folder, its rights and the free space"
        ) from problem
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _told(problem: BaseException) -> str:
    return str(getattr(problem, "strerror", None) or problem)
