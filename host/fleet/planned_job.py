"""From what is wanted to the job that answers it, and the key of each answer."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boardfront.host.fleet.client import artifact_name
from boardfront.host.fleet.compiling import is_compiled_here
from boardfront.latency_models.key import TimeKey
from boardfront.protos import records
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.latency_models.base import ReferenceModel, TimeRequest

MAX_TOGETHER = 8
"""Subjects of one job: each keeps a worker with its runtime in the device's memory."""


_UNTUNED = "untuned"
"""What the TVM backend's targets say of code that has no tuned schedule."""

_REFERENCE = "reference"
"""The reference's subject id in every job that has one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request with what was worked out for it."""

    request: TimeRequest
    subject: records.Subject
    key: TimeKey


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedJob:
    """A job that can be sent to the device and finished later. `DeviceMeasurer.plan` makes it.

    Args:
        asked: Its requests.
        beside: The reference that they are divided by, if there is one.
        job: What the agent gets.
        description: Of the device, as it was when the job was planned.
    """

    asked: tuple[Asked, ...]
    beside: Asked | None
    job: records.Job
    description: records.DeviceDescription

    @property
    def artifacts(self) -> dict[str, bytes]:
        """The bytes of the networks that the job names, by sha256."""
        items = (*self.asked, *((self.beside,) if self.beside else ()))
        return {item.subject.artifact_sha256: item.request.model for item in items}


def ask(request: TimeRequest, description: records.DeviceDescription, subject_id: str) -> Asked:
    """Return a request as a subject, with the key of its time.

    Raises:
        WrongInputError: If the device cannot use the backend.
    """
    info = _backend(request.backend, description)
    options = {option.name: option.default for option in info.options} | dict(request.options)
    target = records.Target(
        fingerprint=description.fingerprint,
        backend=info.name,
        backend_version=info.version,
        options=options,
        tuning=_tuning(info.name, options),
        cpus=request.cpus or description.default_cpus,
    )
    return Asked(
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


def _tuning(backend: str, options: Mapping[str, str]) -> str:
    """Return what is known of a target's tuned code before its network is compiled."""
    untuned = options.get("tuning") == "off" or is_compiled_here(backend, options)
    return _UNTUNED if untuned else ""


def ask_reference(request: TimeRequest, description: records.DeviceDescription) -> Asked | None:
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
    return ask(beside, description, _REFERENCE)


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


def jobs_of(asked: tuple[Asked, ...], beside: Asked | None, place: str) -> tuple[records.Job, ...]:
    """Return the jobs that may answer requests, the first one first.

    The agent may have given the first one's results to another store, or know it with another
    precision. The second belongs to this store and this precision alone, and has a name as well:
    whoever asks again finds it.

    Args:
        asked: In order.
        beside: The reference.
        place: Of the store.
    """
    first = asked[0].request
    salt = f"{place} {first.precision} {first.deadlines} {first.start_below_c}"
    return make_job(asked, beside), make_job(asked, beside, salt=salt)


def make_job(
    asked: tuple[Asked, ...], beside: Asked | None, *, unique: bool = False, salt: str = ""
) -> records.Job:
    """Return the job of these requests; the same seed and requests make the same job id.

    Args:
        asked: In order.
        beside: The reference.
        unique: Give it an id that no job ever has again.
        salt: Tells jobs of the same seed and requests apart.
    """
    first = asked[0].request
    subjects = (*asked, *((beside,) if beside else ()))
    if unique or not first.job_seed:
        job_id = uuid.uuid4().hex
    else:
        parts = [
            first.job_seed,
            *(f"{one.key.digest} {one.subject.artifact_sha256}" for one in subjects),
            *((salt,) if salt else ()),
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


def _with_task(asked: Asked, common: records.Task) -> records.Subject:
    """Return the subject, with a task of its own where that differs from the job's."""
    if asked.request.task == common:
        return asked.subject
    return replace(asked.subject, task=asked.request.task)
