"""Runs one job: a worker a subject, exactly one of them working, windows interleaved."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from boardfront.device_agent import timing, worker
from boardfront.device_agent.load import LoadMeter
from boardfront.device_agent.process import WorkerFailedError, WorkerProcess
from boardfront.protos.records import (
    Circumstances,
    EventBody,
    Failure,
    FailureKind,
    Origin,
    Phase,
    Result,
    Sampling,
    Window,
    Working,
)
from boardfront.protos.statistics import judge, summarize

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from boardfront.protos.records import Job, Statistics, Subject, Target

_MIN_WARM_UP_S = 0.2
_SAMPLING_EVENT_EVERY_S = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What the server found out about a subject before the job ran."""

    subject: Subject
    target: Target
    origin: Origin
    artifact: Path


@dataclass(kw_only=True, slots=True)
class _Session:
    """One subject while it is measured."""

    prepared: Prepared
    worker: WorkerProcess
    run_left_s: float
    compile_left_s: float
    load_s: float = 0.0
    compile_s: float = 0.0
    run_s: float = 0.0
    warm_up_s: tuple[float, ...] = ()
    plan: timing.WindowPlan | None = None
    windows: list[Window] = field(default_factory=list)
    origin_s: float = 0.0
    elapsed_s: float = 0.0
    cpu_before_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_bytes: int | None = None
    last_event_s: float = float("-inf")
    done: bool = False
    failed: bool = False

    @property
    def subject_id(self) -> str:
        return self.prepared.subject.subject_id


