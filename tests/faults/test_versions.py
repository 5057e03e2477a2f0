"""Agents of other versions: told apart at once, before anything is measured."""

from __future__ import annotations

import contextlib
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.device_agent.harness import Wire, serving
from tests.faults.host_run import HostRun
from tests.faults.hosts import HostProcess
from typing_extensions import override

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.protos import agent_pb2, agent_pb2_grpc, records
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boardfront.device_agent.agent import Agent

pytestmark = pytest.mark.timeout(60)

# A field that no message has, as a newer side's additions look to an older one.
_FROM_THE_FUTURE = b"\xfa\x3f\x05later"


class OtherVersion(agent_pb2_grpc.AgentServicer):  # type: ignore[misc, unused-ignore]
    """Passes the calls of the first version on to an agent; all later ones are not implemented.

    Args:
        wire: To the agent.
        protocol_version: That it says it speaks.
        extra: Bytes behind its description.
    """

    def __init__(self, wire: Wire, protocol_version: int, extra: bytes = b"") -> None:
        self._stub = wire.stub
        self._protocol_version = protocol_version
        self._extra = extra

    @override
    def Describe(self, request: Any, context: Any) -> Any:
        reply = self._stub.Describe(request)
        reply.protocol_version = self._protocol_version
        return agent_pb2.DeviceDescription.FromString(reply.SerializeToString() + self._extra)

    @override
    def FindMissingArtifacts(self, request: Any, context: Any) -> Any:
        return self._stub.FindMissingArtifacts(request)


def _other_version(wire: Wire, protocol_version: int, extra: bytes = b"") -> OtherVersion:
    # Any: to the stubs a servicer without all methods is abstract; gRPC answers UNIMPLEMENTED.
    kind: Any = OtherVersion
    made: OtherVersion = kind(wire, protocol_version, extra)
    return made


@contextlib.contextmanager
def _serving(service: OtherVersion) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    agent_pb2_grpc.add_AgentServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Agent, Wire]]:
    with serving(tmp_path_factory.mktemp("agent")) as running:
        yield running


def test_another_contract_is_the_users_error_and_nothing_is_measured(
    shared: tuple[Agent, Wire], tmp_path: Path
) -> None:
    with _serving(_other_version(shared[1], 0)) as address:
        run = HostRun(
            address=address,
            store=tmp_path / "store.db",
            jobs=tmp_path / "jobs",
            book=tmp_path / "book",
            count=1,
        )
        with HostProcess(run) as host:
            code, told = host.wait()
    assert code == 2
    (line,) = told.splitlines()
    assert f"the agent at {address} speaks protocol version 0, this host 1" in line
    assert "install the same boardfront on both" in line
    assert shared[0].jobs.queued == 0


def test_a_newer_contract_is_told_from_ours(shared: tuple[Agent, Wire]) -> None:
    newer = records.PROTOCOL_VERSION + 1
    with _serving(_other_version(shared[1], newer)) as address:
        client = AgentClient(RemoteAddress(address))
        with pytest.raises(WrongInputError, match=f"speaks protocol version {newer}"):
            client.describe()
        client.close()


def test_what_a_newer_agent_adds_is_passed_over(shared: tuple[Agent, Wire]) -> None:
    service = _other_version(shared[1], records.PROTOCOL_VERSION, _FROM_THE_FUTURE)
    with _serving(service) as address:
        client = AgentClient(RemoteAddress(address))
        assert client.describe() == shared[1].describe()
        client.close()


def test_a_call_that_an_older_agent_does_not_know_is_told_as_such(
    shared: tuple[Agent, Wire],
) -> None:
    service = _other_version(shared[1], records.PROTOCOL_VERSION)
    with _serving(service) as address:
        client = AgentClient(RemoteAddress(address))
        with pytest.raises(WrongInputError, match="install the same boardfront on both"):
            client.show_lease()
        client.close()
