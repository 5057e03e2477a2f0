"""Where an agent is: at an address, or on this machine, started by us."""

from __future__ import annotations

import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from boardfront.host.fleet.credentials import DeviceCredentials

_START_WITHIN_S = 20.0
_LONGEST_SOCKET_BYTES = 100
"""What the kernel takes for a socket's path: 107 bytes on Linux, 103 on macOS."""
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]|[A-Za-z0-9._-]+):(\d{1,5})")


class AgentAddress(Protocol):
    """Knows where one agent is."""

    @property
    def credentials(self) -> DeviceCredentials | None:
        """How to prove oneself to it and recognise it; None: a plain connection."""

    def resolve(self) -> str:
        """Return its HOST:PORT, or unix:PATH, now; may start an agent.

        Raises:
            BoardfrontError: If there can be none.
        """

    def close(self) -> None:
        """Stop what `resolve` started."""


class RemoteAddress:
    """An agent that somebody else runs.

    Args:
        text: HOST:PORT.
        credentials: Of an enrolled board; None for one that is reached through a tunnel.

    Raises:
        WrongInputError: If the text is no address.
    """

    def __init__(self, text: str, credentials: DeviceCredentials | None = None) -> None:
        found = _HOST_PORT.fullmatch(text)
        if not found or not 0 < int(found.group(2)) < 65536:
            raise WrongInputError(
                f"device {text!r}: expected 'local' or HOST:PORT, e.g. 192.168.1.20:50051"
            )
        self._text = text
        self.credentials = credentials

    def resolve(self) -> str:
        """Return the address as given."""
        return self._text

    def close(self) -> None:
        """Do nothing: the agent is not ours."""


class LocalAgent:
    """An agent of this user's alone that lives as long as this object, and dies with this process.

    It listens on a Unix socket in a folder that no other user may enter, because a port on
    loopback is open to everybody on the machine.

    If another boardfront on this machine runs one on the same folder, that one is used: a device
    times one thing at a moment, also when two people are at it. When it goes, ours is started.

    Args:
        state: The agent's folder.

    Thread-safe.
    """

    credentials: DeviceCredentials | None = None

    def __init__(self, state: Path | None = None) -> None:
        self._state = state or default_state()
        self._process: subprocess.Popen[str] | None = None
        self._address = ""
        self._others = ""
        self._lock = threading.RLock()
        self._socket_folder: tempfile.TemporaryDirectory[str] | None = None

    def resolve(self) -> str:
        """Return the address of a running agent, starting one if there is none."""
        with self._lock:
            return self._resolve()

    def _resolve(self) -> str:
        if self._process is not None and self._process.poll() is None:
            return self._address
        if self._others and _answers(self._others):
            return self._others
        deadline_s = time.monotonic() + _START_WITHIN_S
        while True:
            answer = self._start(deadline_s)
            if answer:
                return answer
            self._others = _address_in(self._state)
            if self._others and _answers(self._others):
                return self._others
            if time.monotonic() > deadline_s:
                raise BoardfrontError(
                    f"the local agent did not start within {_START_WITHIN_S:g} s on "
                    f"{self._state}: see {self._log_path()}"
                )
            time.sleep(0.2)

    def close(self) -> None:
        """Stop the agent if it is ours."""
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            self._end(process)
            if self._socket_folder is not None:
                self._socket_folder.cleanup()
                self._socket_folder = None

    def _end(self, process: subprocess.Popen[str]) -> None:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout=15.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _start(self, deadline_s: float) -> str:
        """Start an agent; return its address, or "" if it ended at once."""
        self.close()
        self._state.mkdir(parents=True, exist_ok=True)
        # Made by an earlier version it may be open to others.
        self._state.chmod(0o700)
        with self._log_path().open("a") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [
                    sys.executable,
                    "-m",
                    "boardfront.device_agent.cli",
                    "serve",
                    f"--listen=unix:{self._socket()}",
                    f"--state={self._state}",
                    "--exit-with-stdin",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # A Ctrl-C is for the host alone: it decides what happens to the job.
                start_new_session=True,
            )
        line = _read_line(self._process.stdout, deadline_s)
        if not line.startswith("listening on "):
            self.close()
            return ""
        self._address = line.removeprefix("listening on ").strip()
        return self._address

    def _socket(self) -> Path:
        """Return where our agent is to listen, in a folder that it keeps from its networks."""
        path = self._state.absolute() / "sockets" / "agent.sock"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_BYTES:
            return path
        self._socket_folder = tempfile.TemporaryDirectory(prefix="boardfront-")
        return Path(self._socket_folder.name) / "agent.sock"

    def _log_path(self) -> Path:
        return self._state / "agent.log"


class RunningAgent:
    """This machine's own agent, for who only looks on: it is never started.

    Args:
        state: The agent's folder.
    """

    credentials: DeviceCredentials | None = None

    def __init__(self, state: Path | None = None) -> None:
        self._state = state or default_state()

    def resolve(self) -> str:
        """Return the address of the agent that somebody runs.

        Raises:
            NoLocalAgentError: If nobody does.
        """
        address = _address_in(self._state)
        if not address or not _answers(address):
            raise NoLocalAgentError(
                "no agent runs on this machine: what measures here starts one for as long"
            )
        return address

    def close(self) -> None:
        """Do nothing: the agent is not ours."""


class NoLocalAgentError(BoardfrontError):
    """Nobody measures on this machine now."""


def parse_device(text: str) -> AgentAddress:
    """Return the address that a person wrote: `local` or HOST:PORT.

    Raises:
        WrongInputError: If it is neither.
    """
    return LocalAgent() if text == "local" else RemoteAddress(text)


def default_state() -> Path:
    """Return the folder of this machine's own agent."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "boardfront" / "local"


def _address_in(state: Path) -> str:
    """Return where the agent on a folder listens; one that was killed leaves it behind."""
    try:
        return (state / "address").read_text().strip()
    except OSError:
        return ""


def _answers(address: str) -> bool:
    """Whether something listens there; a killed agent leaves its address behind."""
    host, _, port = address.rpartition(":")
    try:
        if host == "unix":
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(port)
            return True
        with socket.create_connection((host.strip("[]"), int(port)), timeout=1.0):
            return True
    except (OSError, ValueError):
        return False


def _read_line(stream: IO[str] | None, deadline_s: float) -> str:
    if stream is None:
        return ""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        if not selector.select(timeout=max(0.0, deadline_s - time.monotonic())):
            return ""
        return stream.readline()
