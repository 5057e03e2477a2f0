"""A backend over programmed times and faults: the same server, worker and clockwork, no runtime.

The artifact is either a JSON object of the options below (they win over the job's options), or an
ONNX file, whose programmed time follows its structure: 50 us + 1 us a node + 1 ns a weight.
Its times are of origin `programmed` and are never mixed with measured ones.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import random
import sys
import time
import zlib
from typing import TYPE_CHECKING, Any

from boardfront.device_agent.backends.base import BackendError, Clock, RealClock, parse_options
from boardfront.protos.records import BackendInfo, FailureKind, OptionInfo, Origin, TaskKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boardfront.protos.records import Task

_FAULTS = (
    "none",
    "invalid-artifact",
    "unsupported",
    "out-of-memory",
    "hang-load",
    "hang-compile",
    "hang-run",
    "crash-load",
    "crash-run",
    "exit-without-result",
    "device-lost",
    "noise",
    "nan-times",
    "infinite-times",
    "clock-goes-back",
    "clock-stands-still",
)

INFO = BackendInfo(
    name="fake",
    version="1",
    available=True,
    origin=Origin.PROGRAMMED,
    tasks=tuple(TaskKind),
    options=(
        OptionInfo(
            name="time_s",
            default="",
            allowed="a positive number, or LOW-HIGH",
            description="one run; of two numbers one between them, by the artifact",
        ),
        OptionInfo(
            name="noise",
            default="0.001",
            allowed="a number from 0 to 1",
            description="relative standard deviation of a run",
        ),
        OptionInfo(
            name="compile_s",
            default="0",
            allowed="a number >= 0, or LOW-HIGH",
            description="time to compile; of two numbers one between them, by the artifact",
        ),
        OptionInfo(
            name="sleep",
            default="off",
            allowed="on | off | along",
            description="let programmed times really pass; on: and read the machine's clock, "
            "along: read the programmed times all the same",
        ),
        OptionInfo(
            name="fault",
            default="none",
            allowed=" | ".join(_FAULTS),
            description="what goes wrong",
        ),
    ),
)


class VirtualClock:
    """A clock that passes only when told to."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        """Return the seconds that were let pass."""
        return self._now_s

    def sleep(self, duration_s: float) -> None:
        """Let time pass, at once."""
        self._now_s += duration_s


class LongClock:
    """A virtual clock that really takes the time that it lets pass.

    Its readings are as exact as a virtual clock's, whatever else the machine does; what it slept
    too long is made up for by the next sleep.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._began_s = time.monotonic()

    def now_s(self) -> float:
        """Return the seconds that were let pass."""
        return self._now_s

    def sleep(self, duration_s: float) -> None:
        """Let time pass, here and on the machine."""
        behind_s = time.monotonic() - self._began_s - self._now_s
        if behind_s > _FALLS_BEHIND_S:
            # Nobody slept here meanwhile: the time between two commands is not made up for.
            self._began_s += behind_s
        self._now_s += duration_s
        left_s = self._began_s + self._now_s - time.monotonic()
        if left_s > _SHORTEST_SLEEP_S:
            time.sleep(left_s)


_SHORTEST_SLEEP_S = 0.002
_FALLS_BEHIND_S = 0.005

_CLOCK_FAULTS = {
    "nan-times": math.nan,
    "infinite-times": math.inf,
    "clock-goes-back": -1.0,
    "clock-stands-still": 0.0,
}
"""What a second of a broken clock is."""


class BrokenClock:
    """A clock as no clock is, whose seconds are `second` long."""

    def __init__(self, second: float) -> None:
        self._second = second
        self._now_s = 0.0

    def now_s(self) -> float:
        """Return what it shows."""
        return self._now_s

    def sleep(self, duration_s: float) -> None:
        """Let time pass, or whatever this is."""
        if duration_s > 0:
            self._now_s += self._second * duration_s


_CLOCKS: dict[str, type[VirtualClock | LongClock | RealClock]] = {
    "off": VirtualClock,
    "on": RealClock,
    "along": LongClock,
}


