"""Agents that demand certificates, and clients with certificates of all kinds."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from tests.device_agent import harness

from boardfront.device_agent import certificates
from boardfront.device_agent.agent import Agent
from boardfront.device_agent.credentials import Credentials, Identity
from boardfront.device_agent.server import start_server
from boardfront.protos import agent_pb2, agent_pb2_grpc
from boardfront.protos.enrolment import server_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boardfront.host.fleet.authority import Authority
    from boardfront.host.fleet.credentials import Identity as ClientIdentity

DEVICE_ID = "0123456789abcdef"


@dataclass(frozen=True)
class Board:
    """An agent with credentials that runs in this process."""

    agent: Agent
    credentials: Credentials
    address: str
    authority: Authority


def give_credentials(state: Path, authority: Authority, device_id: str) -> Credentials:
    """Do what an enrolment does, without the wire."""
    key_pem = certificates.new_key()
    issued = authority.issue_board(
        certificates.request(key_pem, server_name(device_id)), device_id, replace=True
    )
    identity = Identity(key_pem, issued.certificate_pem, authority.certificate_pem)
    return Credentials.install_first(state, device_id, identity, now_s=time.time())


@contextlib.contextmanager
def secured(state: Path, authority: Authority, device_id: str = DEVICE_ID) -> Iterator[Board]:
    """Run an agent with credentials in this process."""
    credentials = give_credentials(state, authority, device_id)
    agent = Agent(state, name="bench")
    agent.start()
    server, port = start_server(agent, "127.0.0.1:0", credentials)
    try:
        yield Board(agent, credentials, f"127.0.0.1:{port}", authority)
    finally:
        server.stop(grace=None).wait()
        agent.stop()


@contextlib.contextmanager
def connected(
    address: str,
    authority_pem: bytes,
    identity: ClientIdentity | None = None,
    *,
    device_id: str = DEVICE_ID,
) -> Iterator[grpc.Channel]:
    """Open a stock channel with the given certificate, or with none."""
    credentials = grpc.ssl_channel_credentials(
        authority_pem,
        None if identity is None else identity.key_pem,
        None if identity is None else identity.certificate_pem,
    )
    options = [("grpc.ssl_target_name_override", server_name(device_id))]
    with grpc.secure_channel(address, credentials, options=options) as channel:
        yield channel


def agent_stub(channel: grpc.Channel) -> Any:
    """Return the agent's methods on a channel."""
    return agent_pb2_grpc.AgentStub(channel)


def ask(channel: grpc.Channel) -> None:
    """Make a call that asks for nothing."""
    agent_stub(channel).FindMissingArtifacts(
        agent_pb2.FindMissingArtifactsRequest(), timeout=harness.WITHIN_S
    )


class EnrollingProcess:
    """`boardfront-agent enroll` in a process of its own, from its token to its end."""

    def __init__(self, state: Path, *options: str, listen: str = "127.0.0.1:0") -> None:
        self.state = state
        state.mkdir(parents=True, exist_ok=True)
        with (state / "stderr.log").open("a") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "boardfront.device_agent.cli", "enroll"),
                    *("--listen", listen, "--state", str(state), "--name", "rock5b", *options),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        command = self.process.stdout.readline().split()
        assert command[:3] == ["boardfront", "device", "add"], self.log()
        self.address, self.token = command[3], command[5]

    def log(self) -> str:
        """Return what it wrote to its standard error."""
        return (self.state / "stderr.log").read_text()

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> int:
        """End it as a service manager would; return its exit code."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended by itself; return its exit code."""
        code = self.process.wait(timeout=harness.WITHIN_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@contextlib.contextmanager
def enrolling(state: Path, *options: str) -> Iterator[EnrollingProcess]:
    """Run `boardfront-agent enroll` for a while."""
    process = EnrollingProcess(state, *options)
    try:
        yield process
    finally:
        process.end()
