"""The tuner's side of tvm_trial.py: asked with a deadline, killed and started anew."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from typing import Any

_RESTART_AFTER = 256
"""Builds until a process is replaced: TVM's builders leak memory."""

_START_S = 120.0
"""Allowed to the first command of a process, beside its own time: TVM is imported."""


class TrialError(Exception):
    """A candidate has no result; the text says why."""


class TrialProcess:
    """Builds and times one candidate at a time in another process.

    A candidate that crashes or hangs its process takes with it what was built there and not yet
    timed. Used from one thread at a time. The process is a child of this one and dies with the
    worker that tunes.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._builds = 0
        self._held: set[int] = set()

    def build(self, number: int, module: str, target: str, within_s: float) -> str:
        """Build a candidate; return why that failed, or nothing."""
        if self._builds >= _RESTART_AFTER and not self._held:
            self.close()
        command = {"do": "build", "number": number, "module": module, "target": target}
        try:
            self._ask(command, within_s)
        except TrialError as error:
            return f"build: {error}"
        self._builds += 1
        self._held.add(number)
        return ""

    def time(self, number: int, arguments: list[Any], within_s: float) -> list[float] | str:
        """Return the times of a candidate that was built, in seconds, or why there are none."""
        if number not in self._held:
            return "run: lost when another candidate crashed"
        self._held.discard(number)
        try:
            answer = self._ask({"do": "time", "number": number, "arguments": arguments}, within_s)
        except TrialError as error:
            return f"run: {error}"
        return [float(one) for one in answer["runs_s"]]

    def close(self) -> None:
        """End the process. May be called again."""
        process, self._process = self._process, None
        self._held.clear()
        self._buffer = b""
        self._builds = 0
        if process is None:
            return
        process.kill()
        process.wait(timeout=10.0)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _ask(self, command: dict[str, Any], within_s: float) -> dict[str, Any]:
        if self._process is None:
            self._process = _start()
            within_s += _START_S
        deadline_s = time.monotonic() + within_s
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("a trial process is started with pipes")
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            stdin.flush()
            line = self._read_line(stdout.fileno(), deadline_s)
        except (BrokenPipeError, EOFError):
            self._process.wait(timeout=10.0)
            code = self._process.returncode
            self.close()
            raise TrialError(f"its process ended with {code}") from None
        except TimeoutError:
            self.close()
            raise TrialError(f"took longer than {within_s:g} s") from None
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise TrialError(str(answer["error"]))
        return answer

    def _read_line(self, descriptor: int, deadline_s: float) -> bytes:
        while b"\n" not in self._buffer:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
                raise TimeoutError
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                raise EOFError
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def _start() -> subprocess.Popen[bytes]:
    # Closed by `close`: the process outlives this call.
    return subprocess.Popen(
        [sys.executable, "-m", "boardfront.device_agent.backends.tvm_trial"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
