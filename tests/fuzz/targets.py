"""Where wrong inputs go, and what must not come of them.

Each function takes so many inputs, checks what comes of each, and returns what came how often.
A violation raises AssertionError with the input in its text.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from tests.device_agent.harness import make_job, name_of
from tests.fuzz import samples
from tests.fuzz.mutation import ESCAPED

from boardfront.device_agent import network
from boardfront.device_agent.artifacts import ArtifactLimits, ArtifactStore
from boardfront.device_agent.backends.base import BackendError
from boardfront.device_agent.backends.fake import INFO, FakeBackend
from boardfront.device_agent.journal import AcknowledgedIds, JobFolder, read_all
from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.errors import BoardfrontError, InvalidRecordError, WrongInputError
from boardfront.protos.weightless import PREFIX, Note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fuzz.mutation import Mutator

WITHIN_S = 10.0
"""No single input may take longer; all but a few take a thousandth of it."""

_LIMITS = network.NetworkLimits(filled_bytes=8 << 20)


def fuzz_messages(mutator: Mutator, count: int) -> Counter[str]:
    """Every message as bytes: it is no message, no record, or a record that goes on the wire."""
    rights = [samples.filled(kind) for kind in samples.MESSAGES]
    outcomes: Counter[str] = Counter()
    for number in range(count):
        content = spoilt_message(mutator, rights[number % len(rights)])
        kind = samples.MESSAGES[number % len(rights)]
        with watched(content):
            outcomes[_read_message(kind, content)] += 1
    return outcomes


def _read_message(kind: type[Any], content: bytes) -> str:
    try:
        message = kind.FromString(content)
    except DecodeError:
        return "no message"
    record_type = getattr(records, kind.__name__, None)
    if record_type is None:
        return "message"
    try:
        record = codec.from_message(message, record_type)
    except InvalidRecordError:
        return "no record"
    assert codec.from_message(codec.to_message(record), record_type) == record
    return "record"


def fuzz_artifacts(mutator: Mutator, count: int) -> Counter[str]:
    """Every kind of file that a backend reads, up to where a runtime would see it."""
    rights = samples.artifacts()
    outcomes: Counter[str] = Counter()
    for number in range(count):
        content = mutator.spoil(rights[number % len(rights)])
        with watched(content):
            outcomes[_read_artifact(content)] += 1
    return outcomes


def passes_checks(content: bytes) -> bool:
    """Return whether a runtime would see this network."""
    try:
        network.read_bytes(_Content(content), limits=_LIMITS)  # type: ignore[arg-type]
    except BackendError:
        return False
    return True


def _read_artifact(content: bytes) -> str:
    outcome = "network" if passes_checks(content) else "no network"
    backend = FakeBackend(FakeBackend.resolve({}, INFO))
    with contextlib.suppress(BackendError):
        backend.load(_Content(content), records.Task(), {})  # type: ignore[arg-type]
        outcome += ", programme"
    with contextlib.suppress(InvalidRecordError):
        Note.from_bytes(PREFIX + content[:200])
    return outcome


class _Content:
    """A file that is in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read_bytes(self) -> bytes:
        return self._content


def fuzz_uploads(mutator: Mutator, count: int, folder: Path) -> Counter[str]:
    """Names, sizes and chunks that do not go together; the store keeps what is right alone."""
    store = ArtifactStore(
        folder / "agent" / "artifacts",
        limits=ArtifactLimits(one_bytes=1 << 20, all_bytes=4 << 20),
    )
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        content = mutator.random.randbytes(mutator.random.choice((0, 1, 100, 5000)))
        first = agent_pb2.ArtifactChunk(
            sha256=name_of(content), size_bytes=len(content), data=content[:2000]
        )
        chunks = [content[start : start + 500] for start in range(2000, len(content), 500)]
        if mutator.random.random() < 0.8:
            mutator.twist(first)
        if mutator.random.random() < 0.3:
            chunks = [mutator.spoil(chunk) for chunk in chunks]
        sent = first.data + b"".join(chunks)
        with watched(first.SerializeToString()):
            try:
                store.receive(first.sha256, first.size_bytes, iter([first.data, *chunks]))
            except WrongInputError:
                outcomes["refused"] += 1
                continue
            assert (name_of(sent), len(sent)) == (first.sha256, first.size_bytes), first
            outcomes["taken"] += 1
    assert_only(folder, folder / "agent" / "artifacts")
    for path in (folder / "agent" / "artifacts").iterdir():
        assert name_of(path.read_bytes()) == path.name
    return outcomes


