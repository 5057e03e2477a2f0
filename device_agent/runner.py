"""Runs one job: a worker a subject, exactly one of them working, samples taken in turn."""

from __future__ import annotations

import functools
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING

from boardfront.device_agent import environment, nvml, sysfs, timing
from boardfront.device_agent.cores import allowed_cpus, parse_cpus, telemetry_cpus
from boardfront.device_agent.energy import find_energy_meter
from boardfront.device_agent.load import LoadMeter
from boardfront.device_agent.process import WorkerCancelledError, WorkerFailedError
from boardfront.device_agent.results import result_of
from boardfront.device_agent.session import Prepared, Session
from boardfront.device_agent.spares import SpareWorkers
from boardfront.protos.intervals import is_look
from boardfront.protos.normalisation import (
    RatioStatistics,
    normalise,
)
from boardfront.protos.records import (
    EventBody,
    Failure,
    FailureKind,
    Origin,
    Phase,
    Sampling,
    Working,
)
from boardfront.protos.statistics import summarize

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from boardfront.device_agent.energy import EnergyMeter
    from boardfront.protos.records import Job, Statistics

_log = logging.getLogger(__name__)

_SAMPLING_EVENT_EVERY_S = 0.2
_SHOWN_SHARE = 20.0
"""Showing takes at most one part in so many of the time."""
_FEW_WINDOWS = 16
_COOLING_LOOK_S = 1.0

__all__ = ["JobRun", "Prepared"]


