"""`search --live`: a screen beside the run, in a process of its own that can do it no harm.

The run stays where it is. The screen has the terminal until the person leaves it, or the run
ends, or the screen breaks; in each case the terminal is the run's again, with plain lines.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING

from rich.console import Console

from boardfront.host.progress import LineProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from boardfront.host.progress import RunProgress
    from boardfront.host.run_folder import RunFolder

LEFT = 0
"""Exit code of a screen that the person left, or that the run's end closed."""

INTERRUPTED = 130
"""Exit code of a screen in which the person pressed Ctrl-C."""

_ENDS_WITHIN_S = 5.0
_KEPT_LINES = 20
_PLAIN = "\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?2004l\x1b[?1049l\x1b[?25h\x1b[0m\r\n"
"""Mouse and paste reports off, the ordinary screen, a cursor, no colours: what a screen that was
killed could not do any more."""


def has_terminal() -> bool:
    """Whether there is a terminal for a screen: keys come in, and what is drawn goes to stderr."""
    return sys.stdin.isatty() and sys.stderr.isatty()


class Screen:
    """The process of the screen.

    Args:
        command: Its command line, to which the number of a descriptor is added: at the end of
            that pipe it has to leave.
        log: Takes what this process writes to the terminal meanwhile, unasked.
        on_end: Told the exit code, on a thread of this object's.
    """

    def __init__(self, command: list[str], log: Path, on_end: Callable[[int], None]) -> None:
        self._on_end = on_end
        self._settings = termios.tcgetattr(sys.stdin.fileno())
        self._terminal = os.dup(sys.stderr.fileno())
        reader, self._writer = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [*command, str(reader)], stderr=self._terminal, pass_fds=(reader,)
            )
        finally:
            os.close(reader)
        self._quiet = _Quiet(log)
        self._thread = threading.Thread(target=self._wait, name="live screen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the screen away, and wait until the terminal is as it was."""
        self._hang_up()
        self._thread.join(timeout=_ENDS_WITHIN_S)
        if self._thread.is_alive():
            self._process.kill()
            self._thread.join(timeout=_ENDS_WITHIN_S)

    def _wait(self) -> None:
        code = self._process.wait()
        self._hang_up()
        if code not in {LEFT, INTERRUPTED}:
            self._restore()
        os.close(self._terminal)
        self._quiet.end()
        self._on_end(code)

    def _hang_up(self) -> None:
        writer, self._writer = self._writer, -1
        if writer >= 0:
            os.close(writer)

    def _restore(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, self._settings)
            os.write(self._terminal, _PLAIN.encode())


class _Quiet:
    """Lets what libraries write to the terminal go to a file, until `end`."""

    def __init__(self, log: Path) -> None:
        self._kept: list[tuple[int, int]] = []
        try:
            target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError:
            return
        for stream in (sys.stdout, sys.stderr):
            if stream.isatty():
                stream.flush()
                self._kept.append((stream.fileno(), os.dup(stream.fileno())))
                os.dup2(target, stream.fileno())
        os.close(target)

    def end(self) -> None:
        """Let it go to the terminal again."""
        for number, before in self._kept:
            os.dup2(before, number)
            os.close(before)
        self._kept = []


class LiveProgress:
    """A RunProgress that has a screen instead of lines, and lines once the screen is gone.

    Thread-safe.

    Args:
        folder: Of the run.
        interrupt: Interrupts the run; called from another thread when the person pressed Ctrl-C.
        command: Of the screen; None: the run's screen.
    """

    def __init__(
        self, folder: RunFolder, interrupt: Callable[[], None], *, command: Sequence[str] = ()
    ) -> None:
        self._folder = folder
        self._interrupt = interrupt
        self._lock = threading.RLock()
        self._lines: RunProgress | None = None
        self._said: list[str] = []
        self._phase: tuple[str, int, int] | None = None
        self._is_closing = False
        module = [sys.executable, "-m", "boardfront.host.live_screen", str(folder.path)]
        self._screen = Screen(list(command) or module, folder.log, self._ended)

    def phase(self, name: str, total: int, done: int = 0) -> None:
        """Begin a phase."""
        with self._lock:
            self._phase = name, total, done
            if self._lines is not None:
                self._lines.phase(name, total, done)

    def step(self, done: int, note: str) -> None:
        """Say how many steps are done, if there are lines."""
        with self._lock:
            if self._phase is not None:
                self._phase = (*self._phase[:2], done)
            if self._lines is not None:
                self._lines.step(done, note)

    def say(self, line: str) -> None:
        """Print a line, now or when the screen is gone."""
        with self._lock:
            if self._lines is None:
                self._said.append(line)
            else:
                self._lines.say(line)

    def close(self) -> None:
        """Take the screen away, if it is there, and print what was said last."""
        self._is_closing = True
        self._screen.close()
        with self._lock:
            if self._lines is not None:
                self._lines.close()

    def _ended(self, code: int) -> None:
        if code not in {LEFT, INTERRUPTED}:
            self.say(f"the screen broke ({_words(code)}): the run goes on without it")
        elif code == LEFT and not self._is_closing:
            self.say(f"the run goes on; look again: boardfront monitor {self._folder.path}")
        with self._lock:
            self._lines = LineProgress(Console(stderr=True))
            for line in self._said[-_KEPT_LINES:]:
                self._lines.say(line)
            if self._phase is not None:
                self._lines.phase(*self._phase)
        if code == INTERRUPTED and not self._is_closing:
            self._interrupt()


def interrupt_main() -> None:
    """Do what Ctrl-C does, from any thread."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _words(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
