"""A run's journal: one JSON line a record, on the disk before the run goes on."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from boardfront.host.journal_records import TYPES, Record, UnknownRecord
from boardfront.host.run_lock import RunLock, is_locked
from boardfront.latency_models import strict_json
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from typing_extensions import Self

VERSION = 1
"""Of the records' form. A line of a newer version is kept as it stands."""

AnyRecord: TypeAlias = Record | UnknownRecord

_LAZY_S = 0.25
"""Most seconds of lazily written records that a power cut may take."""

_NAMES = {record: name for name, record in TYPES.items()}


class JournalError(BoardfrontError):
    """The journal cannot be written."""


class CorruptJournalError(WrongInputError):
    """A line of a journal, other than a torn last one, is not what was written.

    Args:
        path: The journal.
        line: Counted from 1.
        problem: What is wrong with it.
    """

    def __init__(self, path: Path, line: int, problem: str) -> None:
        self.path = path
        self.line = line
        super().__init__(
            f"{path}:{line}: expected a journal record, got {problem}: "
            "restore the file from a copy, or begin a new run",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalContent:
    """What a journal says.

    Args:
        records: In the order of writing.
        torn: What a crash left of the last line; empty where the file ends well.
    """

    records: tuple[AnyRecord, ...]
    torn: bytes = b""


def read_journal(path: str | Path) -> JournalContent:
    """Read a journal without changing or locking it; its run may go on meanwhile.

    Raises:
        CorruptJournalError: A line, other than a torn last one, cannot be read.
        WrongInputError: There is no such file.
    """
    place = Path(path)
    try:
        data = place.read_bytes()
    except OSError as problem:
        raise WrongInputError(
            f"{place}: expected a run's journal, got {problem.strerror}: check the run's folder",
        ) from problem
    *lines, torn = data.split(b"\n")
    records = tuple(read_line(place, i, line) for i, line in enumerate(lines, 1))
    return JournalContent(records=records, torn=torn)


def read_line(path: Path, number: int, line: bytes) -> AnyRecord:
    """Read a journal's line, without its end.

    Args:
        path: The journal, for the error's text.
        number: Of the line, from 1, for the error's text.
        line: What stands there.

    Raises:
        CorruptJournalError: It is no record.
    """
    try:
        data = json.loads(line)
    except ValueError as problem:
        raise CorruptJournalError(path, number, f"no JSON ({problem})") from problem
    if not isinstance(data, dict):
        raise CorruptJournalError(path, number, f"{data!r:.60}")
    version, name = data.pop("v", None), data.pop("type", None)
    if type(version) is not int or version < 1 or not isinstance(name, str):
        raise CorruptJournalError(path, number, f"version {version!r} and type {name!r}")
    if version > VERSION or name not in TYPES:
        return UnknownRecord(type=name, version=version, body=data)
    try:
        return strict_json.decode(TYPES[name], data, name)
    except WrongInputError as problem:
        raise CorruptJournalError(path, number, f"a wrong one ({problem})") from problem


def lock_path(journal: Path) -> Path:
    """Return the lock file of the run that writes `journal`."""
    return journal.with_name(f"{journal.name}.lock")


def is_written(journal: Path) -> bool:
    """Return whether a process writes `journal` at this moment; touches nothing."""
    return is_locked(lock_path(journal))


class Journal:
    """Writes a run's journal.

    Guarantees: a record that `append` returned from is on the disk, with all before it; one that
    `append_lazily` returned from outlives the process; a torn last line of a killed writer is cut
    off on opening and told in `content.torn`; two processes never write one run.

    Args:
        path: The file; it and its lock file beside it are created.

    Raises:
        RunLockedError: Another process writes this run.
        CorruptJournalError: A line, other than a torn last one, cannot be read.
        JournalError: The file cannot be opened or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = RunLock(lock_path(self.path))
        self._synced_s = float("-inf")
        try:
            self._descriptor: int | None = self._open()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def append(self, record: Record) -> None:
        """Write a record and wait until it is on the disk.

        Raises:
            WrongInputError: A number in it is NaN or infinite.
            JournalError: It could not be written, or the journal is closed; nothing of it
                stands in the file.
        """
        self._append(record, lazily=False)

    def append_lazily(self, record: Record) -> None:
        """Write a record that costs next to nothing to find again.

        Waiting for the disk would take longer. A power cut takes at most the records of the last
        quarter of a second.

        Raises:
            WrongInputError: As `append`.
            JournalError: As `append`.
        """
        self._append(record, lazily=time.monotonic() - self._synced_s < _LAZY_S)

    def _append(self, record: Record, *, lazily: bool) -> None:
        line = _write_line(record)
        if self._descriptor is None:
            raise JournalError(f"{self.path}: expected an open journal, got a closed one: open it")
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            _write_whole(self._descriptor, line)
            if not lazily:
                os.fsync(self._descriptor)
                self._synced_s = time.monotonic()
        except OSError as problem:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, end)
            raise _cannot_write(self.path, problem) from problem

    def close(self) -> None:
        """Let another process write. Closing twice does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._lock.release()

    def _open(self) -> int:
        try:
            is_new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as problem:
            raise _cannot_write(self.path, problem) from problem
        try:
            self.content = read_journal(self.path)
            if self.content.torn:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - len(self.content.torn))
                os.fsync(descriptor)
            if is_new:
                _sync_folder(self.path.parent)
        except OSError as problem:
            os.close(descriptor)
            raise _cannot_write(self.path, problem) from problem
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _write_line(record: Record) -> bytes:
    body = strict_json.encode(record)
    assert isinstance(body, dict)  # noqa: S101 - a record is a dataclass
    line = {"v": VERSION, "type": _NAMES[type(record)], **body}
    return json.dumps(line, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _write_whole(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _sync_folder(folder: Path) -> None:
    """Make a new file's name as durable as its content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_write(path: Path, problem: OSError) -> JournalError:
    return JournalError(
        f"{path}: expected a journal that can be written, got {problem.strerror}: "
        "check the folder, its rights and the free space, then resume the run",
    )
