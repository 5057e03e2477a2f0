"""Obeying the requests that are laid into a run's `control/` folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable

    from boardfront.host.run_folder import RunFolder

_POLL_S = 0.5


class RunCancelledError(BoardfrontError):
    """Somebody asked the run to end."""


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
        paused = False
        while True:
            request = self._folder.requested()
            if request == "cancel":
                raise RunCancelledError(
                    f"the run was cancelled through {self._folder.control}: go on with "
                    f"boardfront search --resume {self._folder.path}"
                )
            if request == "pause":
                paused = True
                self._say(f"paused: touch {self._folder.control}/resume to go on")
            elif request == "resume":
                paused = False
                self._say("going on")
            elif not paused:
                return
            else:
                time.sleep(_POLL_S)
