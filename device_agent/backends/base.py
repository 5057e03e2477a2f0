"""What a backend guarantees, and how it says that it cannot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from boardfront.protos.records import BackendInfo, Task


class BackendError(BoardfrontError):
    """A backend cannot load, compile or run a network, and knows why."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        self.kind = kind
        super().__init__(message)


class Clock(Protocol):
    """What samples are timed by."""

    def now_s(self) -> float:
        """Return seconds on a clock that never goes back."""

    def sleep(self, duration_s: float) -> None:
        """Let `duration_s` pass."""


class RealClock:
    """The machine's monotonic clock of highest resolution."""

    def now_s(self) -> float:
        """Return seconds since an arbitrary moment."""
        return time.perf_counter()

    def sleep(self, duration_s: float) -> None:
        """Sleep."""
        time.sleep(duration_s)


class Backend(Protocol):
    """Executes one network in a worker process of its own.

    Guarantees: the methods are called in the order load, compile, run..., from one thread; the
    runtime is imported by `load` or later, never at import of the module. An implementation may
    block, crash or fill the memory: the worker is killed from outside. `run` is the timed region
    and nothing else: one step of the task on inputs that already lie on the device.
    """

    clock: Clock

    def load(self, artifact: Path, task: Task, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Read and check the artifact. `shapes` fix its dynamic inputs.

        Raises:
            BackendError: `invalid_artifact` or `unsupported`.
        """

    def compile(self) -> None:
        """Make the network ready to run.

        Raises:
            BackendError: `unsupported` or `out_of_memory`.
        """

    def run(self) -> None:
        """Execute the task once, and return when the device has finished."""


@runtime_checkable
class TimesItself(Protocol):
    """A backend that times runs better than two readings of a clock do, e.g. by a GPU's events."""

    def run_timed(self, loops: int) -> float:
        """Return the seconds that the device took for `loops` runs, one after the other."""
        ...


@runtime_checkable
class HasParts(Protocol):
    """A backend that can tell what a run consists of."""

    def timed_parts(self, runs: int) -> dict[str, float]:
        """Return median seconds by part over `runs` further runs; empty where there are none."""
        ...


@runtime_checkable
class RunsNativeCode(Protocol):
    """A backend that can run artifacts of machine code.

    Attributes:
        native_code: Whether it may; set before `load`, by whoever started the agent.
    """

    native_code: bool


@runtime_checkable
class Tunable(Protocol):
    """A backend that searches faster code, and keeps what it found.

    Attributes:
        state: The agent's folder for it; set before `load`. None: nothing is tuned or kept.
        tuning: After `compile`: names what was found for this network, or says "untuned".
        tuned_fraction: After `compile`: the share of the network's fused tasks that is tuned.
        notes: After `compile`: what a reader of the times should know.
    """

    state: Path | None
    tuning: str
    tuned_fraction: float | None
    notes: tuple[str, ...]

    def tune(self, budget_s: float, *, whole_space: bool = False) -> float:
        """Search for `budget_s` after `load`; return the share that is tuned then.

        What was found stays if the worker is killed. `whole_space` asks for the tasks of all the
        networks that were loaded with this `state`, most frequent first, not for this network's.

        Raises:
            BackendError: `unsupported`.
        """
        ...


class BackendClass(Protocol):
    """How a backend is probed and made; what the catalogue's classes offer."""

    def __call__(self, options: Mapping[str, str]) -> Backend:
        """Make a backend from its full options, each a value that `probe` allows."""

    def probe(self) -> BackendInfo:
        """Say what this backend can do here. May import the runtime: only workers call it."""

    def resolve(self, options: Mapping[str, str], info: BackendInfo) -> dict[str, str]:
        """Return `options` checked and completed by defaults. Imports no runtime.

        Raises:
            BackendError: `unsupported`, naming the option, what came and what is allowed.
        """


def parse_options(
    options: Mapping[str, str], info: BackendInfo, checks: Mapping[str, Callable[[str], bool]]
) -> dict[str, str]:
    """Return `options` completed by the defaults of `info`.

    Raises:
        BackendError: `unsupported`, naming the option, what came and what is allowed.
    """
    known = {option.name: option for option in info.options}
    resolved = {name: option.default for name, option in known.items()}
    for name, value in options.items():
        if name not in known:
            raise BackendError(
                FailureKind.UNSUPPORTED,
                f"backend {info.name} has no option {name!r}: expected one of {sorted(known)}",
            )
        if name in checks and not checks[name](value):
            raise BackendError(
                FailureKind.UNSUPPORTED,
                f"option {name}={value!r} of backend {info.name}: expected {known[name].allowed}",
            )
        resolved[name] = value
    return resolved
