"""One subject while its job runs: a worker, the deadlines left to it, what was sampled so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from boardfront.device_agent import timing, worker
from boardfront.device_agent.energy import per_run
from boardfront.device_agent.process import WorkerProcess
from boardfront.protos.records import TaskKind, Window

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from boardfront.device_agent.energy import EnergyMeter
    from boardfront.protos.records import Energy, Job, Origin, Subject, Target

_MIN_WARM_UP_S = 0.2
_GRACE_S = 2.0
_LAST_ROUND_S = 400.0
_PARTS_SHARE = 0.1
_MIN_PARTS_RUNS = 3
_MAX_PARTS_RUNS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What the server found out about a subject before the job ran.

    `state` is the folder where its backend keeps what outlives a job, e.g. tuned schedules;
    `native_code` says whether an artifact that is a compiled library may be run.
    """

    subject: Subject
    target: Target
    origin: Origin
    artifact: Path
    state: Path | None = None
    native_code: bool = False


class Session:
    """Asks one worker, in the order load, compile, warm_up, then windows or samples.

    Only the subject's own time counts against its deadlines: while another subject of the job is
    sampled this one's worker sleeps.

    Args:
        job: Whose deadlines and precision hold.
        prepared: What to run.
        cancelled: When set, every call raises WorkerCancelledError within half a second.
        cpus: Cores that the worker keeps to; empty leaves it where it is.
        process: A fresh worker of the job; None: one is started.

    All calls raise WorkerFailedError when the worker fails, dies or runs out of time.
    """

    def __init__(
        self,
        job: Job,
        prepared: Prepared,
        cancelled: threading.Event,
        cpus: tuple[int, ...] = (),
        process: WorkerProcess | None = None,
    ) -> None:
        self.prepared = prepared
        self.target = prepared.target
        self.tuned_fraction: float | None = None
        self.load_s = 0.0
        self.compile_s = 0.0
        self.run_s = 0.0
        self.warm_up_s: tuple[float, ...] = ()
        self.steady_s = 0.0
        self.parts_s: dict[str, float] = {}
        self.windows: list[Window] = []
        self.elapsed_s = 0.0
        self.peak_rss_bytes: int | None = None
        self.run_left_s = job.deadlines.run_s
        self._job = job
        self._cpus = cpus
        self._compile_left_s = job.deadlines.compile_s
        self._energy: list[tuple[float | None, int]] = []
        self._energy_source = ""
        self._origin_s: float | None = None
        self._warmed_up_s = 0.0
        self._cpu_before_s = 0.0
        self._cpu_s = 0.0
        self._cancelled = cancelled
        self._worker = process or WorkerProcess(cancelled)

    @property
    def subject_id(self) -> str:
        """Of the subject."""
        return self.prepared.subject.subject_id

    @property
    def sampling_s(self) -> float:
        """Own device time since the warm-up ended, in seconds."""
        return self.run_s - self._warmed_up_s

    @property
    def sampling_cpu_s(self) -> float:
        """Processor time of the worker since its warm-up ended, in seconds."""
        return self._cpu_s - self._cpu_before_s

    def close(self) -> None:
        """Kill the worker. May be called again."""
        self._worker.close()

    def load(self) -> None:
        """Have the worker read and check the artifact."""
        begin_s = time.monotonic()
        answer = self._worker.ask(
            self._load_command(self._cpus), within_s=self._compile_left_s, what="load"
        )
        self._compile_left_s -= time.monotonic() - begin_s
        self.load_s = answer["duration_s"]

    @property
    def tuning_budget_s(self) -> float:
        """How long to search for faster code before compiling; 0: not at all."""
        return self.prepared.subject.tuning_budget_s

    def tune(self) -> None:
        """Have the backend search for faster code; it has the budget beside the deadlines.

        In a worker of its own, on all cores: tuning leaves memory and threads behind.
        """
        compile_s = self._job.deadlines.compile_s
        with WorkerProcess(self._cancelled) as tuner:
            tuner.ask(self._load_command(()), within_s=compile_s, what="load")
            tuner.ask(
                worker.tune_command(self.tuning_budget_s),
                within_s=self.tuning_budget_s + compile_s + _LAST_ROUND_S,
                what="tuning",
            )

    def compile(self) -> None:
        """Have the worker make the network ready to run."""
        answer = self._worker.ask(
            {"do": "compile"}, within_s=max(0.0, self._compile_left_s), what="compile"
        )
        self.compile_s = answer["duration_s"]
        self.target = replace(
            self.prepared.target, tuning=answer.get("tuning", self.prepared.target.tuning)
        )
        self.tuned_fraction = answer.get("tuned_fraction")

    def warm_up(self) -> None:
        """Run until the times settle."""
        minimum_s = min(_MIN_WARM_UP_S, self._job.precision.min_duration_s / 4)
        answer = self._ask_run({"do": "warm_up", "min_duration_s": minimum_s}, what="warm-up")
        self.warm_up_s = tuple(answer["runs_s"])
        self.steady_s = answer["steady_s"]
        self._warmed_up_s = self.run_s
        self._cpu_before_s = answer["cpu_s"]

    def take_window(self, plan: timing.WindowPlan, meter: EnergyMeter | None) -> None:
        """Take one window in one go, and count its joules where there is a meter."""
        if plan.gap_s > 0:
            self._ask_run(worker.pause_command(plan.gap_s), what="run")
        before_j = meter.read_j() if meter else None
        answer = self._ask_run(worker.window_command(plan), what="run")
        if meter is not None:
            after_j = meter.read_j()
            spent_j = None if after_j is None or before_j is None else after_j - before_j
            # The window's first sample is not timed, but it is paid for.
            self._energy.append((spent_j, plan.loops * (plan.samples + 1)))
            self._energy_source = meter.source
        self._keep(answer["start_s"], answer["end_s"], plan.loops, tuple(answer["samples_s"]))

    def time_parts(self) -> None:
        """Time what a step consists of, where the backend can tell; after all windows."""
        task = self.prepared.subject.task or self._job.task
        if task.kind is TaskKind.INFERENCE:
            return
        share_s = _PARTS_SHARE * self.run_s
        left_s = self.run_left_s + _GRACE_S
        most = min(_MAX_PARTS_RUNS, int(left_s / self.steady_s / 2))
        runs = min(most, max(_MIN_PARTS_RUNS, round(share_s / self.steady_s)))
        if runs >= _MIN_PARTS_RUNS:
            answer = self._ask_run(worker.parts_command(runs), what="run")
            self.parts_s = dict(answer["parts_s"])

    def energy(self) -> Energy | None:
        """Return the energy of one run, where it was counted."""
        return per_run(self._energy, self._energy_source)

    def take_sample(self, loops: int) -> timing.Sample:
        """Take one sample; `keep_window` makes a window of several."""
        answer = self._ask_run(worker.sample_command(loops), what="run")
        return timing.Sample(
            start_s=answer["start_s"],
            end_s=answer["end_s"],
            loops=loops,
            sample_s=answer["samples_s"][0],
        )

    def keep_window(self, samples: list[timing.Sample]) -> None:
        """Add a window of samples that were taken one by one."""
        samples_s = tuple(sample.sample_s for sample in samples)
        self._keep(samples[0].start_s, samples[-1].end_s, samples[0].loops, samples_s)

    def _load_command(self, cpus: tuple[int, ...]) -> dict[str, Any]:
        command = worker.load_command(
            self.prepared.subject,
            self.prepared.subject.task or self._job.task,
            dict(self.prepared.target.options),
            self.prepared.artifact,
            cpus=cpus,
            state=self.prepared.state,
        )
        return {**command, "native_code": self.prepared.native_code}

    def _keep(
        self, start_s: float, end_s: float, loops: int, samples_s: tuple[float, ...]
    ) -> None:
        if self._origin_s is None:
            self._origin_s = start_s
        self.windows.append(
            Window(start_s=start_s - self._origin_s, loops=loops, samples_s=samples_s)
        )
        self.elapsed_s = end_s - self._origin_s

    def _ask_run(self, command: dict[str, Any], *, what: str) -> dict[str, Any]:
        begin_s = time.monotonic()
        # A hiccup in the last window must not cost all that were taken before it.
        grace_s = _GRACE_S if self.windows else 0.0
        within_s = max(0.0, self.run_left_s) + grace_s
        answer = self._worker.ask(command, within_s=within_s, what=what)
        spent_s = time.monotonic() - begin_s
        self.run_left_s -= spent_s
        self.run_s += spent_s
        self._cpu_s = answer["cpu_s"]
        self.peak_rss_bytes = answer["peak_rss_bytes"]
        return answer
