"""The Measurer of one device: looks a time up, or has the device measure it."""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boardfront.host.fleet.client import AgentClient, JobForgottenError, artifact_name
from boardfront.host.fleet.kept_artifacts import KeptArtifacts
from boardfront.host.fleet.sentinel import Sentinel, SentinelRule, sentinel_key
from boardfront.latency_models.base import Measurement, ReferenceModel, TimeRequest
from boardfront.latency_models.key import TimeKey
from boardfront.protos import records
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from boardfront.latency_models.store import MeasurementStore

    Listener = Callable[[str, records.JobEvent], None]

MAX_TOGETHER = 8
"""Subjects of one job: each keeps a worker with its runtime in the device's memory."""


_REFERENCE = "reference"
"""The reference's subject id in every job that has one."""

_DESCRIPTION_HOLDS_S = 5.0
"""A search asks several times a second; what a device is does not change that fast."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """A request with what was worked out for it."""

    request: TimeRequest
    subject: records.Subject
    key: TimeKey


class DeviceMeasurer:
    """Measures on one device and keeps every answer in a store.

    Implements `latency_models.base.Measurer`.

    Args:
        client: Of the device's agent.
        store: Where answers are looked up and kept.
        listener: Told (label, event) while a job runs.
        clock: Seconds since 1970.
        sentinel: When the device's sentinel is timed, for requests without a reference (which
            does that job itself); None: never.

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
    ) -> None:
        self._client = client
        self._store = store
        self._listener = listener
        self._clock = clock
        self._sentinel_rule = sentinel
        self._sentinels: dict[str, Sentinel] = {}
        self._described: records.DeviceDescription | None = None
        self._described_s = 0.0

    def measure(self, requests: Sequence[TimeRequest]) -> Iterator[Measurement]:
        """Answer the requests one after the other, each in a job of its own."""
        for request in requests:
            description = self._describe()
            asked = _ask(request, description, "s0")
            yield self._known(asked) or self._run_watched((asked,), description)[0]

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
        description = self._describe()
        asked = tuple(
            _ask(request, description, f"s{index}") for index, request in enumerate(requests)
        )
        return self._run_watched(asked, description)

    def _describe(self) -> records.DeviceDescription:
        """Ask what the device is now; one that answered before may be away for a while."""
        known = self._described
        if known is None or time.monotonic() - self._described_s > _DESCRIPTION_HOLDS_S:
            known = self._client.describe(patient=known is not None)
            self._described, self._described_s = known, time.monotonic()
        return known

    def _known(self, asked: _Asked) -> Measurement | None:
        if asked.request.fresh:
            return None
        reference = asked.request.reference
        return self._store.lookup(
            asked.key,
            precision=asked.request.precision,
            reference_sha256=reference.sha256 if reference else None,
        )

    def _run_watched(
        self, asked: tuple[_Asked, ...], description: records.DeviceDescription
    ) -> tuple[Measurement, ...]:
        """Run a job after a look at the sentinel, where one is due."""
        sentinel = self._sentinel(asked[0], description)
        if sentinel is not None and sentinel.is_due:
            sentinel.look(description)
        answers = self._run(asked, description)
        if sentinel is not None:
            sentinel.note([item.request for item in asked], answers)
        return answers

    def _sentinel(self, asked: _Asked, description: records.DeviceDescription) -> Sentinel | None:
        """Return the sentinel of a request's target."""
        rule = self._sentinel_rule
        if rule is None or asked.request.reference is not None:
            return None
        key = sentinel_key(asked.key, description)
        if key is None:
            return None
        if key.digest not in self._sentinels:
            kept = KeptArtifacts(self._client, self._store, clock=self._clock)
            self._sentinels[key.digest] = Sentinel(
                kept, self._store, key, device_id=description.device_id, rule=rule
            )
        return self._sentinels[key.digest]

    def _run(
        self, asked: tuple[_Asked, ...], description: records.DeviceDescription
    ) -> tuple[Measurement, ...]:
        beside = _ask_reference(asked[0].request, description)
        job = _job(asked, beside)
        stored = [self._store.find(job.job_id, item.subject.subject_id) for item in asked]
        kept = tuple(measurement for measurement in stored if measurement is not None)
        if len(kept) == len(asked):
            # An earlier life of ours ended before it could say so.
            self._client.acknowledge(job.job_id)
            return kept
        artifacts = {
            item.subject.artifact_sha256: item.request.model
            for item in (*asked, *((beside,) if beside else ()))
        }
        labels = {item.subject.subject_id: item.request.label for item in asked}

        def listen(event: records.JobEvent) -> None:
            self._listener(labels.get(event.subject_id, asked[0].request.label), event)

        try:
            answers = self._client.run(job, artifacts, listen)
        except JobForgottenError:
            # Its results went to another store: this store needs a measurement of its own.
            job = _job(asked, beside, unique=True)
            answers = self._client.run(job, artifacts, listen)
        except KeyboardInterrupt:
            self._cancel_quietly(job.job_id)
            raise
        measurements = tuple(
            self._store.append(self._measurement(item, job, description, answers))
            for item in asked
        )
        if beside is not None:
            self._store.append(self._measurement(beside, job, description, answers))
        self._client.acknowledge(job.job_id)
        return measurements

    def _measurement(
        self,
        asked: _Asked,
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


def _ask(request: TimeRequest, description: records.DeviceDescription, subject_id: str) -> _Asked:
    info = _backend(request.backend, description)
    options = {option.name: option.default for option in info.options} | dict(request.options)
    target = records.Target(
        fingerprint=description.fingerprint,
        backend=info.name,
        backend_version=info.version,
        options=options,
        cpus=request.cpus or description.default_cpus,
    )
    return _Asked(
        request=request,
        subject=records.Subject(
            subject_id=subject_id,
            artifact_sha256=artifact_name(request.model),
            backend=request.backend,
            options=dict(request.options),
            input_shapes=dict(request.input_shapes),
            cpus=request.cpus,
            tuning_budget_s=request.tuning_budget_s,
        ),
        key=TimeKey.of_target(
            target,
            structure_hash=request.structure_hash,
            task=request.task,
            input_shapes=request.input_shapes,
            origin=info.origin,
        ),
    )


def _ask_reference(request: TimeRequest, description: records.DeviceDescription) -> _Asked | None:
    """Return the request's reference as a subject of its own, under the same conditions."""
    reference = request.reference
    if reference is None:
        return None
    beside = replace(
        request,
        model=reference.model,
        structure_hash=reference.structure_hash,
        input_shapes=reference.input_shapes,
        label=reference.label,
        task=reference.task or request.task,
        backend=reference.backend or request.backend,
        options=request.options if reference.options is None else reference.options,
        cpus=request.cpus if reference.cpus is None else reference.cpus,
        purpose=records.Purpose.SENTINEL,
        reference=None,
    )
    return _ask(beside, description, _REFERENCE)


def room_together(reference: ReferenceModel | None) -> int:
    """Return how many requests fit into one job, beside the reference if there is one."""
    return MAX_TOGETHER if reference is None else MAX_TOGETHER - 1


def _backend(name: str, description: records.DeviceDescription) -> records.BackendInfo:
    """Return what the device says of a backend.

    Raises:
        WrongInputError: If it has none of this name, or says why it cannot use it.
    """
    info = description.backend(name)
    if info is None:
        known = sorted(backend.name for backend in description.backends)
        raise WrongInputError(
            f"unknown backend {name!r} on device {description.name}: expected one of {known}"
        )
    if not info.available:
        raise WrongInputError(f"backend {name!r} on device {description.name}: {info.reason}")
    return info


def _job(asked: tuple[_Asked, ...], beside: _Asked | None, *, unique: bool = False) -> records.Job:
    """Return the job of these requests; the same seed and requests make the same job id."""
    first = asked[0].request
    subjects = (*asked, *((beside,) if beside else ()))
    if unique or not first.job_seed:
        job_id = uuid.uuid4().hex
    else:
        parts = [
            first.job_seed,
            *(f"{one.key.digest} {one.subject.artifact_sha256}" for one in subjects),
        ]
        job_id = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    reference = None
    if first.reference is not None:
        reference = records.Reference(subject_id=_REFERENCE, quiet_s=first.reference.quiet_s)
    return records.Job(
        job_id=job_id,
        subjects=tuple(_with_task(item, first.task) for item in subjects),
        reference=reference,
        start_below_c=first.start_below_c,
        task=first.task,
        precision=first.precision,
        deadlines=first.deadlines,
        purpose=first.purpose,
    )


def _with_task(asked: _Asked, common: records.Task) -> records.Subject:
    """Return the subject, with a task of its own where that differs from the job's."""
    if asked.request.task == common:
        return asked.subject
    return replace(asked.subject, task=asked.request.task)