class JobRun:
    """Measures the subjects of one job.

    Args:
        job: What to measure.
        prepared: Its subjects that have no answer yet, by id, in order.
        emit: Takes (subject id, event).
        cancelled: When set, `execute` raises WorkerCancelledError within half a second.
    """

    def __init__(
        self,
        job: Job,
        prepared: Mapping[str, Prepared | Failure],
        emit: Callable[[str, EventBody], None],
        cancelled: threading.Event,
    ) -> None:
        self._job = job
        self._prepared = prepared
        self._emit = emit
        self._cancelled = cancelled
        self._sessions: list[_Session] = []

    def execute(self) -> None:
        """Emit a Result or a Failure for every prepared subject.

        Raises:
            WorkerCancelledError: The job was cancelled; its workers are dead.
        """
        try:
            for subject_id, found in self._prepared.items():
                if isinstance(found, Failure):
                    self._emit(subject_id, found)
                else:
                    self._open(found)
            for session in self._live():
                self._guarded(session, self._warm_up)
            self._sample()
        finally:
            for session in self._sessions:
                session.worker.close()

    def _open(self, prepared: Prepared) -> None:
        """Start a worker and let it load and compile."""
        session = _Session(
            prepared=prepared,
            worker=WorkerProcess(self._cancelled),
            run_left_s=self._job.deadlines.run_s,
            compile_left_s=self._job.deadlines.compile_s,
        )
        self._sessions.append(session)
        if self._guarded(session, self._load):
            self._guarded(session, self._compile)

    def _load(self, session: _Session) -> None:
        self._emit(session.subject_id, Working(phase=Phase.LOADING))
        command = worker.load_command(
            session.prepared.subject,
            self._job.task,
            dict(session.prepared.target.options),
            session.prepared.artifact,
        )
        begin_s = time.monotonic()
        answer = session.worker.ask(command, within_s=session.compile_left_s, what="load")
        session.compile_left_s -= time.monotonic() - begin_s
        session.load_s = answer["duration_s"]

    def _compile(self, session: _Session) -> None:
        self._emit(session.subject_id, Working(phase=Phase.COMPILING))
        answer = session.worker.ask(
            {"do": "compile"}, within_s=max(0.0, session.compile_left_s), what="compile"
        )
        session.compile_s = answer["duration_s"]

    def _warm_up(self, session: _Session) -> None:
        self._emit(session.subject_id, Working(phase=Phase.WARMING_UP))
        minimum_s = min(_MIN_WARM_UP_S, self._job.precision.min_duration_s / 4)
        answer = self._ask_run(
            session, {"do": "warm_up", "min_duration_s": minimum_s}, what="warm-up"
        )
        session.warm_up_s = tuple(answer["runs_s"])
        session.cpu_before_s = session.cpu_s = answer["cpu_s"]
        session.plan = timing.plan_windows(
            answer["steady_s"], self._job.precision, alone=len(self._live()) == 1
        )

    def _sample(self) -> None:
        """Take windows in turn until every subject has enough, then emit the results."""
        meter = LoadMeter()
        while active := [session for session in self._live() if not session.done]:
            for session in active:
                if self._guarded(session, self._take_window):
                    session.done = self._has_enough(session)
        own_s = sum(session.cpu_s - session.cpu_before_s for session in self._sessions)
        circumstances = meter.read(own_cpu_s=own_s)
        for session in self._live():
            self._emit(session.subject_id, self._result(session, circumstances))

    def _take_window(self, session: _Session) -> None:
        assert session.plan is not None  # noqa: S101 - set by the warm-up
        answer = self._ask_run(session, worker.window_command(session.plan), what="run")
        if not session.windows:
            session.origin_s = answer["start_s"]
        session.windows.append(
            Window(
                start_s=answer["start_s"] - session.origin_s,
                loops=session.plan.loops,
                samples_s=tuple(answer["samples_s"]),
            )
        )
        session.elapsed_s = answer["end_s"] - session.origin_s
        session.cpu_s = answer["cpu_s"]
        session.peak_rss_bytes = answer["peak_rss_bytes"]

    def _has_enough(self, session: _Session) -> bool:
        statistics = summarize(session.windows)
        self._show(session, statistics)
        longest_s = max(self._job.precision.min_duration_s, session.elapsed_s)
        window_s = longest_s / len(session.windows)
        # A window that the deadline cuts costs the whole result: where there is one, leave room.
        needed_s = window_s if statistics is None else 2 * window_s
        patience_s = self._job.precision.max_duration_s
        enough_windows = len(session.windows) >= self._job.precision.min_windows
        if patience_s and enough_windows and session.run_s >= patience_s:
            return True
        return session.run_left_s < needed_s or timing.is_enough(
            statistics,
            self._job.precision,
            windows=len(session.windows),
            elapsed_s=session.elapsed_s,
        )

    def _show(self, session: _Session, statistics: Statistics | None) -> None:
        now_s = time.monotonic()
        if now_s - session.last_event_s < _SAMPLING_EVENT_EVERY_S:
            return
        session.last_event_s = now_s
        samples = [s for window in session.windows for s in window.samples_s]
        self._emit(
            session.subject_id,
            Sampling(
                windows=len(session.windows),
                median_s=statistics.median_s if statistics else median(samples),
                low_s=statistics.low_s if statistics else None,
                high_s=statistics.high_s if statistics else None,
                elapsed_s=session.elapsed_s,
            ),
        )

    def _result(self, session: _Session, circumstances: Circumstances) -> Result | Failure:
        statistics = summarize(session.windows, final=True)
        if statistics is None:
            return Failure(
                kind=FailureKind.UNSTABLE,
                message=f"no interval can be given from {len(session.windows)} windows within "
                f"{self._job.deadlines.run_s:g} s: raise the run deadline",
            )
        own = _with_peak(circumstances, session.peak_rss_bytes)
        # What else the machine did does not touch times that were programmed.
        programmed = session.prepared.origin is Origin.PROGRAMMED
        judgement = judge(
            statistics,
            self._job.precision,
            session.windows,
            Circumstances() if programmed else own,
        )
        return Result(
            subject_id=session.subject_id,
            artifact_sha256=session.prepared.subject.artifact_sha256,
            artifact_bytes=session.prepared.artifact.stat().st_size,
            target=session.prepared.target,
            origin=session.prepared.origin,
            verdict=judgement.verdict,
            evidence=judgement.evidence,
            statistics=statistics,
            precision=self._job.precision,
            windows=tuple(session.windows),
            warm_up_s=session.warm_up_s,
            first_run_s=session.warm_up_s[0],
            load_s=session.load_s,
            compile_s=session.compile_s,
            run_s=session.run_s,
            circumstances=own,
        )

    def _ask_run(self, session: _Session, command: dict[str, Any], *, what: str) -> dict[str, Any]:
        begin_s = time.monotonic()
        answer = session.worker.ask(command, within_s=max(0.0, session.run_left_s), what=what)
        spent_s = time.monotonic() - begin_s
        session.run_left_s -= spent_s
        session.run_s += spent_s
        return answer

    def _live(self) -> list[_Session]:
        return [session for session in self._sessions if not session.failed]

    def _guarded(self, session: _Session, step: Callable[[_Session], None]) -> bool:
        """Run a step; a failure is emitted and ends this subject alone."""
        try:
            step(session)
        except WorkerFailedError as error:
            session.worker.close()
            session.failed = True
            self._emit(session.subject_id, error.failure)
            return False
        return True


def _with_peak(circumstances: Circumstances, peak_rss_bytes: int | None) -> Circumstances:
    return replace(circumstances, worker_peak_rss_bytes=peak_rss_bytes)
