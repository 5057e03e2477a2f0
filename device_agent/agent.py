"""The agent without its wire: what it knows of itself, its artifacts and its queue."""

from __future__ import annotations

import fcntl
import platform
import threading
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import IO, TYPE_CHECKING

from google.protobuf import json_format

from boardfront.device_agent import (
    cores,
    environment,
    isolation,
    protections,
    sentinel,
    sysfs,
)
from boardfront.device_agent.artifacts import ArtifactLimits, ArtifactStore
from boardfront.device_agent.backends import catalog
from boardfront.device_agent.backends.base import BackendError
from boardfront.device_agent.jobs import JobQueue
from boardfront.device_agent.lease_desk import LeaseDesk
from boardfront.device_agent.process import WorkerFailedError, WorkerProcess
from boardfront.device_agent.protections import WorkerBounds
from boardfront.device_agent.runner import Prepared
from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.device_agent.clocks import ClockLock

_PROBE_WITHIN_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerRules:
    """What workers may do and take.

    Args:
        memory_bytes: Of one worker; None: 80 % of the machine's memory.
        native_code: Whether libraries that a host compiled may be run.
        isolation: What they are kept from: one of isolation.OFF, AUTO, ON.
    """

    memory_bytes: int | None = None
    native_code: bool = False
    isolation: str = isolation.AUTO


