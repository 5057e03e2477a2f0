"""Artifacts come in chunks, once, and only as what their name says."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.device_agent.harness import Wire, name_of, refusal, serving

from boardfront.device_agent.artifacts import (
    ArtifactMismatchError,
    ArtifactStore,
    ArtifactTooLargeError,
)
from boardfront.protos import agent_pb2
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boardfront.device_agent.agent import Agent

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
        assert code is _INVALID
        assert "takes up to 1000" in text
        assert "--max-artifact-mb" in text
        # A sender that names a small size and sends more is cut off.
        assert refusal(lambda: wire.upload(os.urandom(1 << 21), size_bytes=10))[0] is _INVALID
        assert list(agent.artifacts._folder.iterdir()) == []
        wire.upload(content[:1000])


def test_more_than_the_disk_holds_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path, limit_bytes=1 << 70)
    with pytest.raises(ArtifactTooLargeError, match="free"):
        store.receive("a" * 64, 1 << 69, iter(()))


def test_what_a_killed_agent_left_half_written_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "tmpabc.part").write_bytes(b"half")
    store = ArtifactStore(tmp_path, limit_bytes=100)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ArtifactMismatchError):
        store.receive("a" * 64, 3, iter([b"abc"]))
    with pytest.raises(WrongInputError):
        store.path("../state")
    assert list(tmp_path.iterdir()) == []
