"""Where an agent is: at an address, or on this machine, started by us."""

from __future__ import annotations

import os
import re
import selectors
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Protocol

from boardfront.protos.errors import BoardfrontError, WrongInputError

_START_WITHIN_S = 20.0
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]|[A-Za-z0-9._-]+):(\d{1,5})")


class AgentAddress(Protocol):
    """Knows where one agent is."""

    def resolve(self) -> str:
        """Return its HOST:PORT now; may start an agent.

        Raises:
            BoardfrontError: If there can be none.
        """

    def close(self) -> None:
        """Stop what `resolve` started."""


class RemoteAddress:
    """An agent that somebody else runs."""

    def __init__(self, text: str) -> None:
        found = _HOST_PORT.fullmatch(text)
        if not found or not 0 < int(found.group(2)) < 65536:
            raise WrongInputError(
                f"device {text!r}: expected 'local' or HOST:PORT, e.g. 192.168.1.20:50051"
            )
        self._text = text

    def resolve(self) -> str:
        """Return the address as given."""
        return self._text

    def close(self) -> None:
        """Do nothing: the agent is not ours."""


class LocalAgent:
    """An agent on loopback that lives as long as this object, and dies with this process.

    If another boardfront on this machine runs one on the same folder, that one is used: a device
    times one thing at a moment, also when two people are at it. When it goes, ours is started.

    Args:
        state: The agent's folder.
    """

    def __init__(self, state: Path | None = None) -> None:
        self._state = state or default_state()
        self._process: subprocess.Popen[str] | None = None
        self._address = ""
        self._others = ""

    def resolve(self) -> str:
        """Return the address of a running agent, starting one if there is none."""
        if self._process is not None and self._process.poll() is None:
            return self._address
        if self._others and _answers(self._others):
            return self._others
        deadline_s = time.monotonic() + _START_WITHIN_S
        while True:
            answer = self._start(deadline_s)
            if answer:
                return answer
            self._others = self._of_other()
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
        process, self._process = self._process, None
        if process is None:
            return
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
        with self._log_path().open("a") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [
                    sys.executable,
                    "-m",
                    "boardfront.device_agent.cli",
                    "serve",
                    "--listen=127.0.0.1:0",
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

    def _of_other(self) -> str:
        try:
            return (self._state / "address").read_text().strip()
        except OSError:
            return ""

    def _log_path(self) -> Path:
        return self._state / "agent.log"


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


def _answers(address: str) -> bool:
    """Whether something listens there; a killed agent leaves its address behind."""
    host, _, port = address.rpartition(":")
    try:
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