class FakeBackend:
    """Takes the programmed time for a run, or fails as programmed."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = dict(options)
        self.clock: Clock = _CLOCKS[options["sleep"]]()
        self._random = random.Random(0)  # noqa: S311 - noise, not secrets
        self._time_s = 0.0
        self._share = 0.0

    @classmethod
    def probe(cls) -> BackendInfo:
        """Describe the fake: it is always there."""
        return INFO

    @classmethod
    def resolve(cls, options: Mapping[str, str], info: BackendInfo) -> dict[str, str]:
        """Complete and check options."""
        return parse_options(
            options,
            info,
            {
                "time_s": lambda text: (_span(text) or (0.0, 0.0))[0] > 0,
                "noise": lambda text: 0 <= _number(text) <= 1,
                "compile_s": lambda text: _span(text) is not None,
                "sleep": _CLOCKS.__contains__,
                "fault": _FAULTS.__contains__,
            },
        )

    def load(self, artifact: Path, task: Task, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Read the programme."""
        del task, shapes
        self._read_programme(artifact)
        self._fail_at("load")
        if self._options["fault"] == "noise":
            sys.stdout.buffer.write(bytes(range(256)) * 4096)
            sys.stdout.flush()
            sys.stderr.buffer.write(bytes(range(256)) * 4096)
            sys.stderr.flush()

    def compile(self) -> None:
        """Take the programmed compile time."""
        self._fail_at("compile")
        self.clock.sleep(self._between(self._options["compile_s"]))

    def run(self) -> None:
        """Take the programmed time once."""
        self._fail_at("run")
        noise = self._random.gauss(0.0, 1.0) * float(self._options["noise"])
        self.clock.sleep(self._time_s * max(0.1, 1.0 + noise))

    def _read_programme(self, artifact: Path) -> None:
        content = artifact.read_bytes()
        self._share = zlib.crc32(content) / 0xFFFFFFFF
        if content[:1] == b"{":
            programme = _parse(content)
            self._options = self.resolve(
                {**self._options, **{key: str(value) for key, value in programme.items()}}, INFO
            )
            self.clock = _CLOCKS[self._options["sleep"]]()
        if self._options["fault"] in _CLOCK_FAULTS:
            self.clock = BrokenClock(_CLOCK_FAULTS[self._options["fault"]])
        given = self._options["time_s"]
        self._time_s = self._between(given) if given else _structural_time_s(content)

    def _between(self, text: str) -> float:
        low, high = _span(text) or (0.0, 0.0)
        return low + (high - low) * self._share

    def _fail_at(self, phase: str) -> None:
        fault = self._options["fault"]
        if fault == f"hang-{phase}":
            time.sleep(3600.0)
        if fault == f"crash-{phase}":
            sys.stderr.write("about to read address 0\n")
            sys.stderr.flush()
            ctypes.string_at(0)
        if phase == "load" and fault == "exit-without-result":
            os._exit(0)
        if phase == "load" and fault in _TYPED:
            raise BackendError(_TYPED[fault], f"programmed fault: {fault}")


_TYPED = {
    "invalid-artifact": FailureKind.INVALID_ARTIFACT,
    "unsupported": FailureKind.UNSUPPORTED,
    "out-of-memory": FailureKind.OUT_OF_MEMORY,
    "device-lost": FailureKind.DEVICE_LOST,
}


def _parse(content: bytes) -> dict[str, Any]:
    try:
        programme: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise BackendError(FailureKind.INVALID_ARTIFACT, f"not a programme: {error}") from error
    return programme


def _structural_time_s(content: bytes) -> float:
    try:
        import onnx
    except ImportError as error:
        raise BackendError(
            FailureKind.UNSUPPORTED, "the fake backend needs the package onnx to read ONNX files"
        ) from error
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise BackendError(FailureKind.INVALID_ARTIFACT, f"not an ONNX model: {error}") from error
    if not model.graph.node:
        raise BackendError(FailureKind.INVALID_ARTIFACT, "not an ONNX model: no nodes")
    weights = 0
    for tensor in model.graph.initializer:
        elements = 1
        for dimension in tensor.dims:
            elements *= dimension
        weights += elements
    return 5e-5 + 1e-6 * len(model.graph.node) + 1e-9 * weights


def _span(text: str) -> tuple[float, float] | None:
    """Return the two ends of `LOW-HIGH`, or a number twice; None where it is neither."""
    low, dash, high = text.partition("-")
    low_s, high_s = _number(low), _number(high if dash else low)
    return (low_s, high_s) if 0 <= low_s <= high_s else None


def _number(text: str) -> float:
    """Return a finite number, or NaN, which passes no check."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