class Agent:
    """Everything one device offers. Thread-safe.

    Args:
        state: Folder for artifacts, jobs and identity; one agent at a time may own it.
        name: What people call the device; default is its host name.
        clocks: Tells where clocks are held, for the description; whoever made it holds them.
        artifact_limits: Which artifacts it takes and keeps; None: the defaults.
        workers: What workers may do and take; None: the defaults.
        root: Where the device's files are; another folder than / describes another device.

    Raises:
        WrongInputError: If `root` is no folder.
        BoardfrontError: If another agent owns the state folder.
    """

    def __init__(
        self,
        state: Path,
        *,
        name: str | None = None,
        clocks: ClockLock | None = None,
        artifact_limits: ArtifactLimits | None = None,
        workers: WorkerRules | None = None,
        root: Path = sysfs.ROOT,
    ) -> None:
        if not root.is_dir():
            raise WrongInputError(f"--root {root}: expected a folder with sys and proc in it")
        # Networks are secrets to some, and the device's keys to everybody.
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _own(state)
        # What workers may write or must not see has to be there before the first of them starts.
        (state / isolation.WRITABLE).mkdir(exist_ok=True)
        (state / isolation.SOCKETS).mkdir(mode=0o700, exist_ok=True)
        self._state = state
        self.root = root
        self._workers = workers or WorkerRules()
        self._bounds = WorkerBounds(
            memory_bytes=self._workers.memory_bytes, isolation=self._workers.isolation, state=state
        )
        self._name = name or platform.node()
        self._clocks = clocks
        self._probed: tuple[records.BackendInfo, ...] | None = None
        self._probing = threading.Lock()
        self._leases = LeaseDesk(state / "lease.json")
        self.jobs = JobQueue(
            state / "jobs",
            self._prepare,
            self._leases,
            bounds=self._bounds,
            root=root,
        )
        self.artifacts = ArtifactStore(
            state / "artifacts", limits=artifact_limits, in_use=self.jobs.artifacts_in_use
        )

    def start(self) -> None:
        """Recover earlier jobs and begin to run.

        Raises:
            BoardfrontError: If workers are to be isolated and the system refuses.
        """
        if self._workers.isolation == isolation.ON:
            self._check_isolation()
        self.jobs.start()
        # Only now it is known which artifacts the earlier jobs need.
        self.artifacts.evict()

    def stop(self) -> None:
        """Stop running and give the folder back."""
        self.jobs.stop()
        self._lock.close()

    def describe(self) -> records.DeviceDescription:
        """Describe the device as it is now; backends were probed once, in a worker."""
        hardware = environment.read_hardware(self.root)
        if self._clocks is not None:
            hardware = replace(hardware, clusters=self._clocks.held(hardware.clusters))
        system = environment.read_system(self.root)
        return records.DeviceDescription(
            device_id=environment.read_device_id(self._state, self.root),
            name=self._name,
            hardware=hardware,
            system=system,
            fingerprint=environment.fingerprint(hardware, system),
            agent_version=_version(),
            protocol_version=records.PROTOCOL_VERSION,
            measurement_protocol_version=records.MEASUREMENT_PROTOCOL_VERSION,
            backends=self._backends(),
            queued_jobs=self.jobs.queued,
            default_cpus=cores.default_cpus(self.root),
            sentinel_sha256=sentinel.sha256(),
        )

    def submit(self, job: records.Job) -> tuple[records.JobState, bool]:
        """Check a job against what this device can do, and queue it.

        Raises:
            WrongInputError: If a backend, an option, a core or the job itself is wrong.
            MissingArtifactError: If an artifact has to be sent first.
            LeaseLostError: If its token is not that of the lease of the moment.
        """
        # Before anything is sent for it: a late holder would send in vain.
        self.jobs.check_lease(job)
        named = {s.artifact_sha256 for s in job.subjects} - {sentinel.sha256()}
        missing = self.artifacts.missing(named)
        if missing:
            raise MissingArtifactError(f"artifact {missing[0][:12]} is not here: upload it first")
        for subject in job.subjects:
            options = self._resolve(subject)
            self._cpus(subject)
            if len(job.subjects) > 1 and _spins(options):
                raise WrongInputError(
                    "option spinning=on: idle threads of one subject would slow the others of its "
                    "job: set spinning=off"
                )
        return self.jobs.submit(job)

    def acquire_lease(self, request: records.AcquireLeaseRequest) -> records.AcquireLeaseReply:
        """Give the device to a client, put it in the queue, or renew either.

        Raises:
            WrongInputError: If the request breaks the rules.
            BoardfrontError: If too many wait, or the disk does not take it.
        """
        reply = self._leases.acquire(request)
        self.jobs.obey_leases()
        return reply

    def release_lease(self, lease_id: str) -> None:
        """Take the device, or a place in its queue, back; unknown ids are no error."""
        self._leases.release(lease_id)
        self.jobs.obey_leases()

    def show_lease(self) -> records.LeaseStatus:
        """Tell who holds the device, and who waits."""
        return self._leases.status()

    def _resolve(self, subject: records.Subject) -> dict[str, str]:
        info = next((b for b in self._backends() if b.name == subject.backend), None)
        if info is None:
            known = sorted(b.name for b in self._backends())
            raise WrongInputError(
                f"unknown backend {subject.backend!r} on {self._name}: expected one of {known}"
            )
        if not info.available:
            raise WrongInputError(f"backend {info.name} on {self._name}: {info.reason}")
        try:
            return catalog.load(info.name).resolve(subject.options, info)
        except BackendError as error:
            raise WrongInputError(str(error)) from error

    def _cpus(self, subject: records.Subject) -> str:
        if not subject.cpus:
            return cores.default_cpus(self.root)
        return cores.resolve_cpus(subject.cpus, cores.allowed_cpus(self.root))

    def _prepare(self, job: records.Job, subject: records.Subject) -> Prepared | records.Failure:
        del job
        carried = subject.artifact_sha256 == sentinel.sha256()
        artifact = sentinel.FILE if carried else self.artifacts.path(subject.artifact_sha256)
        if artifact is None:
            return records.Failure(
                kind=records.FailureKind.INVALID_ARTIFACT,
                message=f"artifact {subject.artifact_sha256[:12]} is gone: upload it again",
            )
        options = self._resolve(subject)
        info = next(b for b in self._backends() if b.name == subject.backend)
        description = self.describe()
        target = records.Target(
            fingerprint=description.fingerprint,
            backend=info.name,
            backend_version=info.version,
            options=options,
            cpus=self._cpus(subject),
        )
        return Prepared(
            subject=subject,
            target=target,
            origin=info.origin,
            artifact=artifact,
            state=self._state / isolation.WRITABLE,
            native_code=self._workers.native_code,
        )

    def _check_isolation(self) -> None:
        try:
            with protections.workers(self._bounds), WorkerProcess() as worker:
                found = worker.protections()
        except WorkerFailedError as error:
            reason, remedy = protections.obstacle()
            detail = error.failure.detail.splitlines()[-1:] or [error.failure.message]
            raise BoardfrontError(
                f"--worker-isolation on: {reason} ({detail[0]}): {remedy}"
            ) from None
        if not (found.no_new_privileges and found.no_network and found.sealed_files):
            raise BoardfrontError(f"--worker-isolation on: a worker is not isolated: {found}")

    def _backends(self) -> tuple[records.BackendInfo, ...]:
        with self._probing:
            if self._probed is None:
                with protections.workers(self._bounds):
                    self._probed = _probe()
            return self._probed


class MissingArtifactError(BoardfrontError):
    """A job names an artifact that the agent does not have."""


def _probe() -> tuple[records.BackendInfo, ...]:
    with WorkerProcess() as worker:
        answer = worker.ask({"do": "probe"}, within_s=_PROBE_WITHIN_S, what="probe")
    return tuple(
        codec.from_message(
            json_format.ParseDict(item, agent_pb2.BackendInfo()), records.BackendInfo
        )
        for item in answer["backends"]
    )


def _spins(options: dict[str, str]) -> bool:
    return options.get("spinning") == "on" and options.get("threads") != "1"


def _own(state: Path) -> IO[str]:
    """Lock the folder for the life of this process."""
    file = (state / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise BoardfrontError(
            f"another agent runs on {state}: stop it, or give this one another --state folder"
        ) from None
    return file


def _version() -> str:
    try:
        return version("boardfront")
    except PackageNotFoundError:
        return "unknown"
