"""Workers that were started before their job, so that a queue's jobs follow close on each other.

A worker's start takes a fifth of a second and more of processor time. It is done while the job
before is loading and compiling, and is over before anything of that job is timed: from then on
the spare sleeps, waiting for its first command, until its own job begins. It is as fresh as any
worker: nobody has asked it for anything.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from boardfront.device_agent import worker
from boardfront.device_agent.process import (
    WorkerCancelledError,
    WorkerFailedError,
    WorkerProcess,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

_log = logging.getLogger(__name__)

_READY_WITHIN_S = 10.0
_MOST = 8


class SpareWorkers:
    """Starts workers for the next job, and hands them out. Used from one thread.

    Args:
        wanted: How many workers the next job will need; 0: none waits, so none is started.
    """

    def __init__(self, wanted: Callable[[], int] = lambda: 0) -> None:
        self._wanted = wanted
        self._idle: list[WorkerProcess] = []
        self._starting: list[WorkerProcess] = []

    def take(self, cancelled: threading.Event) -> WorkerProcess:
        """Return a worker that nobody has asked for anything, a spare one if there is one.

        Args:
            cancelled: Of the job that gets it.
        """
        while self._idle:
            spare = self._idle.pop()
            if spare.is_alive:
                spare.belong_to(cancelled)
                return spare
            spare.close()
        return WorkerProcess(cancelled)

    def start(self) -> None:
        """Begin to start what the next job will need; `settle` has to come before any timing."""
        missing = min(self._wanted(), _MOST) - len(self._idle) - len(self._starting)
        try:
            for _ in range(missing):
                self._starting.append(WorkerProcess())
        except OSError as error:
            # The job of now needs none of them, and the next one tries for itself.
            _log.warning("a spare worker cannot be started: %s", error)

    def settle(self) -> None:
        """Wait until the spares have started and sleep."""
        while self._starting:
            spare = self._starting.pop()
            try:
                spare.ask(worker.ready_command(), within_s=_READY_WITHIN_S, what="start")
            except (WorkerFailedError, WorkerCancelledError) as error:
                _log.warning("a spare worker did not start: %s", error)
                spare.close()
            else:
                self._idle.append(spare)

    def end_unwanted(self) -> None:
        """End the spares if no job waits for them."""
        if self._wanted() == 0:
            self.close()

    def close(self) -> None:
        """End all spares."""
        for spare in (*self._idle, *self._starting):
            spare.close()
        self._idle, self._starting = [], []
