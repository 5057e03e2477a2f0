"""A worker process as the agent sees it: asked, timed out, killed as a group."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Any

from typing_extensions import Self

from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import Failure, FailureKind

if TYPE_CHECKING:
    from types import TracebackType

_POLL_S = 0.2
_KEPT_STDERR_BYTES = 4096


class WorkerFailedError(BoardfrontError):
    """A worker has no answer; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(f"{failure.kind.value}: {failure.message}")


class WorkerCancelledError(BoardfrontError):
    """The job was cancelled while its worker was asked."""


class WorkerProcess:
    """One fresh process, started by exec, in a session (and process group) of its own.

    Guarantees: every wait has a deadline; `close` leaves no process of the group alive; standard
    output and error are drained and only their last bytes are kept. Used from one thread.
    """

    def __init__(self, cancelled: threading.Event | None = None) -> None:
        self._cancelled = cancelled or threading.Event()
        self._folder = tempfile.TemporaryDirectory(prefix="boardfront-worker-")
        command_read, command_write = os.pipe()
        answer_read, answer_write = os.pipe()
        # Not a context manager: the process outlives this call and is ended by `close`.
        self._process = subprocess.Popen(  # noqa: S603 - our own module and numbers
            [
                sys.executable,
                "-m",
                "boardfront.device_agent.worker",
                str(command_read),
                str(answer_write),
                str(os.getpid()),
            ],
            pass_fds=(command_read, answer_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd=self._folder.name,
        )
        os.close(command_read)
        os.close(answer_write)
        self._commands = os.fdopen(command_write, "w")
        self._answers_fd = answer_read
        self._buffer = b""
        self._stderr: deque[int] = deque(maxlen=_KEPT_STDERR_BYTES)
        self._drains = [
            _start_drain(self._process.stdout, deque(maxlen=0)),
            _start_drain(self._process.stderr, self._stderr),
        ]

    def __enter__(self) -> Self:
        """Return the running worker."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill the worker."""
        self.close()

    def ask(self, command: dict[str, Any], *, within_s: float, what: str) -> dict[str, Any]:
        """Send a command and return its answer.

        Args:
            command: A JSON object with the key "do".
            within_s: The worker's own time left for it, in seconds.
            what: Named in the message of a failure, e.g. "compile".

        Raises:
            WorkerFailedError: The worker said that it failed, died, or ran out of time.
            WorkerCancelledError: The job was cancelled meanwhile.
        """
        deadline_s = time.monotonic() + within_s
        try:
            self._commands.write(json.dumps(command) + "\n")
            self._commands.flush()
        except BrokenPipeError:
            raise self._death(what) from None
        line = self._read_line(deadline_s, within_s, what)
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise WorkerFailedError(
                Failure(
                    kind=FailureKind.CRASHED,
                    message=f"the worker's answer to {what} is not JSON",
                    detail=self._stderr_tail(),
                )
            ) from None
        if "failure" in answer:
            raise WorkerFailedError(
                Failure(
                    kind=FailureKind(answer["failure"]),
                    message=answer["message"],
                    detail=self._stderr_tail(),
                )
            )
        return answer

    def close(self) -> None:
        """Kill the whole process group and free what it held. May be called again."""
        if self._answers_fd < 0:
            # The group's id was given back: it may be another's by now.
            return
        self._kill_group()
        self._process.wait()
        for drain in self._drains:
            drain.join(timeout=1.0)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        with contextlib.suppress(BrokenPipeError):
            self._commands.close()
        os.close(self._answers_fd)
        self._answers_fd = -1
        self._folder.cleanup()

    def _kill_group(self) -> None:
        # The leader may be dead while its children live: the group id stays valid until waited.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read_line(self, deadline_s: float, within_s: float, what: str) -> bytes:
        while b"\n" not in self._buffer:
            if self._cancelled.is_set():
                raise WorkerCancelledError("the job was cancelled")
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise WorkerFailedError(
                    Failure(
                        kind=FailureKind.TIMEOUT,
                        message=f"{what} took longer than its {within_s:.3g} s",
                        detail=self._stderr_tail(),
                    )
                )
            ready, _, _ = select.select([self._answers_fd], [], [], min(left_s, _POLL_S))
            if ready:
                chunk = os.read(self._answers_fd, 1 << 16)
                if not chunk:
                    raise self._death(what)
                self._buffer += chunk
            elif self._process.poll() is not None:
                # Dead without an end of file: a child of its holds the pipe.
                raise self._death(what)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _death(self, what: str) -> WorkerFailedError:
        try:
            code = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            message = f"the worker closed its pipe during {what}"
        else:
            message = f"the worker {_ending(code)} during {what}"
        self._kill_group()
        for drain in self._drains:
            drain.join(timeout=1.0)
        return WorkerFailedError(
            Failure(kind=FailureKind.CRASHED, message=message, detail=self._stderr_tail())
        )

    def _stderr_tail(self) -> str:
        text = bytes(self._stderr).decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-20:])


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"died by signal {signal.Signals(-code).name}"
    except ValueError:
        return f"died by signal {-code}"


def _start_drain(stream: IO[bytes] | None, kept: deque[int]) -> threading.Thread:
    thread = threading.Thread(target=_drain, args=(stream, kept), daemon=True)
    thread.start()
    return thread


def _drain(stream: IO[bytes], kept: deque[int]) -> None:
    while True:
        try:
            chunk = os.read(stream.fileno(), 1 << 16)
        except (OSError, ValueError):
            return
        if not chunk:
            return
        kept.extend(chunk[-_KEPT_STDERR_BYTES:])