def fuzz_journal(mutator: Mutator, count: int, folder: Path) -> Counter[str]:
    """A job's files on a disk gone bad: an agent starts in any case, with what is whole."""
    rights = folder / "right"
    job = make_job(samples.ARTIFACT, job_id="job")
    (rights / "jobs").mkdir(parents=True)
    JobFolder(rights / "jobs" / "job").create(job)
    for event in _events():
        JobFolder(rights / "jobs" / "job").append(event)
    AcknowledgedIds(rights / "jobs").add("earlier")
    outcomes: Counter[str] = Counter()
    names = ("job/job.json", "job/events.jsonl", "acknowledged.txt")
    right = {name: (rights / "jobs" / name).read_bytes() for name in names}
    for number in range(count):
        root = folder / "agent"
        (root / "jobs" / "job").mkdir(parents=True)
        spoilt = names[number % len(names)]
        content = mutator.spoil(right[spoilt])
        for name in names:
            (root / "jobs" / name).write_bytes(content if name == spoilt else right[name])
        with watched(content):
            found = list(read_all(root / "jobs"))
            again = list(read_all(root / "jobs"))
            AcknowledgedIds(root / "jobs").add("later")
            assert "later" in AcknowledgedIds(root / "jobs")
        assert [one[1:] for one in found] == [one[1:] for one in again]
        outcomes["read" if found else "moved aside"] += 1
        assert_only(folder, root, rights)
        shutil.rmtree(root)
    return outcomes


def _events() -> Iterator[records.JobEvent]:
    bodies: tuple[records.EventBody, ...] = (
        records.Queued(position=0),
        records.Working(phase=records.Phase.LOADING),
        records.Interrupted(reason="the agent was stopped"),
        records.Failure(kind=records.FailureKind.TIMEOUT, message="too long"),
        records.Finished(state=records.JobState.COMPLETED),
    )
    for index, body in enumerate(bodies):
        subject_id = "s0" if isinstance(body, records.Failure) else ""
        yield records.JobEvent(index=index, time_unix_s=1.0, subject_id=subject_id, body=body)


def spoilt_requests(mutator: Mutator, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield so many wrong requests of all methods, each with its method's name."""
    rights = samples.requests()
    names = list(rights)
    for number in range(count):
        name = names[number % len(names)]
        yield name, spoilt_message(mutator, rights[name])


def spoilt_message(mutator: Mutator, right: Any) -> bytes:
    if mutator.random.random() < 0.5:
        twisted = type(right)()
        twisted.CopyFrom(right)
        mutator.twist(twisted)
        content: bytes = twisted.SerializeToString()
        return content if mutator.random.random() < 0.8 else mutator.spoil(content)
    return mutator.spoil(right.SerializeToString())


@contextlib.contextmanager
def watched(content: bytes) -> Iterator[None]:
    """Say which input it was that did what must not be."""
    begin_s = time.monotonic()
    try:
        yield
    except (BoardfrontError, Exception) as error:
        raise AssertionError(f"{type(error).__name__}: {error}: of {content[:2000]!r}") from error
    taken_s = time.monotonic() - begin_s
    assert taken_s < WITHIN_S, f"{taken_s:.0f} s for {content[:2000]!r}"


def assert_only(folder: Path, *allowed: Path) -> None:
    """Check that nothing lies in `folder` but what is below the allowed folders."""
    strange = [
        path
        for path in folder.rglob("*")
        if not any(path.is_relative_to(one) or one.is_relative_to(path) for one in allowed)
    ]
    assert strange == []
    assert not any(ESCAPED in path.name for path in folder.rglob("*") if path.is_dir())
