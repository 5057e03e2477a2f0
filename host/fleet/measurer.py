"""The Measurer of one device: looks a time up, or has the device measure it."""

from __future__ import annotations

import contextlib
import functools
import time
from dataclasses import replace
from typing import TYPE_CHECKING, overload

from boardfront.host.fleet.client import (
    AgentClient,
    JobCancelledError,
    JobForgottenError,
    artifact_name,
)
from boardfront.host.fleet.compiling import HostCompiler, is_compiled_here
from boardfront.host.fleet.kept_artifacts import KeptArtifacts
from boardfront.host.fleet.planned_job import (
    Asked,
    PlannedJob,
    ask,
    ask_reference,
    jobs_of,
    make_job,
    room_together,
)
from boardfront.host.fleet.sentinel import Sentinel, SentinelRule, sentinel_key
from boardfront.host.fleet.under_way import JobsUnderWay
from boardfront.host.paths import default_cache
from boardfront.host.tvm_compile import CompileFailedError
from boardfront.latency_models.base import Measurement, TimeRequest
from boardfront.latency_models.key import TimeKey
from boardfront.protos import records
from boardfront.protos.errors import BoardfrontError, JobConflictError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from boardfront.host.fleet.sentinel import Finding
    from boardfront.latency_models.store import MeasurementStore

    Listener = Callable[[str, records.JobEvent], None]

DESCRIPTION_HOLDS_S = 5.0
"""A search asks several times a second; what a device is does not change that fast."""


