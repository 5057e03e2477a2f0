"""What one board said, put together sample by sample. Pure: the clocks are passed in."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from boardfront.host.view.fleet_view import BoardState, BoardView, JobView

if TYPE_CHECKING:
    from boardfront.protos.records import LeaseStatus, TelemetrySample

SILENT_S = 8.0
"""A board that says nothing for so long, four times what it was asked for, is away."""

_RATE_OVER_S = 120.0
_RATE_FROM_S = 10.0
"""Over less than that a rate tells nothing."""

_THROTTLED_FOR_S = 60.0


class BoardRecord:
    """Takes what a board says. Not thread-safe.

    Args:
        name: In the fleet file.
        address: Of its agent; empty for this machine's own.
        known: What the fleet file says of it.
    """

    def __init__(self, name: str, address: str = "", known: str = "") -> None:
        self._plain = BoardView(name=name, address=address, known=known)
        self._sample: TelemetrySample | None = None
        self._heard_s = 0.0
        self._lease: LeaseStatus | None = None
        self._trouble, self._why = BoardState.ASKING, ""
        self._left_out = ""
        self._job_id: str | None = None
        self._job_since_s = 0.0
        self._state, self._since_unix_s = BoardState.ASKING, 0.0
        self._jobs = _Recent(_RATE_OVER_S)
        self._throttles = _Recent(_THROTTLED_FOR_S)

    @property
    def wants_lease(self) -> bool:
        """Whether the agent is too old to tell beside its state who holds it."""
        return self._sample is not None and self._sample.lease is None

    def heard(self, sample: TelemetrySample, now_s: float) -> None:
        """Take what the board says of itself."""
        if sample.running_job_id != self._job_id:
            self._job_id, self._job_since_s = sample.running_job_id, now_s
        if sample.lease is not None:
            self._lease = sample.lease
        if sample.counts is not None:
            if self._jobs.last > sample.counts.jobs:
                # The agent was started anew and counts from nothing.
                self._jobs.clear()
            self._jobs.add(now_s, sample.counts.jobs)
        if sample.throttle_events is not None:
            self._throttles.add(now_s, sample.throttle_events)
        self._sample, self._heard_s = sample, now_s

    def heard_lease(self, lease: LeaseStatus) -> None:
        """Take what an older agent says when it is asked who holds it."""
        self._lease = lease

    def lost(self, state: BoardState, why: str) -> None:
        """Note that the board does not answer, or does not take us."""
        self._trouble, self._why = state, why
        self._sample = self._lease = self._job_id = None
        self._jobs.clear()
        self._throttles.clear()

    def left_out(self, why: str) -> None:
        """Note why a run gives the board no work; empty: it does."""
        self._left_out = why

    def view(self, now_s: float, now_unix_s: float) -> BoardView:
        """Return what is known.

        Args:
            now_s: On the clock of `heard`.
            now_unix_s: The same moment, in seconds since 1970.
        """
        sample, silent_s = self._sample, now_s - self._heard_s
        if sample is None:
            view = replace(self._plain, state=self._trouble, why=self._why)
        elif silent_s > SILENT_S:
            view = replace(self._plain, state=BoardState.AWAY, why=f"no word for {silent_s:.0f} s")
        else:
            view = self._with_lease(self._of(sample, now_s), silent_s)
            view = replace(view, state=self._state_of(view), why=self._left_out)
        return replace(view, since_unix_s=self._since(view.state, now_unix_s))

    def _of(self, sample: TelemetrySample, now_s: float) -> BoardView:
        clocks = {
            "npu": sample.npu_frequency_hz,
            "gpu": sample.gpu_frequency_hz,
            "memory": sample.memory_frequency_hz,
        }
        counts = sample.counts
        return replace(
            self._plain,
            queued=sample.queued_jobs,
            temperature_c=sample.temperature_c,
            frequency_hz=sample.frequency_hz,
            governor=sample.governor,
            throttle_events=self._throttles.total,
            cooling_state=sample.cooling_state,
            cpu_fraction=sample.cpu_fraction,
            power_w=sample.power_w,
            memory_available_bytes=sample.memory_available_bytes,
            temperatures_c=sample.temperatures_c,
            frequencies_hz={
                **sample.frequencies_hz,
                **{name: hz for name, hz in clocks.items() if hz is not None},
            },
            job=self._job(sample, now_s),
            jobs_per_minute=self._jobs.per_minute(),
            jobs=None if counts is None else counts.jobs,
            verdicts=None if counts is None else counts.verdicts,
            failures=None if counts is None else counts.failures,
        )

    def _with_lease(self, view: BoardView, silent_s: float) -> BoardView:
        lease = self._lease
        if lease is None:
            return view
        waiting = tuple(party.name for party in lease.waiting)
        holder = lease.holder
        if holder is None:
            return replace(view, waiting=waiting)
        return replace(
            view,
            holder=holder.name,
            holder_since_s=holder.since_s + silent_s,
            expires_in_s=max(0.0, holder.expires_in_s - silent_s),
            waiting=waiting,
        )

    def _job(self, sample: TelemetrySample, now_s: float) -> JobView | None:
        if sample.running_job_id is None:
            return None
        holder = self._lease.holder if self._lease is not None else None
        owner = "" if holder is None else holder.name
        running = sample.running
        if running is None:
            since_s = now_s - self._job_since_s
            return JobView(
                job_id=sample.running_job_id, owner=owner, since_s=since_s, phase_since_s=since_s
            )
        silent_s = now_s - self._heard_s
        return JobView(
            job_id=running.job_id,
            owner=owner,
            purpose=running.purpose.value,
            phase="sampling" if running.phase is None else running.phase.value,
            since_s=running.since_s + silent_s,
            phase_since_s=running.phase_since_s + silent_s,
            budget_s=running.phase_budget_s,
            windows=running.windows,
        )

    def _state_of(self, view: BoardView) -> BoardState:
        if self._left_out:
            return BoardState.LEFT_OUT
        if view.job is not None:
            return BoardState.BUSY
        return BoardState.HELD if view.holder else BoardState.FREE

    def _since(self, state: BoardState, now_unix_s: float) -> float | None:
        if state is not self._state:
            self._state, self._since_unix_s = state, now_unix_s
        return self._since_unix_s or None


class _Recent:
    """Numbers of the last while.

    Args:
        over_s: How long they count.
    """

    def __init__(self, over_s: float) -> None:
        self._over_s = over_s
        self._kept: deque[tuple[float, int]] = deque()

    @property
    def last(self) -> int:
        """The newest one; 0 before the first."""
        return self._kept[-1][1] if self._kept else 0

    @property
    def total(self) -> int | None:
        """Their sum; None before the first."""
        return sum(number for _, number in self._kept) if self._kept else None

    def add(self, now_s: float, number: int) -> None:
        """Add one, and forget those that are too old."""
        self._kept.append((now_s, number))
        while self._kept[0][0] < now_s - self._over_s:
            self._kept.popleft()

    def per_minute(self) -> float | None:
        """Return how fast a count grows; None where it was not followed for long enough."""
        if len(self._kept) < 2:
            return None
        (began_s, first), (now_s, last) = self._kept[0], self._kept[-1]
        if now_s - began_s < _RATE_FROM_S:
            return None
        return 60.0 * (last - first) / (now_s - began_s)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
