"""Hosts beside the test: processes, which may be killed, and threads, which start at once."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tests.device_agent.harness import WITHIN_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.host_run import HostRun
    from typing_extensions import Self

ROOT = Path(__file__).parents[2]


class HostProcess:
    """A host in a process of its own. Killed at the end of its `with`.

    Args:
        run: What it does.
        prefix: A command that runs the command after it.
    """

    def __init__(self, run: HostRun, *, prefix: Sequence[str] = ()) -> None:
        self._told: str | None = None
        self._process = subprocess.Popen(
            [
                *(*prefix, sys.executable, "-m", "tests.faults.host_run"),
                *(run.address, str(run.store), str(run.jobs), str(run.book)),
                *("--first", str(run.first), "--count", str(run.count)),
                *("--look-s", str(run.look_s), "--lease-s", str(run.lease_s)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def read_line(self) -> str:
        """Return the next line that it says; "" at its end."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def kill(self) -> None:
        """Kill it as a power cut would; harmless where it has ended."""
        self._process.kill()
        self.wait()

    def wait(self) -> tuple[int, str]:
        """Return its exit code and what it complained of."""
        if self._told is None:
            _, self._told = self._process.communicate(timeout=WITHIN_S)
        return self._process.returncode, self._told


class HostThread:
    """A host in this process.

    Args:
        run: What it does.
        step: Have it wait for `go_on` after its first network.
    """

    def __init__(self, run: HostRun, *, step: bool = False) -> None:
        self._run = run
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._going = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._measure, daemon=True)
        if not step:
            self._going.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self._thread.join(timeout=WITHIN_S)

    def read_line(self, *, within_s: float = WITHIN_S) -> str:
        """Return the next line that it says."""
        return self._lines.get(timeout=within_s)

    def go_on(self) -> None:
        """Let it measure what is left."""
        self._going.set()

    def wait(self) -> None:
        """Wait for its end, which must be a good one."""
        self._thread.join(timeout=2 * WITHIN_S)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    def _measure(self) -> None:
        try:
            self._run.measure(self._lines.put, lambda: self._going.wait(timeout=WITHIN_S))
        except BaseException as error:  # noqa: BLE001 - told by `wait`
            self._error = error
