"""A job on the agent's disk: what was asked, and its events so far.

One folder a job, `job.json` and `events.jsonl`, in protobuf's JSON form. A disk that is full does
not stop a job: what could not be written is kept in memory until it is acknowledged.
"""

from __future__ import annotations

import json
import logging
import shutil
from typing import TYPE_CHECKING

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

    def create(self, job: records.Job) -> None:
        """Write what was asked; the job exists on disk once this returns.

        Raises:
            BoardfrontError: If it cannot be written: the job is not taken.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part = self._folder / "job.json.part"
            part.write_text(json_format.MessageToJson(codec.to_message(job)))
            part.replace(self._folder / "job.json")
        except OSError as error:
            raise BoardfrontError(f"the agent cannot store the job: {error}") from error

    def append(self, event: records.JobEvent) -> None:
        """Write one event."""
        if self._broken:
            return
        line = json.dumps(json_format.MessageToDict(codec.to_message(event)))
        try:
            with (self._folder / "events.jsonl").open("a") as file:
                file.write(line + "\n")
        except OSError as error:
            # A gap would make every later line useless, so nothing is written from here on.
            self._broken = True
            _log.warning("events of job %s stay in memory: %s", self._folder.name, error)

    def remove(self) -> None:
        """Forget the job."""
        shutil.rmtree(self._folder, ignore_errors=True)


def read_all(root: Path) -> Iterator[tuple[JobFolder, records.Job, list[records.JobEvent]]]:
    """Yield every job under `root`, oldest first. A folder that cannot be read is moved aside."""
    root.mkdir(parents=True, exist_ok=True)
    folders = [path.parent for path in root.glob("*/job.json")]
    for folder in sorted(folders, key=lambda path: (path / "job.json").stat().st_mtime_ns):
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
        path.write_bytes(content[:good_bytes])
    return events
