"""What a time is asked with, what is answered, and who answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from boardfront.protos.records import (
    Deadlines,
    Failure,
    Precision,
    Purpose,
    Result,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from boardfront.latency_models.key import TimeKey


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceModel:
    """A network that others are alternated with and divided by.

    Args:
        model: The network as a serialised ONNX model.
        structure_hash: Of that model.
        input_shapes: For a model with dynamic inputs.
        quiet_s: Its time on a quiet device, seconds a run; None: ratios stay ratios.
        label: What to call it, e.g. its encoding.
        task: What to time of it; None: the same as of those it divides.
        backend: What executes it; empty: the same.
        options: Of the backend; None: the same.
        cpus: Cores to run on; None: the same.
    """

    model: bytes = field(repr=False)
    structure_hash: str
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    quiet_s: float | None = None
    label: str = ""
    task: Task | None = None
    backend: str = ""
    options: Mapping[str, str] | None = None
    cpus: str | None = None

    @property
    def sha256(self) -> str:
        """The name of its artifact."""
        return hashlib.sha256(self.model).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeRequest:
    """A network whose time is wanted.

    Args:
        model: The network as a serialised ONNX model.
        structure_hash: Of that model, see `structure.structure_hash`.
        task: What to time.
        backend: What shall execute it.
        options: Of the backend; those left out take its defaults.
        input_shapes: For a model with dynamic inputs.
        precision: When to stop.
        deadlines: How long each phase may take.
        purpose: Why the time is wanted.
        label: What to call the request in progress messages, e.g. the encoding.
        fresh: Whether to measure even where a stored answer would do.
        cpus: Cores to run on, e.g. "4-7"; empty takes the device's default.
        tuning_budget_s: Search for faster code this long before compiling, where the backend can.
        reference: What to alternate with; an answer then carries the ratio to it.
        start_below_c: Wait until the device is no hotter than this.
        job_seed: Makes the job's id reproducible, so that a repeated request meets its own job.
            Empty draws a new id.
    """

    model: bytes = field(repr=False)
    structure_hash: str
    task: Task
    backend: str
    options: Mapping[str, str] = field(default_factory=dict)
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    precision: Precision = field(default_factory=Precision)
    deadlines: Deadlines = field(default_factory=Deadlines)
    purpose: Purpose = Purpose.CANDIDATE
    label: str = ""
    fresh: bool = False
    cpus: str = ""
    tuning_budget_s: float = 0.0
    reference: ReferenceModel | None = None
    start_below_c: float | None = None
    job_seed: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One answer: a time with all that was seen, or the reason why there is none.

    Args:
        id: Its number in the store; None before it was stored.
        created_unix_s: When it was taken, in seconds since 1970 (UTC).
        key: What the time is true for.
        device_id: The device that took it. Recorded, not keyed.
        device_name: That device's name for people.
        agent_version: Of the agent that took it.
        job_id: The job it came from.
        subject_id: The subject inside that job.
        purpose: Why it was taken.
        outcome: The result or the failure.
        sampled_in_turn: Whether other subjects ran between its samples: they leave its caches
            colder than it would, so the time is not looked up as one of the network alone.
        quarantined: Whether a later sentinel showed that it cannot be trusted.
    """

    id: int | None = None
    created_unix_s: float
    key: TimeKey
    device_id: str
    device_name: str
    agent_version: str
    job_id: str
    subject_id: str
    purpose: Purpose
    outcome: Result | Failure
    sampled_in_turn: bool = False
    quarantined: bool = False

    @property
    def result(self) -> Result | None:
        """The result, or None for a failure."""
        return self.outcome if isinstance(self.outcome, Result) else None

    @property
    def failure(self) -> Failure | None:
        """The failure, or None for a result."""
        return self.outcome if isinstance(self.outcome, Failure) else None


@runtime_checkable
class Measurer(Protocol):
    """Answers what networks cost on one target.

    Guarantees:
        - One answer a request, in the order of the requests, each yielded as soon as it and all
          before it are known. No answer is dropped and none is invented.
        - A failed measurement is an answer that holds a Failure, never an exception and never a
          number. Exceptions mean that nothing can be answered any more (no device, wrong input).
        - Every answer is stored before it is yielded and carries its id.
        - A request that is not `fresh` may be answered from the store; the answer is then the
          stored measurement as it was taken, with its own purpose and precision.
        - Closing the iterator early cancels nothing on the device; what was measured is kept.
        - Not safe for several threads at once; the caller keeps ownership of the requests.
    """

    def measure(self, requests: Sequence[TimeRequest]) -> Iterator[Measurement]:
        """Measure every request, or look it up."""


@runtime_checkable
class TogetherMeasurer(Measurer, Protocol):
    """A Measurer that can put several requests into one job, in turn with one reference.

    That takes one start and one run of the reference where each alone would take its own.
    """

    def measure_together(self, requests: Sequence[TimeRequest]) -> tuple[Measurement, ...]:
        """Measure requests in one job, one answer a request in order, whatever the store holds.

        Args:
            requests: Few, of equal task, precision, deadlines, purpose, reference and job seed.
        """


@runtime_checkable
class RecallingMeasurer(Measurer, Protocol):
    """A Measurer that can tell what it measured under the same job's name before."""

    def recall(self, requests: Sequence[TimeRequest]) -> tuple[Measurement, ...] | None:
        """Return what `measure` or `measure_together` would answer without measuring, or None.

        Args:
            requests: As for those, with a job seed.
        """


@runtime_checkable
class QueueingMeasurer(Measurer, Protocol):
    """A Measurer that works on while its caller does something else.

    Guarantees, beyond those of Measurer:
        - Every request submitted is answered once, in `attend`, on the caller's thread, in
          whatever order the answers come.
        - `measure` may be used between two calls of `submit`.
    """

    @property
    def ahead(self) -> int:
        """Requests that should be under way so that no device waits.

        0: nothing of the caller's may run beside a measurement, so one at a time.
        """

    def submit(
        self,
        request: TimeRequest,
        then: Callable[[Measurement], None],
        *,
        delay_s: float = 0.0,
        after: Measurement | None = None,
    ) -> None:
        """Have a request answered; `then` hears the answer.

        Args:
            request: What is wanted.
            then: Told the answer; it may submit again.
            delay_s: Not sooner than this.
            after: The answer that was not good enough, if it is asked again because of one.
        """

    def attend(self, *, wait: bool) -> None:
        """Tell what was answered; with `wait`, until something was."""
