"""Artifacts come in chunks, once, and only as what their name says."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.device_agent.harness import (
    Wire,
    answers,
    make_job,
    name_of,
    programme,
    refusal,
    result_of,
    serving,
)

from boardfront.device_agent.agent import Agent
from boardfront.device_agent.artifacts import (
    ArtifactLimits,
    ArtifactMismatchError,
    ArtifactStore,
    ArtifactTooLargeError,
)
from boardfront.protos import agent_pb2
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_INVALID = grpc.StatusCode.INVALID_ARGUMENT


def test_an_artifact_of_several_chunks_arrives_whole(shared: tuple[Agent, Wire]) -> None:
    agent, wire = shared
    content = os.urandom((5 << 20) + 17)
    assert wire.missing(name_of(content)) == [name_of(content)]
    reply = wire.upload(content)
    assert (reply.sha256, reply.already_present) == (name_of(content), False)
    assert wire.missing(name_of(content)) == []
    stored = agent.artifacts.path(name_of(content))
    assert stored is not None
    assert stored.read_bytes() == content


def test_an_artifact_that_is_here_is_not_read_again(wire: Wire) -> None:
    content = os.urandom(3 << 20)
    wire.upload(content)
    enough = threading.Event()

    def endless() -> Iterator[agent_pb2.ArtifactChunk]:
        yield agent_pb2.ArtifactChunk(sha256=name_of(content), size_bytes=len(content))
        enough.wait()

    try:
        reply = wire.stub.UploadArtifact(endless(), timeout=10.0)
    finally:
        enough.set()
    assert reply.already_present


def test_the_empty_artifact_is_an_artifact(wire: Wire) -> None:
    wire.upload(b"")
    assert wire.missing(name_of(b"")) == []


def test_an_upload_without_chunks_is_refused(wire: Wire) -> None:
    code, text = refusal(lambda: wire.stub.UploadArtifact(iter(()), timeout=10.0))
    assert code is _INVALID
    assert "without chunks" in text


@pytest.mark.parametrize("surplus", [-1, 1])
def test_another_size_than_named_is_refused(wire: Wire, surplus: int) -> None:
    content = os.urandom(1000)
    code, text = refusal(lambda: wire.upload(content, size_bytes=len(content) + surplus))
    assert code is _INVALID
    assert "send it again" in text
    assert wire.missing(name_of(content)) == [name_of(content)]


def test_other_bytes_than_named_are_refused(shared: tuple[Agent, Wire]) -> None:
    agent, wire = shared
    content, other = os.urandom(1000), os.urandom(1000)
    code, text = refusal(lambda: wire.upload(content, sha256=name_of(other)))
    assert code is _INVALID
    assert name_of(other)[:12] in text
    assert name_of(content)[:12] in text
    assert wire.missing(name_of(content), name_of(other)) == [name_of(content), name_of(other)]
    assert not list(agent.artifacts._folder.glob("*.part"))


@pytest.mark.parametrize(
    "name", ["", "abc", "../../../etc/passwd", "/etc/passwd", "A" * 64, "a" * 63 + "/", "a" * 65]
)
def test_a_name_that_is_no_sha256_is_refused(wire: Wire, name: str) -> None:
    for call in (lambda: wire.upload(b"x", sha256=name), lambda: wire.missing(name)):
        code, text = refusal(call)
        assert code is _INVALID
        assert "64 hexadecimal digits" in text


def test_too_large_an_artifact_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with serving(tmp_path / "state", artifact_limit_bytes=1000) as (agent, wire):
        content = os.urandom(1001)
        code, text = refusal(lambda: wire.upload(content))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "takes up to 1000" in text
        assert "--max-artifact-mb" in text
        # A sender that names a small size and sends more is cut off.
        assert refusal(lambda: wire.upload(os.urandom(1 << 21), size_bytes=10))[0] is _INVALID
        assert list(agent.artifacts._folder.iterdir()) == []
        wire.upload(content[:1000])


def test_more_than_the_disk_holds_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path, limits=ArtifactLimits(one_bytes=1 << 70))
    with pytest.raises(ArtifactTooLargeError, match="free"):
        store.receive("a" * 64, 1 << 69, iter(()))


def _store(
    folder: Path, *, all_bytes: int = 1 << 30, unused_s: float = 1e6, in_use: Iterable[str] = ()
) -> ArtifactStore:
    limits = ArtifactLimits(all_bytes=all_bytes, unused_s=unused_s)
    return ArtifactStore(folder, limits=limits, in_use=lambda: set(in_use))


def _keep(store: ArtifactStore, *contents: bytes) -> list[str]:
    for content in contents:
        store.receive(name_of(content), len(content), iter([content]))
    return [name_of(content) for content in contents]


def _have(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    store = _store(tmp_path, all_bytes=300)
    first, second, third = _keep(store, b"1" * 100, b"2" * 100, b"3" * 100)
    assert store.all_bytes == 300
    # A question for it is a use: whoever asks is about to name it in a job.
    assert store.missing([first]) == ()
    (fourth,) = _keep(store, b"4" * 150)
    assert _have(tmp_path) == {first, fourth}
    assert store.all_bytes == 250
    assert store.missing([second, third]) == (second, third)


def test_what_a_job_needs_and_what_just_came_stay_over_the_limit(tmp_path: Path) -> None:
    needed = name_of(b"1" * 100)
    store = _store(tmp_path, all_bytes=100, in_use=[needed])
    _, second = _keep(store, b"1" * 100, b"2" * 100)
    assert _have(tmp_path) == {needed, second}
    (third,) = _keep(store, b"3" * 100)
    assert _have(tmp_path) == {needed, third}


def test_what_was_not_used_for_long_goes_also_when_an_older_one_has_to_stay(
    tmp_path: Path,
) -> None:
    needed, second, third = _keep(_store(tmp_path), b"1", b"2", b"3")
    for name, age_s in ((needed, 3000), (second, 2000), (third, 500)):
        then_s = time.time() - age_s
        os.utime(tmp_path / name, (then_s, then_s))
    store = _store(tmp_path, unused_s=1000.0, in_use=[needed])
    assert _have(tmp_path) == {needed, second, third}
    store.evict()
    assert _have(tmp_path) == {needed, third}


def test_the_order_of_use_survives_a_restart(tmp_path: Path) -> None:
    store = _store(tmp_path)
    first, second = _keep(store, b"1" * 100, b"2" * 100)
    store.path(first)
    (tmp_path / "lost+found").mkdir()
    again = _store(tmp_path, all_bytes=250)
    assert again.all_bytes == 200
    (third,) = _keep(again, b"3" * 100)
    assert _have(tmp_path) == {first, third, "lost+found"}
    assert again.path(second) is None


def test_what_somebody_else_deleted_is_not_counted(tmp_path: Path) -> None:
    store = _store(tmp_path)
    first, second = _keep(store, b"1" * 100, b"2" * 100)
    (tmp_path / first).unlink()
    assert store.path(first) is None
    assert store.all_bytes == 100
    _keep(store, b"2" * 100)
    assert store.all_bytes == 100
    assert _have(tmp_path) == {second}


def test_an_agent_keeps_what_its_jobs_name_and_clears_the_rest(tmp_path: Path) -> None:
    hanging, waiting, done = (
        programme(fault="hang-compile"),
        programme(time_s=0.002),
        programme(time_s=0.004),
    )
    with serving(tmp_path) as (_, wire):
        wire.run(make_job(done), done)
        blocking = make_job(hanging)
        wire.submit(blocking, hanging)
        wire.submit(make_job(waiting, job_id="waiting"), waiting)
        wire.upload(b"never named")
    agent = Agent(tmp_path, artifact_limits=ArtifactLimits(all_bytes=1))
    try:
        assert len(_have(tmp_path / "artifacts")) == 4
        agent.start()
        assert _have(tmp_path / "artifacts") == {name_of(hanging), name_of(waiting)}
        agent.jobs.cancel(blocking.job_id)
        events = list(agent.jobs.watch("waiting", 0, lambda: True))
        result_of(answers(events)["s0"])
    finally:
        agent.stop()


def test_what_a_killed_agent_left_half_written_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "tmpabc.part").write_bytes(b"half")
    store = ArtifactStore(tmp_path, limits=ArtifactLimits(one_bytes=100))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ArtifactMismatchError):
        store.receive("a" * 64, 3, iter([b"abc"]))
    with pytest.raises(WrongInputError):
        store.path("../state")
    assert list(tmp_path.iterdir()) == []