class JobRun:
    """Measures the subjects of one job.

    Args:
        job: What to measure.
        prepared: Its subjects that have no answer yet, by id, in order.
        emit: Takes (subject id, event).
        cancelled: When set, `execute` raises WorkerCancelledError within half a second.
        root: Where the device's files are.
        spares: Gives the workers, and starts those of the next job while nothing is timed.
    """

    def __init__(
        self,
        job: Job,
        prepared: Mapping[str, Prepared | Failure],
        emit: Callable[[str, EventBody], None],
        cancelled: threading.Event,
        root: Path = sysfs.ROOT,
        spares: SpareWorkers | None = None,
    ) -> None:
        self._spares = spares or SpareWorkers()
        self._job = job
        self._root = root
        self._prepared = prepared
        self._emit = emit
        self._cancelled = cancelled
        self._sessions: list[Session] = []
        self._live: list[Session] = []
        self._cores: dict[str, tuple[int, ...]] = {}
        self._show_next_s: dict[str, float] = {}
        self._known: dict[str, Statistics | RatioStatistics | None] = {}

    def execute(self) -> None:
        """Emit a Result or a Failure for every prepared subject.

        Raises:
            WorkerCancelledError: The job was cancelled; its workers are dead.
        """
        try:
            self._cool_down()
            self._open()
            self._spares.settle()
            for session in tuple(self._live):
                self._emit(session.subject_id, Working(phase=Phase.WARMING_UP))
                self._guarded(session, Session.warm_up)
            if self._live:
                self._sample()
        finally:
            for session in self._sessions:
                session.close()

    def _cool_down(self) -> None:
        """Wait until the device is cool enough; a heat that cannot be read is no reason to wait.

        Raises:
            WorkerCancelledError: The job was cancelled meanwhile.
        """
        limit_c = self._job.start_below_c
        ready = [name for name, one in self._prepared.items() if isinstance(one, Prepared)]
        end_s = time.monotonic() + self._job.deadlines.queue_s
        while limit_c is not None and ready:
            now_c = environment.read_temperature_c(self._root)
            if now_c is None or now_c <= limit_c:
                return
            if time.monotonic() > end_s:
                self._prepared = {
                    **self._prepared,
                    **dict.fromkeys(ready, _too_hot(now_c, limit_c)),
                }
                return
            self._emit("", Working(phase=Phase.COOLING_DOWN))
            if self._cancelled.wait(_COOLING_LOOK_S):
                raise WorkerCancelledError("the job was cancelled")

    def _open(self) -> None:
        """Start the workers and let them load together, and compile one after the other."""
        self._cores = self._cpus()
        for subject_id, found in self._prepared.items():
            if isinstance(found, Failure):
                self._emit(subject_id, found)
                continue
            session = Session(
                self._job,
                found,
                self._cancelled,
                self._cores.get(subject_id, ()),
                self._spares.take(self._cancelled),
            )
            self._sessions.append(session)
            self._live.append(session)
        self._spares.start()
        self._load_all()
        for session in tuple(self._live):
            if session.tuning_budget_s > 0:
                self._spares.settle()
                self._emit(session.subject_id, Working(phase=Phase.TUNING))
                if not self._guarded(session, Session.tune):
                    continue
            self._emit(session.subject_id, Working(phase=Phase.COMPILING))
            self._guarded(session, Session.compile)

    def _load_all(self) -> None:
        """Let all workers load at once: nothing is timed yet, and most of it is imports."""
        if not self._live:
            return
        for session in self._live:
            self._emit(session.subject_id, Working(phase=Phase.LOADING))
        with ThreadPoolExecutor(len(self._live)) as pool:
            loading = [(one, pool.submit(one.load)) for one in tuple(self._live)]
        for session, loaded in loading:
            self._guarded(session, functools.partial(_await, loaded))

    def _cpus(self) -> dict[str, tuple[int, ...]]:
        """Return the cores of each subject.

        Subjects of one thread that are sampled in turn share one core: two cores of one cluster
        wander apart (ratios of neighbours spread by 20 % on a shared machine, by 2 % on one
        core). It is the last, because the first one takes most of the interrupts.
        """
        ready = [found for found in self._prepared.values() if isinstance(found, Prepared)]
        # A board's files may stand for a machine that has fewer cores.
        here = set(allowed_cpus())
        sets = {
            one.subject.subject_id: tuple(here.intersection(parse_cpus(one.target.cpus)))
            for one in ready
        }
        single = all(one.target.options.get("threads") == "1" for one in ready)
        common = set.intersection(*(set(cpus) for cpus in sets.values())) if sets else set()
        if len(ready) > 1 and single and common:
            return dict.fromkeys(sets, (max(common),))
        return sets

    def _sample(self) -> None:
        """Sample until every subject has enough, then emit the results."""
        meter = self._load_meter()
        try:
            if len(self._live) == 1:
                self._sample_alone(self._live[0])
            else:
                self._sample_in_turn()
            own_s = sum(session.sampling_cpu_s for session in self._sessions)
            circumstances = meter.read(own_cpu_s=own_s)
        finally:
            meter.close()
        for session in self._live:
            _time_parts(session)
        for session in self._live:
            self._emit(
                session.subject_id,
                result_of(self._job, session, self._reference(), circumstances),
            )

    def _load_meter(self) -> LoadMeter:
        """Watch the cores that the workers keep to, all that their targets name, and their GPU."""
        named = {cpu for one in self._live for cpu in parse_cpus(one.target.cpus)}
        kept = {cpu for one in self._live for cpu in self._cores[one.subject_id]}
        # Another root is another machine's: what its cores do is not seen on those of this one.
        timed = kept if self._root == sysfs.ROOT else named
        gpus = {nvml.cuda_number(one.target.options) for one in self._live} - {None}
        gpu = gpus.pop() if len(gpus) == 1 else None
        return LoadMeter(self._root, sorted(timed), around=named, gpu=gpu)

    def _sample_alone(self, session: Session) -> None:
        plan = timing.plan_windows(session.steady_s, self._job.precision, alone=True)
        meter = self._energy_meter(session.prepared)
        try:
            while self._guarded(session, lambda one: one.take_window(plan, meter)):
                if self._has_enough(session):
                    return
        finally:
            if meter is not None:
                meter.close()

    def _energy_meter(self, prepared: Prepared) -> EnergyMeter | None:
        """Return what counts a subject's joules; subjects in turn share them and have none."""
        if prepared.origin is not Origin.MEASURED:
            return None
        timed = parse_cpus(prepared.target.cpus)
        return find_energy_meter(
            self._root,
            gpu=nvml.cuda_number(prepared.target.options),
            cpus=telemetry_cpus(timed, allowed_cpus(self._root)),
        )

    def _sample_in_turn(self) -> None:
        """Take windows whose samples alternate between the subjects, run by run.

        A level that wanders then moves all subjects of a window alike, which is what makes their
        ratios steady where their times are not.
        """
        loops, samples = timing.plan_together(
            [session.steady_s for session in self._live], self._job.precision
        )
        loops_of = dict(zip([s.subject_id for s in self._live], loops, strict=True))
        active = list(self._live)
        while any(session is not self._reference() for session in active):
            self._take_round(active, loops_of, samples)
            active = [one for one in active if one in self._live and not self._is_done(one)]

    def _is_done(self, session: Session) -> bool:
        """Return whether a subject leaves the turn; the reference stays while it may."""
        if session is not self._reference():
            return self._has_enough(session)
        return session.run_left_s < 2 * session.sampling_s / len(session.windows)

    def _take_round(
        self, active: list[Session], loops_of: Mapping[str, int], samples: int
    ) -> None:
        taken: dict[str, list[timing.Sample]] = {session.subject_id: [] for session in active}
        for _ in range(samples):
            for session in active:
                loops, kept = loops_of[session.subject_id], taken[session.subject_id]
                if session in self._live:
                    self._guarded(session, functools.partial(_take_one, loops=loops, kept=kept))
        for session in active:
            if session in self._live:
                session.keep_window(taken[session.subject_id])

    def _reference(self) -> Session | None:
        """Return the reference while it lives."""
        if self._job.reference is None:
            return None
        wanted = self._job.reference.subject_id
        return next((one for one in self._live if one.subject_id == wanted), None)

    def _has_enough(self, session: Session) -> bool:
        progress = timing.Progress(
            windows=len(session.windows),
            elapsed_s=session.elapsed_s,
            run_s=session.run_s,
            sampling_s=session.sampling_s,
            run_left_s=session.run_left_s,
        )
        due = time.monotonic() >= self._show_next_s.get(session.subject_id, float("-inf"))
        if due or self._is_look(len(session.windows)):
            self._known[session.subject_id] = self._look(session, due=due)
        known = self._known.get(session.subject_id)
        return timing.should_stop(known, self._job.precision, progress)

    def _is_look(self, windows: int) -> bool:
        """Return whether the statistics are needed now.

        They take a time that grows with the windows, so they are not found after each.
        """
        return windows <= _FEW_WINDOWS or is_look(windows, self._job.precision.min_windows)

    def _look(self, session: Session, *, due: bool) -> Statistics | RatioStatistics | None:
        """Return the statistics that the stop rule asks for; show those of the time if due."""
        began_s = time.monotonic()
        reference = self._reference()
        divided = reference is not None and reference is not session
        statistics = summarize(session.windows) if due or not divided else None
        if due:
            self._show(session, statistics)
            # Showing must not take the device from what it shows.
            cost_s = time.monotonic() - began_s
            self._show_next_s[session.subject_id] = time.monotonic() + max(
                _SAMPLING_EVENT_EVERY_S, _SHOWN_SHARE * cost_s
            )
        if reference is not None and divided:
            return normalise(session.windows, reference.windows)
        return statistics

    def _show(self, session: Session, statistics: Statistics | None) -> None:
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

    def _guarded(self, session: Session, step: Callable[[Session], None]) -> bool:
        """Run a step; a failure is emitted and ends this subject alone."""
        try:
            step(session)
        except WorkerFailedError as error:
            session.close()
            self._live.remove(session)
            self._emit(session.subject_id, error.failure)
            return False
        return True


def _await(loaded: Future[None], _session: Session) -> None:
    loaded.result()


def _time_parts(session: Session) -> None:
    """Time what a step consists of: an extra, whose failure costs nothing of what was measured."""
    try:
        session.time_parts()
    except WorkerFailedError as error:
        _log.warning("the parts of %s were not timed: %s", session.subject_id, error)
        session.close()


def _take_one(session: Session, *, loops: int, kept: list[timing.Sample]) -> None:
    kept.append(session.take_sample(loops))


def _too_hot(now_c: float, limit_c: float) -> Failure:
    return Failure(
        kind=FailureKind.TIMEOUT,
        message=f"the device stayed at {now_c:.0f} C, asked was to start below {limit_c:.0f} C: "
        "cool it, or allow more",
    )
