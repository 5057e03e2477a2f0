"""Measures networks whose bytes only the agent has: its sentinel, and what it was sent before."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boardfront.latency_models.base import Measurement
from boardfront.latency_models.key import TimeKey
from boardfront.protos import records
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boardfront.host.fleet.client import AgentClient
    from boardfront.latency_models.store import MeasurementStore

    Listener = Callable[[records.JobEvent], None]

REFERENCE = "reference"
"""The reference's subject id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptNetwork:
    """A network that the agent has, and the key that its time shall be of.

    Args:
        artifact_sha256: Its name on the agent.
        key: Says backend, options, cores, shapes and task.
    """

    artifact_sha256: str
    key: TimeKey


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptRequest:
    """What shall be measured again.

    Args:
        network: Whose time is wanted.
        reference: What it is alternated with and divided by; None: it is measured alone.
        quiet_s: The reference's time on a quiet device.
        precision: When to stop.
        deadlines: How long each phase may take.
        start_below_c: Wait until the device is no hotter than this.
        purpose: Why.
    """

    network: KeptNetwork
    reference: KeptNetwork | None = None
    quiet_s: float | None = None
    precision: records.Precision
    deadlines: records.Deadlines = field(default_factory=records.Deadlines)
    start_below_c: float | None = None
    purpose: records.Purpose


class KeptArtifacts:
    """Measures what one agent has, and keeps every answer in a store.

    Args:
        client: Of the device's agent.
        store: Where answers are kept.
        listener: Told the events of a running job.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        client: AgentClient,
        store: MeasurementStore,
        *,
        listener: Listener = lambda _event: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._store = store
        self._listener = listener
        self._clock = clock

    def measure(self, request: KeptRequest, description: records.DeviceDescription) -> Measurement:
        """Measure a network in a job of its own.

        Returns:
            The stored answer; its key is of what the agent really did.

        Raises:
            ArtifactGoneError: If the agent does not have the network any more.
            WrongInputError: If the agent refuses the job.
        """
        networks = {"s0": request.network}
        if request.reference is not None:
            networks[REFERENCE] = request.reference
        job = _job(request, networks, description)
        try:
            answers = self._client.run(job, {}, self._listener)
        except KeyboardInterrupt:
            self._cancel_quietly(job.job_id)
            raise
        measured = [
            self._store.append(self._measurement(job, subject, networks, answers, description))
            for subject in job.subjects
        ]
        self._client.acknowledge(job.job_id)
        return measured[0]

    def _measurement(
        self,
        job: records.Job,
        subject: records.Subject,
        networks: Mapping[str, KeptNetwork],
        answers: Mapping[str, records.Result | records.Failure],
        description: records.DeviceDescription,
    ) -> Measurement:
        outcome = answers.get(subject.subject_id)
        if outcome is None:
            raise BoardfrontError(
                f"the agent finished job {job.job_id} without an answer for "
                f"{subject.subject_id}: see the agent's log"
            )
        key = networks[subject.subject_id].key
        if isinstance(outcome, records.Result):
            key = TimeKey.of_target(
                outcome.target,
                structure_hash=key.structure_hash,
                task=key.task,
                input_shapes=dict(key.input_shapes),
                origin=outcome.origin,
            )
        of_reference = subject.subject_id == REFERENCE
        return Measurement(
            created_unix_s=self._clock(),
            key=key,
            device_id=description.device_id,
            device_name=description.name,
            agent_version=description.agent_version,
            job_id=job.job_id,
            subject_id=subject.subject_id,
            purpose=records.Purpose.SENTINEL if of_reference else job.purpose,
            outcome=outcome,
            sampled_in_turn=len(job.subjects) > 1,
        )

    def _cancel_quietly(self, job_id: str) -> None:
        try:
            self._client.cancel(job_id)
        except BoardfrontError:
            # The device is away: its job ends by its own deadline.
            return


def _job(
    request: KeptRequest,
    networks: Mapping[str, KeptNetwork],
    description: records.DeviceDescription,
) -> records.Job:
    reference = None
    if request.reference is not None:
        reference = records.Reference(subject_id=REFERENCE, quiet_s=request.quiet_s)
    return records.Job(
        job_id=uuid.uuid4().hex,
        subjects=tuple(
            _subject(subject_id, network, description) for subject_id, network in networks.items()
        ),
        task=request.network.key.task,
        precision=request.precision,
        deadlines=request.deadlines,
        purpose=request.purpose,
        reference=reference,
        start_below_c=request.start_below_c,
    )


def _subject(
    subject_id: str, network: KeptNetwork, description: records.DeviceDescription
) -> records.Subject:
    key = network.key
    info = description.backend(key.backend)
    # A default is left out: it may be one that could not be asked for, such as "".
    defaults = {option.name: option.default for option in info.options} if info else {}
    return records.Subject(
        subject_id=subject_id,
        artifact_sha256=network.artifact_sha256,
        backend=key.backend,
        options={name: value for name, value in key.options if defaults.get(name) != value},
        input_shapes=dict(key.input_shapes),
        cpus="" if key.cpus == description.default_cpus else key.cpus,
    )
