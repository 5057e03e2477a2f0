"""A call that is repeated on a thread of its own and kept cheap."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)

_FIRST_WITHIN_S = 5.0
_LAST_WITHIN_S = 5.0
_LONGEST_PERIOD_S = 10.0


class Ticker:
    """Calls `action` at `start`, then every period, and once more at `stop`.

    The period grows while the calls would take more than `max_fraction` of a core. What the
    action raises ends the thread and makes it `failed`; it is logged and goes no further.

    Args:
        action: What to do; it runs on the ticker's thread only.
        period_s: Shortest time between two calls.
        cpus: Cores to stay on; empty: any.
        max_fraction: Share of one core that the calls may take.
    """

    def __init__(
        self,
        action: Callable[[], None],
        *,
        period_s: float,
        cpus: Sequence[int] = (),
        max_fraction: float = 0.004,
    ) -> None:
        self._action = action
        self._period_s = period_s
        self._cpus = tuple(cpus)
        self._max_fraction = max_fraction
        self._first_done = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)
        self._begin_s = self._end_s = 0.0
        self._between_s = 0.0
        self._failed = False

    @property
    def failed(self) -> bool:
        """Whether calls are missing: the action raised or hangs."""
        return self._failed

    @property
    def cpu_fraction(self) -> float:
        """Share of one core that the calls between the first and the last one took."""
        return self._between_s / max(self._end_s - self._begin_s, 1e-9)

    def start(self) -> None:
        """Begin, and wait for the first call."""
        self._thread.start()
        if not self._first_done.wait(_FIRST_WITHIN_S):
            self._failed = True

    def stop(self) -> None:
        """Make the last call and end; harmless when ended already or never begun."""
        self._stop.set()
        if self._thread.ident is None:
            return
        self._thread.join(_LAST_WITHIN_S)
        if self._thread.is_alive():
            self._failed = True

    def _run(self) -> None:
        try:
            self._settle()
            self._tick()
        except Exception:  # noqa: BLE001 - a sensor must not end the agent; `failed` tells
            self._failed = True
            _log.exception("telemetry failed")
        finally:
            self._first_done.set()

    def _settle(self) -> None:
        """Stay on the given cores, as far as this machine has them; 0 is this thread alone."""
        if self._cpus and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, self._cpus)

    def _tick(self) -> None:
        self._action()
        self._begin_s = time.monotonic()
        self._first_done.set()
        period_s, spent_s, calls = self._period_s, time.thread_time(), 0
        begun_s = spent_s
        while not self._stop.wait(period_s):
            self._action()
            calls += 1
            spent_s = time.thread_time()
            mean_s = (spent_s - begun_s) / calls
            wanted_s = max(self._period_s, mean_s / self._max_fraction)
            period_s = min(wanted_s, _LONGEST_PERIOD_S)
        self._end_s = time.monotonic()
        self._between_s = time.thread_time() - begun_s
        self._action()
