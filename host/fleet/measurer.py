"""The Measurer of one device: looks a time up, or has the device measure it."""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host.fleet.client import AgentClient, JobForgottenError, artifact_name
from boardfront.latency_models.base import Measurement, TimeRequest
from boardfront.latency_models.key import TimeKey
from boardfront.protos import records
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from boardfront.latency_models.store import MeasurementStore

    Listener = Callable[[str, records.JobEvent], None]

MAX_TOGETHER = 8
"""Subjects of one job: each keeps a worker with its runtime in the device's memory."""


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
    ) -> None:
        self._client = client
        self._store = store
        self._listener = listener
        self._clock = clock
        self._has_answered = False

    def measure(self, requests: Sequence[TimeRequest]) -> Iterator[Measurement]:
        """Answer the requests one after the other, each in a job of its own."""
        description = self._describe()
        for request in requests:
            asked = _ask(request, description, "s0")
            yield self._known(asked) or self._run((asked,), description)[0]

    def measure_together(self, requests: Sequence[TimeRequest]) -> tuple[Measurement, ...]:
        """Measure requests in one job, their windows interleaved: what compares them is fair.

        Args:
            requests: One to `MAX_TOGETHER`, of equal task, precision, deadlines, purpose and
                job seed. All are measured, whatever the store holds.

        Returns:
            One answer a request, in order.
        """
        if not 1 <= len(requests) <= MAX_TOGETHER:
            raise WrongInputError(
                f"{len(requests)} requests together: expected 1 to {MAX_TOGETHER}"
            )
        description = self._describe()
        asked = tuple(
            _ask(request, description, f"s{index}") for index, request in enumerate(requests)
        )
        return self._run(asked, description)

    def _describe(self) -> records.DeviceDescription:
        """Ask what the device is now; one that answered before may be away for a while."""
        description = self._client.describe(patient=self._has_answered)
        self._has_answered = True
        return description

    def _known(self, asked: _Asked) -> Measurement | None:
        if asked.request.fresh:
            return None
        return self._store.lookup(asked.key, precision=asked.request.precision)

    def _run(
        self, asked: tuple[_Asked, ...], description: records.DeviceDescription
    ) -> tuple[Measurement, ...]:
        job = _job(asked)
        stored = [self._store.find(job.job_id, item.subject.subject_id) for item in asked]
        kept = tuple(measurement for measurement in stored if measurement is not None)
        if len(kept) == len(asked):
            # An earlier life of ours ended before it could say so.
            self._client.acknowledge(job.job_id)
            return kept
        artifacts = {item.subject.artifact_sha256: item.request.model for item in asked}
        labels = {item.subject.subject_id: item.request.label for item in asked}

        def listen(event: records.JobEvent) -> None:
            self._listener(labels.get(event.subject_id, asked[0].request.label), event)

        try:
            answers = self._client.run(job, artifacts, listen)
        except JobForgottenError:
            # Its results went to another store: this store needs a measurement of its own.
            job = _job(asked, unique=True)
            answers = self._client.run(job, artifacts, listen)
        except KeyboardInterrupt:
            self._cancel_quietly(job.job_id)
            raise
        measurements = tuple(
            self._store.append(self._measurement(item, job, description, answers))
            for item in asked
        )
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
    )
    return _Asked(
        request=request,
        subject=records.Subject(
            subject_id=subject_id,
            artifact_sha256=artifact_name(request.model),
            backend=request.backend,
            options=dict(request.options),
            input_shapes=dict(request.input_shapes),
        ),
        key=TimeKey.of_target(
            target,
            structure_hash=request.structure_hash,
            task=request.task,
            input_shapes=request.input_shapes,
            origin=info.origin,
        ),
    )


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


def _job(asked: tuple[_Asked, ...], *, unique: bool = False) -> records.Job:
    """Return the job of these requests; the same seed and requests make the same job id."""
    first = asked[0].request
    if unique or not first.job_seed:
        job_id = uuid.uuid4().hex
    else:
        parts = [first.job_seed, *(f"{a.key.digest} {a.subject.artifact_sha256}" for a in asked)]
        job_id = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    return records.Job(
        job_id=job_id,
        subjects=tuple(item.subject for item in asked),
        task=first.task,
        precision=first.precision,
        deadlines=first.deadlines,
        purpose=first.purpose,
    )
