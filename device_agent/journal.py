"""A job on the agent's disk: what was asked, and its events so far.

One folder a job, `job.json` and `events.jsonl`, in protobuf's JSON form. A disk that is full does
not stop a job: what could not be written is kept in memory until it is acknowledged. Beside the
folders, `acknowledged.txt` names the jobs that were fetched and forgotten.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
from collections import OrderedDict
from typing import IO, TYPE_CHECKING

from google.protobuf import json_format

from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)


class JobFolder:
    """Writes and reads one job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._broken = False

    @property
    def is_whole(self) -> bool:
        """Whether all events are on the disk."""
        return not self._broken

    @property
    def created_ns(self) -> int:
        """Orders jobs by their arrival: the modification time of what was asked."""
        return (self._folder / "job.json").stat().st_mtime_ns

    def create(self, job: records.Job, *, after_ns: int = 0) -> None:
        """Write what was asked; the job exists on disk once this returns.

        Args:
            job: What was asked.
            after_ns: `created_ns` of the job before it, which a clock that was set back must
                not put behind this one.

        Raises:
            BoardfrontError: If it cannot be written: the job is not taken.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part = self._folder / "job.json.part"
            with part.open("w") as file:
                file.write(json_format.MessageToJson(codec.to_message(job)))
                _reach_the_disk(file)
            created_ns = part.stat().st_mtime_ns
            if created_ns <= after_ns:
                os.utime(part, ns=(after_ns + 1, after_ns + 1))
            part.replace(self._folder / "job.json")
        except OSError as error:
            raise BoardfrontError(
                f"the agent cannot store the job in {self._folder} ({error.strerror}): check the "
                "free space and the rights on the device, then run again"
            ) from error

    def rewrite(self, job: records.Job) -> None:
        """Write anew what was asked, of the same age; a disk that is full keeps the old."""
        part = self._folder / "job.json.part"
        try:
            created_ns = self.created_ns
            with part.open("w") as file:
                file.write(json_format.MessageToJson(codec.to_message(job)))
                _reach_the_disk(file)
            os.utime(part, ns=(created_ns, created_ns))
            part.replace(self._folder / "job.json")
        except OSError as error:
            _log.warning("job %s keeps its old lease on the disk: %s", self._folder.name, error)

    def append(self, event: records.JobEvent) -> None:
        """Write one event."""
        if self._broken:
            return
        line = json.dumps(json_format.MessageToDict(codec.to_message(event)))
        try:
            with (self._folder / "events.jsonl").open("a") as file:
                file.write(line + "\n")
                if _is_waited_for(event.body):
                    _reach_the_disk(file)
        except OSError as error:
            # A gap would make every later line useless, so nothing is written from here on.
            self._broken = True
            _log.warning("events of job %s stay in memory: %s", self._folder.name, error)

    def read_events(self) -> list[records.JobEvent]:
        """Return all events.

        Raises:
            BoardfrontError: If they cannot be read (any more).
        """
        path = self._folder / "events.jsonl"
        try:
            path.stat()
            return _read_events(path)
        except (json_format.ParseError, OSError, ValueError) as error:
            raise BoardfrontError(
                f"the events of job {self._folder.name} cannot be read: {error}"
            ) from error

    def remove(self) -> None:
        """Forget the job."""
        shutil.rmtree(self._folder, ignore_errors=True)


class AcknowledgedIds:
    """The ids of jobs that were acknowledged, the latest 10,000, across restarts of the agent.

    Args:
        root: The jobs' folder.
        limit: How many are remembered.
    """

    def __init__(self, root: Path, *, limit: int = 10_000) -> None:
        self._path = root / "acknowledged.txt"
        self._limit = limit
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._lines = 0
        root.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            # Up to the last line's end: what is torn there was never answered as acknowledged.
            content = self._path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            # A line that rotted on the disk is nobody's id; the others still are.
            for job_id in whole.decode(errors="replace").splitlines():
                self._remember(job_id)
                self._lines += 1
            if len(whole) < len(content):
                os.truncate(self._path, len(whole))

    def __contains__(self, job_id: str) -> bool:
        """Return whether the job was acknowledged."""
        return job_id in self._ids

    def add(self, job_id: str) -> None:
        """Remember an id; on a disk that is full, until the agent ends."""
        self._remember(job_id)
        try:
            if self._lines >= 2 * self._limit:
                part = self._path.with_suffix(".part")
                part.write_text("".join(f"{kept}\n" for kept in self._ids))
                part.replace(self._path)
                self._lines = len(self._ids)
                return
            _append_whole(self._path, f"{job_id}\n".encode())
            self._lines += 1
        except OSError as error:
            _log.warning("acknowledged job %s is not on the disk: %s", job_id, error)

    def _remember(self, job_id: str) -> None:
        self._ids[job_id] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)


def read_all(root: Path) -> Iterator[tuple[JobFolder, records.Job, list[records.JobEvent]]]:
    """Yield every job under `root`, oldest first. A folder that cannot be read is moved aside."""
    root.mkdir(parents=True, exist_ok=True)
    folders = [path.parent for path in root.glob("*/job.json")]
    for folder in sorted(folders, key=lambda path: JobFolder(path).created_ns):
        if folder.suffix == ".unreadable":
            continue
        try:
            message = json_format.Parse((folder / "job.json").read_text(), agent_pb2.Job())
            job = codec.from_message(message, records.Job)
            events = _read_events(folder / "events.jsonl")
        except (json_format.ParseError, BoardfrontError, OSError, ValueError) as error:
            aside = folder.with_suffix(".unreadable")
            _log.warning("job %s cannot be read (%s): moved to %s", folder.name, error, aside)
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            continue
        yield JobFolder(folder), job, events


def _is_waited_for(body: records.EventBody) -> bool:
    """Return whether an event has to be on the disk before the job goes on.

    The first phase has to: else a network that makes the device's kernel fall leaves no trace of
    having been tried. What comes between it and the job's end is made safe by the end; a disk of
    a board takes 5 to 30 ms each time. None of these comes while samples are taken.
    """
    if isinstance(body, records.Working):
        return body.phase not in {records.Phase.COMPILING, records.Phase.WARMING_UP}
    return not isinstance(body, records.Queued | records.Sampling | records.Result)


def _reach_the_disk(file: IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _append_whole(path: Path, line: bytes) -> None:
    """Append a line, or nothing of it: what comes next must not be joined to a torn one.

    Raises:
        OSError: If it cannot be written.
    """
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        if file.write(line) < len(line):
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _read_events(path: Path) -> list[records.JobEvent]:
    """Read events up to the first line that is torn, and cut the file there."""
    if not path.exists():
        return []
    events: list[records.JobEvent] = []
    good_bytes = 0
    content = path.read_bytes()
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        message = json_format.Parse(line.decode(), agent_pb2.JobEvent())
        events.append(codec.from_message(message, records.JobEvent))
        good_bytes += len(line)
    if good_bytes < len(content):
        # In place: a full disk, or a second crash here, must not take the good part too.
        os.truncate(path, good_bytes)
    return events
