"""Bytes that are no message cost their sender an answer, and nobody anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.device_agent.harness import Wire, name_of, programme, refusal, serving

from boardfront.device_agent import server
from boardfront.device_agent.server import SERVICE
from boardfront.protos import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

_NO_MESSAGE = b"\xff\xff"


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    with serving(tmp_path) as (_, running):
        yield running


def _call(channel: Any) -> None:
    channel.unary_unary(f"/{SERVICE}/Submit")(_NO_MESSAGE, timeout=10.0)


def _stream(channel: Any) -> None:
    next(channel.unary_stream(f"/{SERVICE}/Watch")(_NO_MESSAGE, timeout=10.0))


def _upload(channel: Any) -> None:
    content = programme()
    first = agent_pb2.ArtifactChunk(sha256=name_of(content), size_bytes=len(content) + 1)
    chunks = [first.SerializeToString(), _NO_MESSAGE]
    channel.stream_unary(f"/{SERVICE}/UploadArtifact")(iter(chunks), timeout=10.0)


@pytest.mark.parametrize("send", [_call, _stream, _upload])
def test_however_many_come_the_connection_serves_on(
    wire: Wire, tmp_path: Path, send: Callable[[Any], None]
) -> None:
    # Half as many again as there are calls at a time.
    for _ in range(server._MOST_CALLS * 3 // 2):
        code, text = refusal(lambda: send(wire.channel))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert text.startswith("the request is no message of this method")
    assert wire.missing() == []
    assert list((tmp_path / "artifacts").iterdir()) == []
