"""A backend's own clock, watched, so that a broken one fails at once instead of for ever."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from boardfront.device_agent.backends.base import BackendError, RealClock
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from boardfront.device_agent.backends.base import Backend, Clock

_STANDS_STILL_READINGS = 1000
_STANDS_STILL_S = 1.0


class WatchedClock:
    """Passes on a clock's readings and refuses those that no clock gives.

    A reading that is not finite, that goes back, or that stays the same over 1000 readings and
    over one real second raises BackendError: waiting for such a clock would never end.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_s = -math.inf
        self._same = 0
        self._same_since_s = 0.0

    def now_s(self) -> float:
        """Return the clock's seconds."""
        now_s = self._clock.now_s()
        if not self._last_s < now_s < math.inf:
            self._judge(now_s)
        else:
            self._same = 0
        self._last_s = now_s
        return now_s

    def sleep(self, duration_s: float) -> None:
        """Let time pass."""
        self._clock.sleep(duration_s)

    def _judge(self, now_s: float) -> None:
        if not math.isfinite(now_s):
            raise BackendError(FailureKind.CRASHED, f"the backend's clock gave {now_s:g} s")
        if now_s < self._last_s:
            raise BackendError(
                FailureKind.CRASHED,
                f"the backend's clock went back from {self._last_s:g} s to {now_s:g} s",
            )
        self._same += 1
        if self._same == 1:
            self._same_since_s = time.monotonic()
        elif self._same >= _STANDS_STILL_READINGS:
            stood_s = time.monotonic() - self._same_since_s
            if stood_s >= _STANDS_STILL_S:
                raise BackendError(
                    FailureKind.CRASHED,
                    f"the backend's clock stands still at {now_s:g} s for {stood_s:.1f} s",
                )


def watch(backend: Backend) -> None:
    """Watch a backend's clock, unless it is the machine's own."""
    if isinstance(backend.clock, RealClock | WatchedClock):
        return
    try:
        backend.clock = WatchedClock(backend.clock)
    except AttributeError:
        # A clock that cannot be replaced: what it gives is checked by the agent all the same.
        return
