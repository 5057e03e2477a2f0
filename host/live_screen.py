"""The process of the screen beside a run: `python -m boardfront.host.live_screen FOLDER FD`.

It leaves when the pipe FD is at its end: the run is over, or its process is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.host.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

_NICE = 5
"""The run goes before whoever looks at it."""


def main(arguments: Sequence[str]) -> int:
    """Show the run until the person leaves or the pipe ends; return the exit code."""
    from boardfront.host.tui.app import MonitorApp

    folder, descriptor = RunFolder(Path(arguments[0])), int(arguments[1])
    # Ctrl-C is a key here; a signal is for the run, which then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    app = MonitorApp(folder, is_live=True)

    def leave() -> None:
        with contextlib.suppress(OSError):
            while os.read(descriptor, 1):
                pass
        with contextlib.suppress(RuntimeError):  # it has left already
            app.call_from_thread(app.exit)

    app.call_later(threading.Thread(target=leave, name="pipe", daemon=True).start)
    app.run()
    return app.return_code or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