class DeviceMeasurer:
    """Measures on one device and keeps every answer in a store.

    Implements `latency_models.base.Measurer`.

    Args:
        client: Of the device's agent.
        store: Where answers are looked up and kept.
        listener: Told (label, event) while a job runs; the sentinel's label is "sentinel".
        clock: Seconds since 1970.
        sentinel: When the device's sentinel is timed, for requests without a reference (which
            does that job itself); None: never.
        description_holds_s: So long what the device said of itself is taken for true, in
            seconds; what it measures says anew what it was measured on.

    A result is stored before the agent is told to forget it, so a crash between the two loses
    nothing: the store takes a job's answer once.
    """

    def __init__(
        self,
        client: AgentClient,
        store: MeasurementStore,
        *,
        listener: Listener = lambda _label, _event: None,
        clock: Callable[[], float] = time.time,
        sentinel: SentinelRule | None = None,
        description_holds_s: float = DESCRIPTION_HOLDS_S,
    ) -> None:
        self.under_way = JobsUnderWay()
        """Is told of the jobs; what a person ends through it is answered by failures."""
        self._client = client
        self._store = store
        self._listener = listener
        self._clock = clock
        self._sentinel_rule = sentinel
        self._description_holds_s = description_holds_s
        self._compiler = HostCompiler(default_cache() / "libraries")
        self._sentinels: dict[str, Sentinel] = {}
        self._described: records.DeviceDescription | None = None
        self._described_s = 0.0

    def measure(self, requests: Sequence[TimeRequest]) -> Iterator[Measurement]:
        """Answer the requests one after the other, each in a job of its own."""
        for request in requests:
            planned = self.plan((request,))
            yield (planned if isinstance(planned, tuple) else self._run_watched(planned))[0]

    def measure_together(self, requests: Sequence[TimeRequest]) -> tuple[Measurement, ...]:
        """Measure requests in one job, their windows interleaved: what compares them is fair.

        Args:
            requests: One to `MAX_TOGETHER`, less one for a reference, of equal task, precision,
                deadlines, purpose, reference and job seed. All are measured, whatever the store
                holds.

        Returns:
            One answer a request, in order.
        """
        most = room_together(requests[0].reference if requests else None)
        if not 1 <= len(requests) <= most:
            raise WrongInputError(f"{len(requests)} requests together: expected 1 to {most}")
        planned = self.plan(requests, look_up=False)
        return planned if isinstance(planned, tuple) else self._run_watched(planned)

    def recall(self, requests: Sequence[TimeRequest]) -> tuple[Measurement, ...] | None:
        """Return the stored answers of the job that these requests make, None if one is missing.

        None as well where a network would have to be compiled to know its job: what was measured
        was compiled, and is kept.
        """
        description = self._describe()
        asked = _asked(requests, description)
        beside = ask_reference(asked[0].request, description)
        items = (*asked, *((beside,) if beside else ()))
        made = tuple(self._made(one, description, anew=False) for one in items)
        known = tuple(one for one in made if one is not None)
        if len(known) < len(items):
            return None
        asked = known[: len(asked)]
        return self._kept(asked, known[-1] if beside else None, description)

    def measure_groups(
        self, groups: Iterable[Sequence[TimeRequest]]
    ) -> Iterator[tuple[Measurement, ...]]:
        """Answer groups one after the other, each as `measure_together` does."""
        return (self.measure_together(group) for group in groups)

    def plan(
        self, requests: Sequence[TimeRequest], *, look_up: bool = True
    ) -> PlannedJob | tuple[Measurement, ...]:
        """Return the job that answers these requests, or the answers that the store holds.

        Args:
            requests: Of one job.
            look_up: A request alone in its job, unless it is fresh, may be answered by any
                measurement of its key.
        """
        description = self._describe()
        asked = _asked(requests, description)
        known = self._known(asked[0]) if look_up and len(asked) == 1 else None
        if known is not None:
            return (known,)
        beside = ask_reference(asked[0].request, description)
        try:
            asked = tuple(self._made(item, description) for item in asked)
            beside = self._made(beside, description) if beside else None
        except CompileFailedError as error:
            return self._not_compiled(asked, description, error)
        kept = self._kept(asked, beside, description)
        if kept is not None and not any(_is_lost(one) for one in kept):
            return kept
        # The agent would answer the same job by the same failure.
        job = make_job(asked, beside, unique=kept is not None)
        return PlannedJob(asked=asked, beside=beside, job=job, description=description)

    def _kept(
        self,
        asked: tuple[Asked, ...],
        beside: Asked | None,
        description: records.DeviceDescription,
    ) -> tuple[Measurement, ...] | None:
        """Return what the store holds of the job of requests, if it holds all of it."""
        for job in jobs_of(asked, beside, self._store.place):
            found = [self._store.find(job.job_id, item.subject.subject_id) for item in asked]
            kept = tuple(measurement for measurement in found if measurement is not None)
            if len(kept) == len(asked):
                # An earlier life of ours ended before it could say so.
                self._client.acknowledge(job.job_id)
                self._note(asked, kept, description)
                return kept
        return None

    @overload
    def _made(self, asked: Asked, description: records.DeviceDescription) -> Asked: ...

    @overload
    def _made(
        self, asked: Asked, description: records.DeviceDescription, *, anew: bool
    ) -> Asked | None: ...

    def _made(
        self, asked: Asked, description: records.DeviceDescription, *, anew: bool = True
    ) -> Asked | None:
        """Compile a network here, where its target asks for that; or None instead of anew."""
        options = dict(asked.key.options)
        if not is_compiled_here(asked.key.backend, options):
            return asked
        if not anew and not self._compiler.is_kept(asked.request, options, description):
            return None
        library = self._compiler.library(asked.request, options, description)
        return replace(
            asked,
            request=replace(asked.request, model=library),
            subject=replace(asked.subject, artifact_sha256=artifact_name(library)),
        )

    def _not_compiled(
        self,
        asked: tuple[Asked, ...],
        description: records.DeviceDescription,
        error: CompileFailedError,
    ) -> tuple[Measurement, ...]:
        """Answer the requests of a job that cannot be, for want of one of its networks."""
        job = make_job(asked, None, unique=True)
        failure = records.Failure(kind=error.kind, message=str(error))
        answers: dict[str, records.Result | records.Failure] = {
            item.subject.subject_id: failure for item in asked
        }
        return tuple(
            self._store.append(self._measurement(item, job, description, answers))
            for item in asked
        )

    def is_look_due(self, planned: PlannedJob, *, after: int = 0) -> bool:
        """Return whether the sentinel has to be timed between `after` more jobs and this one."""
        sentinel = self._sentinel(planned.asked[0], planned.description)
        return sentinel is not None and sentinel.is_due_after(after)

    def look(self, planned: PlannedJob) -> Finding | None:
        """Time the sentinel of a job's target, if it has one."""
        sentinel = self._sentinel(planned.asked[0], planned.description)
        return None if sentinel is None else sentinel.look(planned.description)

    def send(self, planned: PlannedJob) -> None:
        """Put a job into the device's queue; `finish` fetches its answers."""
        self._client.send(planned.job, planned.artifacts)
        self.under_way.send(planned.job.job_id, _label(planned), self._client.cancel_from_outside)

    def finish(
        self, planned: PlannedJob, on_event: Callable[[], None] = lambda: None
    ) -> tuple[Measurement, ...]:
        """Run a job, or go on with one that was sent, and return its stored answers.

        Args:
            planned: The job.
            on_event: Called at each of its events, several times a second while it is timed.
        """
        asked = planned.asked
        labels = {item.subject.subject_id: item.request.label for item in asked}

        def listen(event: records.JobEvent) -> None:
            self._listener(labels.get(event.subject_id, asked[0].request.label), event)
            on_event()

        job, answers = self._run_one_of(planned, listen)
        measurements = tuple(
            self._store.append(self._measurement(item, job, planned.description, answers))
            for item in asked
        )
        if planned.beside is not None:
            self._store.append(
                self._measurement(planned.beside, job, planned.description, answers)
            )
        self._client.acknowledge(job.job_id)
        self._note(asked, measurements, planned.description)
        return measurements

    def _run_one_of(
        self, planned: PlannedJob, listen: Callable[[records.JobEvent], None]
    ) -> tuple[records.Job, dict[str, records.Result | records.Failure]]:
        """Run a job, under another id where the agent has given its results to another store."""
        _, ours = jobs_of(planned.asked, planned.beside, self._store.place)
        for job in (planned.job, ours):
            with contextlib.suppress(JobForgottenError, JobConflictError):
                return job, self._run(planned, job, listen)
        last = make_job(planned.asked, planned.beside, unique=True)
        return last, self._run(planned, last, listen)

    def _run(
        self, planned: PlannedJob, job: records.Job, listen: Callable[[records.JobEvent], None]
    ) -> dict[str, records.Result | records.Failure]:
        """Run a job; what a person ended is answered by failures."""
        end = self._client.cancel_from_outside
        with self.under_way.running(job.job_id, _label(planned), end):
            if self.under_way.is_unwanted(job.job_id):
                # It waited in the queue, or another board had it, which went away.
                self._cancel_quietly(job.job_id)
                return self.under_way.answers(job, {})
            try:
                return self._client.run(job, planned.artifacts, listen)
            except JobCancelledError as error:
                if not self.under_way.is_unwanted(job.job_id):
                    raise
                return self.under_way.answers(job, error.answers)
            except KeyboardInterrupt:
                self._cancel_quietly(job.job_id)
                raise

    def _note(
        self,
        asked: tuple[Asked, ...],
        measurements: tuple[Measurement, ...],
        description: records.DeviceDescription,
    ) -> None:
        sentinel = self._sentinel(asked[0], description)
        if sentinel is not None:
            sentinel.note([item.request for item in asked], measurements)

    def _describe(self) -> records.DeviceDescription:
        """Ask what the device is now; one that answered before may be away for a while."""
        known = self._described
        if known is None or time.monotonic() - self._described_s > self._description_holds_s:
            known = self._client.describe(patient=known is not None)
            self._described, self._described_s = known, time.monotonic()
        return known

    def _known(self, asked: Asked) -> Measurement | None:
        if asked.request.fresh:
            return None
        reference = asked.request.reference
        return self._store.lookup(
            asked.key,
            precision=asked.request.precision,
            reference_sha256=reference.sha256 if reference else None,
        )

    def _run_watched(self, planned: PlannedJob) -> tuple[Measurement, ...]:
        """Run a job after a look at the sentinel, where one is due."""
        if self.is_look_due(planned):
            self.look(planned)
        return self.finish(planned)

    def _sentinel(self, asked: Asked, description: records.DeviceDescription) -> Sentinel | None:
        """Return the sentinel of a request's target."""
        rule = self._sentinel_rule
        if rule is None or asked.request.reference is not None:
            return None
        key = sentinel_key(asked.key, description)
        if key is None:
            return None
        if key.digest not in self._sentinels:
            kept = KeptArtifacts(
                self._client,
                self._store,
                listener=functools.partial(self._listener, "sentinel"),
                clock=self._clock,
            )
            self._sentinels[key.digest] = Sentinel(
                kept, self._store, key, device_id=description.device_id, rule=rule
            )
        return self._sentinels[key.digest]

    def _measurement(
        self,
        asked: Asked,
        job: records.Job,
        description: records.DeviceDescription,
        answers: dict[str, records.Result | records.Failure],
    ) -> Measurement:
        outcome = answers.get(asked.subject.subject_id)
        if outcome is None:
            raise BoardfrontError(
                f"the agent finished job {job.job_id} without an answer for "
                f"{asked.request.label or asked.subject.subject_id}: see the agent's log"
            )
        key = asked.key
        if isinstance(outcome, records.Result):
            key = TimeKey.of_target(
                outcome.target,
                structure_hash=asked.request.structure_hash,
                task=asked.request.task,
                input_shapes=asked.request.input_shapes,
                origin=outcome.origin,
            )
        return Measurement(
            created_unix_s=self._clock(),
            key=key,
            device_id=description.device_id,
            device_name=description.name,
            agent_version=description.agent_version,
            job_id=job.job_id,
            subject_id=asked.subject.subject_id,
            purpose=asked.request.purpose,
            outcome=outcome,
            sampled_in_turn=len(job.subjects) > 1,
        )

    def _cancel_quietly(self, job_id: str) -> None:
        try:
            self._client.cancel(job_id)
        except BoardfrontError:
            # The device is away: its job ends by its own deadline.
            return


def _asked(
    requests: Sequence[TimeRequest], description: records.DeviceDescription
) -> tuple[Asked, ...]:
    return tuple(ask(request, description, f"s{index}") for index, request in enumerate(requests))


def _label(planned: PlannedJob) -> str:
    labels = [item.request.label or item.subject.subject_id for item in planned.asked]
    return labels[0] if len(labels) == 1 else f"{labels[0]} and {len(labels) - 1} more"


def _is_lost(measurement: Measurement) -> bool:
    """Return whether the device failed and not the network."""
    failure = measurement.failure
    return failure is not None and failure.kind is records.FailureKind.DEVICE_LOST
