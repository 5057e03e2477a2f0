"""A terminal for a process: what it writes is read, and keys are pressed."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from typing import TYPE_CHECKING

from tests.device_agent.harness import until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from typing_extensions import Self

ROWS, COLUMNS = 24, 80
_CODES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|P[^\x1b]*\x1b\\|[@-Z\\-_])")


class InTerminal:
    """A process that has a terminal of 80x24. Killed at the end of its `with`.

    Args:
        command: Its command line.
        cwd: Where it runs.
        environment: More variables.
        stdout: Where its results go; None: the terminal too.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        stdout: int | None = None,
    ) -> None:
        self._keyboard, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm-256color", **(environment or {})},
            stdin=terminal,
            stdout=terminal if stdout is None else stdout,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        self._written = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(timeout=10)
        os.close(self._keyboard)

    @property
    def raw(self) -> str:
        """All that was written, codes included."""
        return self._written.decode(errors="replace")

    @property
    def text(self) -> str:
        """All that was written, without codes."""
        return _CODES.sub("", self.raw)

    def has_screen(self) -> bool:
        """Return whether what is written now goes to the other screen, that of whole pictures."""
        return self.raw.rfind("\x1b[?1049h") > self.raw.rfind("\x1b[?1049l")

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._keyboard, keys.encode())

    def until_written(self, text: str, within_s: float = 60.0) -> None:
        """Wait for words."""
        until(lambda: text in self.text, within_s=within_s)

    def wait(self, within_s: float) -> int:
        """Return the exit code once all was read."""
        code = self.process.wait(timeout=within_s)
        self._reader.join(timeout=10)
        return code

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._keyboard, 1 << 16)
            except OSError:
                return
            if not data:
                return
            self._written += data
