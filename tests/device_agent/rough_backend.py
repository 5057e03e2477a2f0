"""A third party's backend, found by its entry point, that does what bad runtimes do.

`harness.install_rough` copies this file into a folder as an installed distribution.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.device_agent.backends.base import Clock, RealClock, parse_options
from boardfront.protos.records import BackendInfo, OptionInfo, TaskKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boardfront.protos.records import Task

_ESCAPED = "import os, time; os.fork() and os._exit(0); os.setsid(); "
"""Twice forked and in a session of its own, as daemons are."""


def _hang() -> None:
    time.sleep(600)


def _start_child() -> None:
    # The child inherits every pipe of the worker, as a runtime's compiler does.
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
    sys.stderr.write("a child was started\n")
    sys.stderr.flush()


def _start_escaped(log: str) -> None:
    """Start a child that no process group holds, and wait until it wrote down its id."""
    note = f"open({log!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", _ESCAPED + note], close_fds=False)
    while not Path(log).exists() or not Path(log).read_text().endswith("\n"):
        time.sleep(0.01)


def _raise() -> None:
    raise RuntimeError("a runtime's own complaint")


def _close_pipes() -> None:
    os.closerange(3, 64)
    _hang()


def _gorge() -> None:
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1 << 20)) * 16)


def _gorge_shared() -> None:
    # Shared memory is no data of the process: no resource limit of it counts here.
    kept = []
    while True:
        kept.append(mmap.mmap(-1, 16 << 20))
        kept[-1].write(b"\xff" * (16 << 20))


def _gorge_in_children() -> None:
    code = _ESCAPED + "kept = b'x' * (120 << 20); time.sleep(600)"
    for _ in range(8):
        subprocess.Popen([sys.executable, "-c", code])
    _hang()


def _bad_alloc() -> None:
    sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
    sys.stderr.flush()
    os.abort()


def _scribble() -> None:
    """Write binary noise wherever it can be written, the answers' pipe included."""
    for descriptor in range(1, 64):
        with contextlib.suppress(OSError):
            os.write(descriptor, bytes(range(256)) * 16)
    _hang()


def _babble() -> None:
    """Write to the answers' pipe for ever, and never end a line."""
    answers = int(sys.argv[2])
    while True:
        os.write(answers, b"0" * (1 << 16))


def _answer_nonsense() -> None:
    os.write(int(sys.argv[2]), b'{"failure": "tired", "message": 7}\n')
    _hang()


def _die_of(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    _hang()


def _end_guard(number: signal.Signals) -> None:
    os.kill(os.getppid(), number)
    _hang()


def _hang_with_child() -> None:
    _start_child()
    _hang()


def _crash_with_child() -> None:
    _start_child()
    os.abort()


def _swell() -> None:
    bytearray(1 << 62)


def _do_nothing() -> None:
    pass


_PLAIN: dict[str, Callable[[], None]] = {
    "nothing": _do_nothing,
    "drift": _do_nothing,
    "noisy": _do_nothing,
    "crash-in-parts": _do_nothing,
    "hang-with-child": _hang_with_child,
    "crash-with-child": _crash_with_child,
    "swell": _swell,
    "raise": _raise,
    "no-answer": _close_pipes,
    "gorge": _gorge,
    "gorge-shared": _gorge_shared,
    "gorge-in-children": _gorge_in_children,
    "bad-alloc": _bad_alloc,
    "scribble": _scribble,
    "babble": _babble,
    "nonsense": _answer_nonsense,
    "kill": lambda: _die_of(signal.SIGKILL),
}
_ESCAPING: dict[str, Callable[[], None]] = {
    "escape-and-work": _do_nothing,
    "escape-and-leave": lambda: os._exit(0),
    "escape-and-hang": _hang,
    "escape-and-kill-guard": lambda: _end_guard(signal.SIGKILL),
    "escape-and-kill-group": lambda: os.killpg(0, signal.SIGKILL),
}
_DEEDS = (*_PLAIN, *_ESCAPING)

_INFO = BackendInfo(
    name="rough",
    version="0.9",
    available=True,
    tasks=(TaskKind.INFERENCE, TaskKind.TRAINING_STEP),
    options=(
        OptionInfo(
            name="do", default="nothing", allowed=" | ".join(_DEEDS), description="what it does"
        ),
        OptionInfo(
            name="log", default="", allowed="a path", description="where it notes its runs"
        ),
    ),
)


class RoughBackend:
    """Misbehaves while it compiles, or notes when it runs."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self.clock: Clock = RealClock()
        self._options = dict(options)
        self._first_s: float | None = None

    @classmethod
    def probe(cls) -> BackendInfo:
        """Describe it."""
        return _INFO

    @classmethod
    def resolve(cls, options: Mapping[str, str], info: BackendInfo) -> dict[str, str]:
        """Complete and check options."""
        return parse_options(options, info, {"do": _DEEDS.__contains__})

    def load(self, artifact: Path, task: Task, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Read nothing."""

    def compile(self) -> None:
        """Misbehave."""
        deed = self._options["do"]
        if deed in _ESCAPING:
            _start_escaped(self._options["log"])
            _ESCAPING[deed]()
        else:
            _PLAIN[deed]()

    def run(self) -> None:
        """Take 2 ms, or a fifth more each second, and note when."""
        begin_s = time.perf_counter()
        self._first_s = self._first_s or begin_s
        age_s = begin_s - self._first_s if self._options["do"] == "drift" else 0.0
        time.sleep(0.002 * (1 + age_s / 5))
        if self._options["do"] == "noisy":
            for descriptor in (1, 2):
                os.write(descriptor, bytes(range(256)) * 64)
        if self._options["log"] and self._options["do"] == "nothing":
            with Path(self._options["log"]).open("a") as file:
                file.write(f"{os.getpid()} {begin_s!r} {time.perf_counter()!r}\n")

    def timed_parts(self, runs: int) -> dict[str, float]:
        """Take a step apart, and perhaps itself."""
        del runs
        if self._options["do"] == "crash-in-parts":
            os.abort()
        return {"all": 0.002}
