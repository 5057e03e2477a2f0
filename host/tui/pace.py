"""What a screen takes of the machine, which may be one that measures: little, and after others."""

from __future__ import annotations

import contextlib
import os
import time

EVERY_S = 1.0
"""Between two looks, at least."""

_AT_MOST_S = 10.0
_SHARE = 0.01
"""Of one core, that looking may take: where drawing takes longer, it is done less often."""

_NICE = 19


def give_way() -> None:
    """Let everything else on this machine go first; for a process that only shows something.

    Threads that were started before do not give way.
    """
    with contextlib.suppress(OSError):
        os.nice(_NICE)


class Pace:
    """Says how long to wait until the next look: the longer, the more the last one took."""

    def __init__(self) -> None:
        self._busy_s = time.process_time()

    def wait_s(self) -> float:
        """Return the seconds until the next look; asked once after each."""
        busy_s = time.process_time()
        used_s, self._busy_s = busy_s - self._busy_s, busy_s
        return min(_AT_MOST_S, max(EVERY_S, used_s / _SHARE))
