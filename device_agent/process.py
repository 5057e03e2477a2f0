"""A worker process as the agent sees it: asked, timed out, killed with all that it started."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from typing import IO, TYPE_CHECKING, Any

from typing_extensions import Self

from boardfront.device_agent import answers, guard, limits, protections
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import Failure, FailureKind

if TYPE_CHECKING:
    from types import TracebackType

    from boardfront.device_agent.protections import Protections

_log = logging.getLogger(__name__)

_POLL_S = 0.2
_KEPT_STDERR_BYTES = 4096
_SILENCE = {"ORT_DISABLE_TELEMETRY": "1"}
"""onnxruntime from 1.29 on tells its maker of every network that is loaded, names and hashes, from
a thread of its own, and keeps an identifier of the device in the user's home; Privacy.md there.
"""
_SHARED_DEADLINES = {
    "load": ("load", "compile"),
    "compile": ("load", "compile"),
    "warm-up": ("warm-up", "run"),
    "run": ("warm-up", "run"),
}
"""What is asked for under one deadline together."""


class WorkerFailedError(BoardfrontError):
    """A worker has no answer; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(f"{failure.kind.value}: {failure.message}")


class WorkerCancelledError(BoardfrontError):
    """The job was cancelled while its worker was asked."""


class WorkerProcess:
    """One fresh process, started by exec under a guard (guard.py) in a session of its own.

    Guarantees: every wait has a deadline; `close` leaves nothing alive that the worker started,
    whatever session it went to, and so does the agent's own death; standard output and error are
    drained and only their last bytes are kept. Memory is limited to what `limits.worker_memory`
    says where it is made, and the rest to what `protections.workers` says. Used from one thread.
    """

    def __init__(self, cancelled: threading.Event | None = None) -> None:
        self._cancelled = cancelled or threading.Event()
        self._memory_bytes = limits.worker_memory_bytes()
        self._oom_kills = limits.oom_kills()
        self._longest_s: dict[tuple[str, ...], float] = {}
        self._next_look_s = 0.0
        self._mark = uuid.uuid4().hex
        with contextlib.ExitStack() as undo:
            # Whoever cannot start one worker tries again, and must not run out of descriptors.
            self._folder = tempfile.TemporaryDirectory(prefix=guard.FOLDER_PREFIX)
            undo.callback(self._folder.cleanup)
            command_read, command_write = _pipe(undo)
            answer_read, answer_write = _pipe(undo)
            self._process = self._start(command_read, answer_write)
            undo.pop_all()
        os.close(command_read)
        os.close(answer_write)
        self._commands = os.fdopen(command_write, "w")
        self._answers_fd = answer_read
        self._buffer = bytearray()
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

    @property
    def is_alive(self) -> bool:
        """Whether the worker, or what guards it, still runs."""
        return self._process.poll() is None

    def belong_to(self, cancelled: threading.Event) -> None:
        """Let a worker that was asked for nothing yet be of a job, which may be cancelled."""
        self._cancelled = cancelled
        self._oom_kills = limits.oom_kills()

    def ask(self, command: dict[str, Any], *, within_s: float, what: str) -> dict[str, Any]:
        """Send a command and return its answer.

        Args:
            command: A JSON object with the key "do".
            within_s: The worker's own time left for it, in seconds.
            what: Named in the message of a failure, e.g. "compile".

        Raises:
            WorkerFailedError: The worker said that it failed, died, ran out of time or memory, or
                gave a time that cannot be one.
            WorkerCancelledError: The job was cancelled meanwhile.
        """
        deadline_s = time.monotonic() + within_s
        together = _SHARED_DEADLINES.get(what, (what,))
        # The first of those that share a deadline is given all of it: what was asked for.
        self._longest_s[together] = max(within_s, self._longest_s.get(together, 0.0))
        try:
            self._commands.write(json.dumps(command) + "\n")
            self._commands.flush()
        except BrokenPipeError:
            raise self._death(what) from None
        line = self._read_line(deadline_s, what)
        try:
            answer = answers.parse(line, what)
        except answers.WrongAnswerError as error:
            raise self._failed(FailureKind.CRASHED, str(error)) from None
        if "failure" in answer:
            raise self._failed(FailureKind(answer["failure"]), answer["message"])
        return answer

    def protections(self, *, within_s: float = 5.0) -> Protections:
        """Return what the worker is kept from, as the kernel tells.

        Raises:
            WorkerFailedError: If there is no worker within that time.
        """
        deadline_s = time.monotonic() + within_s
        while True:
            # Below the guard are, before, its own tries.
            pids = [pid for pid in guard.descendants(self._process.pid) if guard.is_worker(pid)]
            if pids:
                return protections.of(pids[0])
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise self._death("its start")
            time.sleep(0.005)

    def close(self) -> None:
        """Kill the worker and all below it, and free what it held. May be called again."""
        if self._answers_fd < 0:
            return
        self._end()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        with contextlib.suppress(BrokenPipeError):
            self._commands.close()
        os.close(self._answers_fd)
        self._answers_fd = -1
        self._folder.cleanup()

    def _start(self, command_fd: int, answer_fd: int) -> subprocess.Popen[bytes]:
        # Not a context manager: the process outlives this call and is ended by `close`.
        return subprocess.Popen(  # noqa: S603 - our own module and numbers
            [
                *(sys.executable, "-I", "-S", guard.__file__, sys.executable),
                *(str(command_fd), str(answer_fd)),
                *(str(os.getpid()), str(self._memory_bytes), *protections.guard_arguments()),
            ],
            pass_fds=(command_fd, answer_fd),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd=self._folder.name,
            env={**os.environ, **_SILENCE, guard.MARK: self._mark},
        )

    def _end(self) -> None:
        """Kill everything; the last bytes of standard error are there afterwards."""
        # Left to the guard, which is no one's to name: it alone sees what went to other sessions.
        self._process.terminate()
        try:
            code = self._process.wait(timeout=guard.KILL_WITHIN_S + 1.0)
        except subprocess.TimeoutExpired:
            _log.warning("a worker could not be ended within %g s", guard.KILL_WITHIN_S)
            code = -signal.SIGKILL
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1.0)
        if code == -signal.SIGKILL:
            # Perhaps not the worker's end told by the guard, but the guard's own.
            guard.kill_marked(self._mark)
        for drain in self._drains:
            drain.join(timeout=1.0)

    def _read_line(self, deadline_s: float, what: str) -> bytes:
        poll = select.poll()
        poll.register(self._answers_fd, select.POLLIN)
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > answers.MAX_BYTES:
                raise self._failed(
                    FailureKind.CRASHED, f"the worker's answer to {what} does not end"
                )
            now_s = time.monotonic()
            self._check(now_s, deadline_s, what)
            if poll.poll(1e3 * min(max(deadline_s - now_s, 0.0), _POLL_S)):
                chunk = os.read(self._answers_fd, 1 << 16)
                if not chunk:
                    raise self._death(what)
                self._buffer += chunk
            elif self._process.poll() is not None:
                # Dead without an end of file: a child of its holds the pipe.
                raise self._death(what)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _check(self, now_s: float, deadline_s: float, what: str) -> None:
        """Raise if there is no use in waiting longer."""
        if self._cancelled.is_set():
            raise WorkerCancelledError("the job was cancelled")
        if now_s >= deadline_s:
            together = _SHARED_DEADLINES.get(what, (what,))
            whose = f" for {' and '.join(together)} together" if len(together) > 1 else ""
            raise self._failed(
                FailureKind.TIMEOUT,
                f"{what} took longer than the {self._longest_s[together]:.3g} s asked{whose}",
            )
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + _POLL_S
            pids = guard.descendants(self._process.pid)
            if len(pids) > limits.MOST_PROCESSES:
                raise self._failed(
                    FailureKind.CRASHED,
                    f"the worker and what it started were {len(pids)} processes during {what}: "
                    f"the limit is {limits.MOST_PROCESSES}",
                )
            held_bytes = limits.resident_bytes(pids, over_bytes=self._memory_bytes)
            if held_bytes > self._memory_bytes:
                raise self._failed(
                    FailureKind.OUT_OF_MEMORY,
                    f"the worker and what it started held {held_bytes >> 20} MiB during {what}: "
                    f"the limit is {self._memory_bytes >> 20} MiB (--worker-memory-mb)",
                )

    def _death(self, what: str) -> WorkerFailedError:
        try:
            code = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            code, message = 0, f"the worker closed its pipe during {what}"
        else:
            message = f"the worker {_ending(code)} during {what}"
        self._end()
        if code == -signal.SIGKILL and limits.oom_kills() > self._oom_kills:
            kind = FailureKind.OUT_OF_MEMORY
            message += ", by the kernel, which had no memory left"
        elif code != 0 and limits.tells_of_memory(self._stderr_tail()):
            kind = FailureKind.OUT_OF_MEMORY
            message += (
                f" after it wrote of memory that it did not get (it may have up to "
                f"{self._memory_bytes >> 20} MiB: --worker-memory-mb)"
            )
        else:
            kind = FailureKind.CRASHED
        return self._failed(kind, message)

    def _failed(self, kind: FailureKind, message: str) -> WorkerFailedError:
        return WorkerFailedError(Failure(kind=kind, message=message, detail=self._stderr_tail()))

    def _stderr_tail(self) -> str:
        text = bytes(self._stderr).decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-20:])


def _pipe(undo: contextlib.ExitStack) -> tuple[int, int]:
    """Return the ends of a new pipe, to read and to write; `undo` closes both."""
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    return ends


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
