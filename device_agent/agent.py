"""The agent without its wire: what it knows of itself, its artifacts and its queue."""

from __future__ import annotations

import fcntl
import platform
import threading
from importlib.metadata import PackageNotFoundError, version
from typing import IO, TYPE_CHECKING

from google.protobuf import json_format

from boardfront.device_agent import environment
from boardfront.device_agent.artifacts import ArtifactStore
from boardfront.device_agent.backends import catalog
from boardfront.device_agent.backends.base import BackendError
from boardfront.device_agent.jobs import JobQueue
from boardfront.device_agent.process import WorkerProcess
from boardfront.device_agent.runner import Prepared
from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

_PROBE_WITHIN_S = 60.0


class Agent:
    """Everything one device offers. Thread-safe.

    Args:
        state: Folder for artifacts, jobs and identity; one agent at a time may own it.
        name: What people call the device; default is its host name.
        artifact_limit_bytes: Largest artifact it takes.

    Raises:
        BoardfrontError: If another agent owns the folder.
    """

    def __init__(
        self, state: Path, *, name: str | None = None, artifact_limit_bytes: int = 1 << 30
    ) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._lock = _own(state)
        self._state = state
        self._name = name or platform.node()
        self._probed: tuple[records.BackendInfo, ...] | None = None
        self._probing = threading.Lock()
        self.artifacts = ArtifactStore(state / "artifacts", limit_bytes=artifact_limit_bytes)
        self.jobs = JobQueue(state / "jobs", self._prepare)

    def start(self) -> None:
        """Recover earlier jobs and begin to run."""
        self.jobs.start()

    def stop(self) -> None:
        """Stop running and give the folder back."""
        self.jobs.stop()
        self._lock.close()

    def describe(self) -> records.DeviceDescription:
        """Describe the device as it is now; backends were probed once, in a worker."""
        hardware = environment.read_hardware()
        system = environment.read_system()
        return records.DeviceDescription(
            device_id=environment.read_device_id(self._state),
            name=self._name,
            hardware=hardware,
            system=system,
            fingerprint=environment.fingerprint(hardware, system),
            agent_version=_version(),
            protocol_version=records.PROTOCOL_VERSION,
            measurement_protocol_version=records.MEASUREMENT_PROTOCOL_VERSION,
            backends=self._backends(),
            queued_jobs=self.jobs.queued,
        )

    def submit(self, job: records.Job) -> tuple[records.JobState, bool]:
        """Check a job against what this device can do, and queue it.

        Raises:
            WrongInputError: If a backend, an option or the job itself is wrong.
            MissingArtifactError: If an artifact has to be sent first.
        """
        missing = self.artifacts.missing({s.artifact_sha256 for s in job.subjects})
        if missing:
            raise MissingArtifactError(f"artifact {missing[0][:12]} is not here: upload it first")
        for subject in job.subjects:
            options = self._resolve(subject)
            if len(job.subjects) > 1 and _spins(options):
                raise WrongInputError(
                    "option spinning=on: idle threads of one subject would slow the others of its "
                    "job: set spinning=off"
                )
        return self.jobs.submit(job)

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

    def _prepare(self, job: records.Job, subject: records.Subject) -> Prepared | records.Failure:
        del job
        artifact = self.artifacts.path(subject.artifact_sha256)
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
        )
        return Prepared(subject=subject, target=target, origin=info.origin, artifact=artifact)

    def _backends(self) -> tuple[records.BackendInfo, ...]:
        with self._probing:
            if self._probed is None:
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
