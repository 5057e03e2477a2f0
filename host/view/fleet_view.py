"""What is known of the boards at one moment, for whoever shows it: plain values."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boardfront.host import text

if TYPE_CHECKING:
    from collections.abc import Mapping


class BoardState(enum.Enum):
    """How a board stands."""

    ASKING = "asking"
    OFF = "off"
    AWAY = "away"
    REFUSED = "refused"
    FREE = "free"
    HELD = "held"
    BUSY = "busy"
    LEFT_OUT = "left out"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """What a board is busy with.

    Args:
        job_id: Of the job.
        owner: Who holds the board; empty: the job runs without a lease.
        purpose: Why it is measured, e.g. "candidate"; empty: an older agent does not say.
        phase: E.g. "compiling", "tuning" or "sampling"; empty: an older agent does not say.
        since_s: For how long the job has run.
        phase_since_s: For how long the phase has lasted.
        budget_s: For how long the phase was asked for, as tuning is; None: nobody said.
        windows: Taken so far.
    """

    job_id: str
    owner: str = ""
    purpose: str = ""
    phase: str = ""
    since_s: float = 0.0
    phase_since_s: float = 0.0
    budget_s: float | None = None
    windows: int = 0

    @property
    def left_s(self) -> float | None:
        """How long the phase may still take; None where nobody knows."""
        return None if self.budget_s is None else max(0.0, self.budget_s - self.phase_since_s)

    @property
    def words(self) -> str:
        """The phase with what is known of its end, e.g. `tuning 40 s of 10 min 00 s`."""
        if self.budget_s is not None:
            done, all_ = (text.format_duration(s) for s in (self.phase_since_s, self.budget_s))
            return f"{self.phase} {done} of {all_}"
        windows = f", {self.windows} windows" if self.phase == "sampling" else ""
        return f"{self.phase or 'running'} {text.format_duration(self.phase_since_s)}{windows}"


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardView:
    """A board at one moment. None: not known.

    Args:
        name: In the fleet file, or as it was given.
        address: Of its agent; empty for this machine's own.
        known: What the fleet file says of it, e.g. "soc=rk3588,room=lab".
        state: How it stands.
        since_unix_s: Since when; None: it did not change since it is watched.
        why: Why it is away, refuses, is off or left out; else empty.
        holder: Who has its lease; empty: nobody.
        holder_since_s: For how long.
        expires_in_s: When the lease ends unless it is renewed.
        waiting: Who waits for it, in order.
        queued: Jobs on the board, the running one among them.
        temperature_c: Of its hottest zone.
        frequency_hz: Of the cores that are timed.
        governor: Of those cores.
        throttle_events: Reported by the hardware within the last minute.
        cooling_state: Highest state of a cooling device that slows the board down.
        cpu_fraction: Share of all cores that is busy.
        power_w: What it draws.
        memory_available_bytes: Free memory.
        temperatures_c: By thermal zone.
        frequencies_hz: By cluster, and of the NPU, the GPU and the memory.
        job: What runs.
        jobs_per_minute: Over the last two minutes at most.
        jobs: Completed since its agent started.
        verdicts: Networks by verdict since then.
        failures: Networks by kind of failure since then.
    """

    name: str
    address: str = ""
    known: str = ""
    state: BoardState = BoardState.ASKING
    since_unix_s: float | None = None
    why: str = ""
    holder: str = ""
    holder_since_s: float | None = None
    expires_in_s: float | None = None
    waiting: tuple[str, ...] = ()
    queued: int | None = None
    temperature_c: float | None = None
    frequency_hz: float | None = None
    governor: str | None = None
    throttle_events: int | None = None
    cooling_state: int | None = None
    cpu_fraction: float | None = None
    power_w: float | None = None
    memory_available_bytes: int | None = None
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    frequencies_hz: Mapping[str, float] = field(default_factory=dict)
    job: JobView | None = None
    jobs_per_minute: float | None = None
    jobs: int | None = None
    verdicts: Mapping[str, int] | None = None
    failures: Mapping[str, int] | None = None

    @property
    def is_throttled(self) -> bool | None:
        """Whether heat or power slow it down now; None: it has nothing that tells."""
        if self.throttle_events is None and self.cooling_state is None:
            return None
        return bool(self.throttle_events or self.cooling_state)

    @property
    def answers(self) -> bool:
        """Whether what stands here is of now."""
        return self.state in {
            BoardState.FREE,
            BoardState.HELD,
            BoardState.BUSY,
            BoardState.LEFT_OUT,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetView:
    """All boards at one moment.

    Args:
        time_unix_s: When.
        boards: In the order of the fleet file.
    """

    time_unix_s: float
    boards: tuple[BoardView, ...] = ()

    def board(self, name: str) -> BoardView | None:
        """Return the board of this name, or None."""
        return next((board for board in self.boards if board.name == name), None)
