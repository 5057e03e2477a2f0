"""A worker process: one subject, one backend, commands on a pipe.

Started by guard.py as `python -m boardfront.device_agent.worker COMMAND_FD ANSWER_FD GUARD_PID
MEMORY_LIMIT_BYTES`. It reads one JSON command a line and answers each by one JSON line on a pipe
of its own, because standard output belongs to the runtimes, which are noisy. `probe` and `ready`
need no subject.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from boardfront.device_agent import clock, guard, limits, timing
from boardfront.device_agent.backends import catalog
from boardfront.device_agent.backends.base import (
    BackendError,
    HasParts,
    RunsNativeCode,
    TimesItself,
    Tunable,
)
from boardfront.protos import records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.device_agent.backends.base import Backend


class _Subject:
    """The commands of one subject, in the order load, compile, warm_up, window..."""

    def __init__(self) -> None:
        self._backend: Backend | None = None

    def load(self, command: dict[str, Any]) -> dict[str, Any]:
        if command.get("cpus") and hasattr(os, "sched_setaffinity"):
            # Before a runtime starts threads: they inherit it.
            os.sched_setaffinity(0, command["cpus"])
        backend = catalog.load(command["backend"])(command["options"])
        self._backend = backend
        if isinstance(backend, Tunable) and command.get("state"):
            backend.state = Path(command["state"])
        if isinstance(backend, RunsNativeCode):
            backend.native_code = command.get("native_code", False)
        shapes = {name: tuple(shape) for name, shape in command["shapes"].items()}
        task = records.Task(
            kind=records.TaskKind(command["task"]["kind"]),
            batch=command["task"]["batch"],
            frozen_stages=command["task"]["frozen_stages"],
            cache=records.CacheState(command["task"]["cache"]),
        )
        return _timed(lambda: backend.load(Path(command["artifact"]), task, shapes))

    def tune(self, command: dict[str, Any]) -> dict[str, Any]:
        backend = self._ready()
        if not isinstance(backend, Tunable):
            kind = records.FailureKind.UNSUPPORTED
            raise BackendError(kind, "this backend has nothing to tune: ask for no tuning budget")
        found: list[float] = []
        budget_s, whole_space = command["budget_s"], command["whole_space"]
        answer = _timed(lambda: found.append(backend.tune(budget_s, whole_space=whole_space)))
        return {**answer, "tuned_fraction": found[0]}

    def compile(self, command: dict[str, Any]) -> dict[str, Any]:
        del command
        backend = self._ready()
        answer = _timed(backend.compile)
        if isinstance(backend, Tunable):
            answer["tuning"] = backend.tuning
            answer["tuned_fraction"] = backend.tuned_fraction
            answer["notes"] = backend.notes
        return answer

    def warm_up(self, command: dict[str, Any]) -> dict[str, Any]:
        backend = self._ready()
        result = timing.warm_up(
            _time_runs(backend), backend.clock, min_duration_s=command["min_duration_s"]
        )
        return {
            "runs_s": result.runs_s,
            "steady_s": result.steady_s,
            "settled": result.settled,
            "now_s": backend.clock.now_s(),
            **_usage(),
        }

    def window(self, command: dict[str, Any]) -> dict[str, Any]:
        backend = self._ready()
        plan = timing.WindowPlan(**command["plan"])
        start_s = backend.clock.now_s()
        samples_s = timing.take_window(_time_runs(backend), plan)
        return {
            "start_s": start_s,
            "end_s": backend.clock.now_s(),
            "samples_s": samples_s,
            **_usage(),
        }

    def pause(self, command: dict[str, Any]) -> dict[str, Any]:
        self._ready().clock.sleep(command["duration_s"])
        return _usage()

    def sample(self, command: dict[str, Any]) -> dict[str, Any]:
        backend = self._ready()
        taken = timing.take_sample(_time_runs(backend), backend.clock, command["loops"])
        return {
            "start_s": taken.start_s,
            "end_s": taken.end_s,
            "samples_s": (taken.sample_s,),
            **_usage(),
        }

    def parts(self, command: dict[str, Any]) -> dict[str, Any]:
        backend = self._ready()
        found = backend.timed_parts(command["runs"]) if isinstance(backend, HasParts) else {}
        return {"parts_s": found, **_usage()}

    def _ready(self) -> Backend:
        if self._backend is None:
            raise RuntimeError("a worker needs the command 'load' first")
        return self._backend


def main() -> None:
    """Answer commands until the pipe closes."""
    command_fd, answer_fd, guard_pid, memory_bytes = (int(text) for text in sys.argv[1:5])
    _die_with(guard_pid)
    limits.apply(memory_bytes)
    subject = _Subject()
    handlers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "probe": _probe,
        "ready": lambda _command: {},
        "load": lambda command: _load(subject, command),
        "tune": subject.tune,
        "compile": subject.compile,
        "warm_up": subject.warm_up,
        "window": subject.window,
        "parts": subject.parts,
        "pause": subject.pause,
        "sample": subject.sample,
    }
    with os.fdopen(command_fd) as commands, os.fdopen(answer_fd, "w") as answers:
        for line in commands:
            command = json.loads(line)
            _answer(answers, handlers[command["do"]], command)
    # Runtimes' own exit handlers hang or crash now and then; nothing is left to lose.
    os._exit(0)


def _answer(
    answers: IO[str],
    handler: Callable[[dict[str, Any]], dict[str, Any]],
    command: dict[str, Any],
) -> None:
    try:
        answer = handler(command)
    except BackendError as error:
        answer = {"failure": error.kind.value, "message": str(error)}
    except MemoryError as error:
        kind = records.FailureKind.OUT_OF_MEMORY
        answer = {"failure": kind.value, "message": _want_of_memory(error)}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _probe(command: dict[str, Any]) -> dict[str, Any]:
    del command
    # Here, because every other command is answered sooner without protobuf.
    from google.protobuf import json_format

    from boardfront.protos import codec

    found = []
    for name, place in catalog.places().items():
        try:
            info = catalog.load(name).probe()
        except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything
            info = records.BackendInfo(
                name=name, version="", available=False, reason=f"{place} cannot be probed: {error}"
            )
        found.append(json_format.MessageToDict(codec.to_message(info)))
    return {"backends": found}


def _time_runs(backend: Backend) -> timing.TimeRuns:
    """Return what times a backend's runs: its own way, e.g. by a GPU's events, or its clock."""
    if isinstance(backend, TimesItself):
        return backend.run_timed
    return timing.by_clock(backend.run, backend.clock)


def _timed(action: Callable[[], None]) -> dict[str, Any]:
    begin_s = time.perf_counter()
    action()
    return {"duration_s": time.perf_counter() - begin_s, **_usage()}


def _usage() -> dict[str, Any]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": own.ru_utime + own.ru_stime, "peak_rss_bytes": limits.peak_rss_bytes()}


def _load(subject: _Subject, command: dict[str, Any]) -> dict[str, Any]:
    answer = subject.load(command)
    # The backend is whole only now: some choose their clock by the artifact.
    clock.watch(subject._ready())  # noqa: SLF001 - of this module
    return answer


def _want_of_memory(error: MemoryError) -> str:
    limit_bytes = resource.getrlimit(resource.RLIMIT_DATA)[0]
    limit = "" if limit_bytes < 0 else f" (limit {limit_bytes >> 20} MiB: --worker-memory-mb)"
    return f"out of memory: {error}{limit}"


def _die_with(guard_pid: int) -> None:
    """Be killed when the guard dies, as it does with the agent, whatever this process is doing."""
    guard.prctl(guard.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard_pid:
        sys.exit(1)


def ready_command() -> dict[str, Any]:
    """Return the command that is answered as soon as the worker has started."""
    return {"do": "ready"}


def load_command(
    subject: records.Subject,
    task: records.Task,
    options: dict[str, str],
    artifact: Path,
    cpus: Sequence[int] = (),
    state: Path | None = None,
) -> dict[str, Any]:
    """Return the first command of a subject's worker.

    No `cpus` leaves it where it is; `state` is the folder where backends keep what they tuned.
    """
    return {
        "do": "load",
        "backend": subject.backend,
        "artifact": str(artifact),
        "options": options,
        "cpus": list(cpus),
        "state": None if state is None else str(state),
        "shapes": {name: list(shape) for name, shape in subject.input_shapes.items()},
        "task": {
            "kind": task.kind.value,
            "batch": task.batch,
            "frozen_stages": task.frozen_stages,
            "cache": task.cache.value,
        },
    }


def tune_command(budget_s: float, *, whole_space: bool = False) -> dict[str, Any]:
    """Return the command to search faster code, between load and compile."""
    return {"do": "tune", "budget_s": budget_s, "whole_space": whole_space}


def pause_command(duration_s: float) -> dict[str, Any]:
    """Return the command to let time pass on the backend's clock."""
    return {"do": "pause", "duration_s": duration_s}


def parts_command(runs: int) -> dict[str, Any]:
    """Return the command to time what a run consists of, over so many runs."""
    return {"do": "parts", "runs": runs}


def sample_command(loops: int) -> dict[str, Any]:
    """Return the command to take one sample of `loops` runs."""
    return {"do": "sample", "loops": loops}


def window_command(plan: timing.WindowPlan) -> dict[str, Any]:
    """Return the command to take one window."""
    return {"do": "window", "plan": dataclasses.asdict(plan)}


if __name__ == "__main__":
    main()
