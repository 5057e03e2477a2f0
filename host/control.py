"""Obeying the requests that are laid into a run's `control/` folder."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

from boardfront.host.journal import lock_path
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

    from boardfront.host.fleet.under_way import JobsUnderWay
    from boardfront.host.run_folder import RunFolder

_POLL_S = 0.5
_SIGN_EVERY_S = 60.0


class RunCancelledError(BoardfrontError):
    """Somebody asked the run to end."""


def pause_mark(folder: RunFolder) -> Path:
    """Return the file that stands in a run's folder while the run waits, for who looks on.

    A killed run leaves it over: it means something only where the run is written.
    """
    return folder.path / "paused"


class RunControl:
    """Pauses, goes on or ends between two candidates, as asked."""

    def __init__(self, folder: RunFolder, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say

    def obey(self) -> None:
        """Take the requests that lie there; return when the run may go on.

        Raises:
            RunCancelledError: If it shall end.
        """
        try:
            self._obey()
        finally:
            with contextlib.suppress(OSError):
                pause_mark(self._folder).unlink(missing_ok=True)

    def _obey(self) -> None:
        paused = False
        while True:
            request = self._folder.requested()
            if request == "cancel":
                raise RunCancelledError(f"the run was cancelled through {self._folder.control}")
            if request == "pause":
                paused = True
                with contextlib.suppress(OSError):
                    pause_mark(self._folder).touch()
                self._say(f"paused: touch {self._folder.control}/resume to go on")
            elif request == "resume":
                paused = False
                self._say("going on")
            elif not paused:
                return
            else:
                time.sleep(_POLL_S)


def _give_sign(folder: RunFolder) -> None:
    """Renew the time of the run's lock file: who looks on from elsewhere does not see the lock."""
    with contextlib.suppress(OSError):
        os.utime(lock_path(folder.journal))


class JobCanceller:
    """Ends jobs of a run as asked, on a thread of its own: who waits for a job cannot look.

    Used as a context; costs a look into the control folder twice a second. Once a minute it
    gives a sign that the run lives, also where that waits, trains or measures for hours.

    Args:
        folder: Of the run.
        under_way: Its jobs.
        say: Told what becomes of a request, on this object's thread.
    """

    def __init__(
        self, folder: RunFolder, under_way: JobsUnderWay, say: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._under_way = under_way
        self._say = say
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cancel jobs", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10 * _POLL_S)

    def _watch(self) -> None:
        signed_s = float("-inf")
        while not self._stop.wait(_POLL_S):
            if time.monotonic() - signed_s >= _SIGN_EVERY_S:
                _give_sign(self._folder)
                signed_s = time.monotonic()
            # A request that cannot be taken away is looked at again.
            with contextlib.suppress(OSError):
                wanted = self._folder.job_requested()
                if wanted is not None:
                    self._say(self._under_way.cancel(wanted))
            self._under_way.end_unwanted()
