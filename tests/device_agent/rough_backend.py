"""A third party's backend, found by its entry point, that does what bad runtimes do.

`harness.install_rough` copies this file into a folder as an installed distribution.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.device_agent.backends.base import Clock, RealClock, parse_options
from boardfront.protos.records import BackendInfo, OptionInfo, TaskKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.protos.records import Task

_DEEDS = ("nothing", "hang-with-child", "crash-with-child", "swell", "raise", "no-answer", "drift")

_INFO = BackendInfo(
    name="rough",
    version="0.9",
    available=True,
    tasks=(TaskKind.INFERENCE,),
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
        if deed.endswith("with-child"):
            # The child inherits every pipe of the worker, as a runtime's compiler does.
            subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False
            )
            sys.stderr.write("a child was started\n")
            sys.stderr.flush()
        if deed == "hang-with-child":
            time.sleep(600)
        if deed == "crash-with-child":
            os.abort()
        if deed == "swell":
            bytearray(1 << 62)
        if deed == "raise":
            raise RuntimeError("a runtime's own complaint")
        if deed == "no-answer":
            os.closerange(3, 64)
            time.sleep(600)

    def run(self) -> None:
        """Take 2 ms, or a fifth more each second, and note when."""
        begin_s = time.perf_counter()
        self._first_s = self._first_s or begin_s
        age_s = begin_s - self._first_s if self._options["do"] == "drift" else 0.0
        time.sleep(0.002 * (1 + age_s / 5))
        if self._options["log"]:
            with Path(self._options["log"]).open("a") as file:
                file.write(f"{os.getpid()} {begin_s!r} {time.perf_counter()!r}\n")
