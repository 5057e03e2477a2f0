"""The records that host and agent exchange, free of any wire format.

Every quantity carries its unit as a suffix. `None` means "not known on this machine"; no number
ever stands for a failure or for a missing reading.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping  # noqa: TC003 - codec.py resolves the annotations
from dataclasses import dataclass, field

PROTOCOL_VERSION = 1
"""Version of the wire contract `boardfront.v1`; an agent and a host must agree on it."""

MEASUREMENT_PROTOCOL_VERSION = 2
"""Version of the rules of timing. It is part of a time's key: other rules, other times."""


class TaskKind(enum.Enum):
    """What is timed."""

    INFERENCE = "inference"
    TRAINING_STEP = "training-step"
    TRAINING_STEP_GRAPH = "training-step-graph"


class CacheState(enum.Enum):
    """What the timed call finds in the processor's caches."""

    WARM = "warm"
    COLD = "cold"


class Origin(enum.Enum):
    """Where a time comes from. Only `MEASURED` may be acted upon."""

    MEASURED = "measured"
    EMULATED = "emulated"
    SIMULATED = "simulated"
    PROGRAMMED = "programmed"


class Purpose(enum.Enum):
    """Why a measurement was taken."""

    CANDIDATE = "candidate"
    FINALIST = "finalist"
    SENTINEL = "sentinel"
    AUDIT = "audit"
    RETRY = "retry"


class Verdict(enum.Enum):
    """Whether a measurement can be trusted."""

    OK = "ok"
    UNSTABLE = "unstable"
    THROTTLED = "throttled"
    CONTENDED = "contended"
    DRIFTED = "drifted"


class FailureKind(enum.Enum):
    """Why there is no measurement. CANCELLED: a person ended it; hosts say so, never agents."""

    TIMEOUT = "timeout"
    CRASHED = "crashed"
    UNSUPPORTED = "unsupported"
    OUT_OF_MEMORY = "out_of_memory"
    UNSTABLE = "unstable"
    INVALID_ARTIFACT = "invalid_artifact"
    DEVICE_LOST = "device_lost"
    CANCELLED = "cancelled"


class JobState(enum.Enum):
    """Where a job stands on its agent."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    ACKNOWLEDGED = "acknowledged"

    @property
    def is_final(self) -> bool:
        """Whether no further event can follow."""
        return self in {JobState.COMPLETED, JobState.CANCELLED, JobState.ACKNOWLEDGED}


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is timed, in full; two times compare only where their tasks are equal.

    `resolution` (pixels a side) and `classes` are None for a model that is not one of our
    spaces' image classifiers. `frozen_stages` counts from the input, the stem first: their
    parameters are not updated, their batch-norm statistics are; 0 freezes nothing. It is NASOA's
    number (-1..3) plus one.
    """

    kind: TaskKind = TaskKind.INFERENCE
    batch: int = 1
    resolution: int | None = None
    classes: int | None = None
    frozen_stages: int = 0
    cache: CacheState = CacheState.WARM


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """When a measurement may stop.

    Args:
        relative_half_width: Half the 95 % interval's width over the median, e.g. 0.01.
        min_duration_s: The windows are spread over at least this long. Less than 2 s is a
            coarse look and is marked as such.
        min_windows: At least six: fewer give no distribution-free 95 % interval of a median.
        max_duration_s: Give up narrowing the interval after this much of the subject's own
            device time, once there is an interval at all. 0 goes on until the run deadline.
    """

    relative_half_width: float = 0.01
    min_duration_s: float = 2.0
    min_windows: int = 6
    max_duration_s: float = 0.0

    @property
    def is_coarse(self) -> bool:
        """Whether this look is too short to see slow drift."""
        return self.min_duration_s < 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadlines:
    """How long each phase may take. Compile and run count the subject's own time on the device."""

    queue_s: float = 3600.0
    compile_s: float = 300.0
    run_s: float = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One network on one backend inside a job.

    Args:
        subject_id: Names it inside the job.
        artifact_sha256: Of the network's file.
        backend: What executes it.
        options: Of the backend; those left out take its defaults.
        input_shapes: Of dynamic inputs.
        cpus: Cores to run on, e.g. "4-7"; empty takes the device's default.
        tuning_budget_s: Search for faster code this long before compiling, where the backend
            can; 0: do not.
        task: Instead of the job's task, e.g. another batch.
    """

    subject_id: str
    artifact_sha256: str
    backend: str
    options: Mapping[str, str] = field(default_factory=dict)
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    cpus: str = ""
    tuning_budget_s: float = 0.0
    task: Task | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """The subject that the others of its job are alternated with and divided by.

    `quiet_s` is its time on a quiet device, in seconds a run; with it ratios become times again.
    """

    subject_id: str
    quiet_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A request to measure. It outlives the connection that submitted it.

    Args:
        job_id: Chosen by the client.
        subjects: What to measure; their samples are taken in turn.
        task: What is timed.
        precision: When to stop. With a reference it is asked of the ratio.
        deadlines: How long each phase may take.
        purpose: Why.
        fencing_token: Of the lease under which the job was submitted; 0 is no lease.
        reference: Which subject the others are divided by; None: none.
        start_below_c: Wait, within the queue deadline, until the device is no hotter.
    """

    job_id: str
    subjects: tuple[Subject, ...]
    task: Task
    precision: Precision = field(default_factory=Precision)
    deadlines: Deadlines = field(default_factory=Deadlines)
    purpose: Purpose = Purpose.CANDIDATE
    fencing_token: int = 0
    reference: Reference | None = None
    start_below_c: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionInfo:
    """One option of a backend: its default and what it may be set to, in words."""

    name: str
    default: str
    allowed: str
    description: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendInfo:
    """What a backend can do on this device.

    `reason` says why it is not available, and what to install.
    """

    name: str
    version: str
    available: bool
    origin: Origin = Origin.MEASURED
    tasks: tuple[TaskKind, ...] = ()
    options: tuple[OptionInfo, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuCluster:
    """Cores that share one clock.

    `cpus` is a list as the kernel writes it, e.g. "0-3"; `capacity` is the kernel's
    `cpu_capacity` (1024: the fastest core of the device); `locked_hz` is where the agent holds
    the clock.
    """

    cpus: str
    capacity: int | None = None
    max_frequency_hz: float | None = None
    governor: str | None = None
    locked_hz: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """The device's processor and memory. `max_frequency_hz` is of its fastest cluster."""

    machine: str
    cpu_model: str
    soc: str | None
    logical_cores: int
    physical_cores: int | None
    max_frequency_hz: float | None
    memory_bytes: int
    clusters: tuple[CpuCluster, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingSystem:
    """The device's system software as far as it changes times.

    `governor` is that of the cores that subjects run on by default; `drivers` are the versions of
    what the accelerators need, e.g. "rknpu".
    """

    name: str
    kernel: str
    distribution: str | None
    governor: str | None
    drivers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceDescription:
    """An agent's answer to "what are you?".

    `fingerprint` is a hash over everything that a time depends on and that is not the device's
    identity: two boards of one kind with one set-up share it. `default_cpus` are the cores of a
    subject that names none; `sentinel_sha256` is the small network that every agent carries.
    """

    device_id: str
    name: str
    hardware: Hardware
    system: OperatingSystem
    fingerprint: str
    agent_version: str
    protocol_version: int
    measurement_protocol_version: int
    backends: tuple[BackendInfo, ...]
    queued_jobs: int
    default_cpus: str = ""
    sentinel_sha256: str = ""

    def backend(self, name: str) -> BackendInfo | None:
        """Return the backend called `name`, or None."""
        return next((info for info in self.backends if info.name == name), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a time is true for: a kind of device, a backend, its options in full, its cores."""

    fingerprint: str
    backend: str
    backend_version: str
    options: Mapping[str, str]
    tuning: str = ""
    cpus: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Consecutive samples; each sample is the mean over `loops` runs."""

    start_s: float
    loops: int
    samples_s: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """What the windows say. The interval is a distribution-free 95 % one of the median."""

    median_s: float
    low_s: float
    high_s: float
    mean_s: float
    min_s: float
    max_s: float
    p90_s: float
    p99_s: float
    mad_s: float
    cv: float
    samples: int
    windows: int
    merged: int
    autocorrelation: float | None
    outliers: int

    @property
    def relative_half_width(self) -> float:
        """Half of the interval's width over the median."""
        return (self.high_s - self.low_s) / 2 / self.median_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Circumstances:
    """What else happened while the samples were taken. None: could not be read.

    `throttle_events` counts how often the hardware reported that it held itself back;
    `cooling_state_max` is the highest state of a cooling device that was not in it before;
    `telemetry_cpu_fraction` is the share of one core that reading all this took.
    """

    governor: str | None = None
    frequency_before_hz: float | None = None
    frequency_after_hz: float | None = None
    temperature_before_c: float | None = None
    temperature_after_c: float | None = None
    steal_fraction: float | None = None
    other_cpu_fraction: float | None = None
    load_average: float | None = None
    worker_peak_rss_bytes: int | None = None
    frequency_min_hz: float | None = None
    frequency_max_hz: float | None = None
    temperature_max_c: float | None = None
    throttle_events: int | None = None
    cooling_state_max: int | None = None
    npu_frequency_min_hz: float | None = None
    gpu_frequency_min_hz: float | None = None
    memory_frequency_min_hz: float | None = None
    power_w: float | None = None
    telemetry_samples: int = 0
    telemetry_cpu_fraction: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalised:
    """A subject's time as a multiple of the reference's, each window's against its own.

    Args:
        reference_subject_id: The reference inside the job.
        reference_sha256: Its artifact.
        ratio: Median over the windows' ratios of medians, with its 95 % interval.
        low: Of that interval.
        high: Of that interval.
        windows: How many windows both have.
        merged: Neighbouring windows taken together because they were correlated; 1: none.
        autocorrelation: Of the ratios that are left.
        elasticity: Relative change of the subject's time a relative change of the reference's;
            None where the level did not move enough to tell.
        reference_median_s: The reference's own median in this job.
        reference_quiet_s: Its time on a quiet device, as the client said.
        verdict: Whether the ratio can be trusted.
        evidence: The sentences that justify it.
    """

    reference_subject_id: str
    reference_sha256: str
    ratio: float
    low: float
    high: float
    windows: int
    merged: int
    autocorrelation: float | None
    elasticity: float | None
    reference_median_s: float
    reference_quiet_s: float | None
    verdict: Verdict
    evidence: tuple[str, ...]

    @property
    def relative_half_width(self) -> float:
        """Half of the interval's width over the ratio."""
        return (self.high - self.low) / 2 / self.ratio

    @property
    def median_s(self) -> float | None:
        """The time on a quiet device in seconds; None without the reference's quiet time."""
        return None if self.reference_quiet_s is None else self.ratio * self.reference_quiet_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Energy:
    """Joules of one run: the median over windows and its 95 % interval, and what was read."""

    source: str
    median_j: float
    low_j: float
    high_j: float
    windows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A subject's measurement: raw samples, circumstances, and a verdict with its evidence.

    `verdict` and `evidence` are of the time as it was; `normalised` has a verdict of its own.
    `energy` is None where nothing counts it. `parts_s` are the median seconds of what a run
    consists of, e.g. "forward"; `tuned_fraction` is the share of the network's fused tasks that
    were tuned, None where nothing is tuned at all.
    """

    subject_id: str
    artifact_sha256: str
    artifact_bytes: int
    target: Target
    origin: Origin
    verdict: Verdict
    evidence: tuple[str, ...]
    statistics: Statistics
    precision: Precision
    windows: tuple[Window, ...]
    warm_up_s: tuple[float, ...]
    first_run_s: float
    load_s: float
    compile_s: float
    run_s: float
    circumstances: Circumstances
    normalised: Normalised | None = None
    energy: Energy | None = None
    parts_s: Mapping[str, float] = field(default_factory=dict)
    tuned_fraction: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a subject has no measurement. `detail` holds the last lines of the worker's stderr."""

    kind: FailureKind
    message: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Queued:
    """The job waits; `position` jobs are before it."""

    position: int


class Phase(enum.Enum):
    """What a worker is doing."""

    LOADING = "loading"
    COMPILING = "compiling"
    WARMING_UP = "warming-up"
    COOLING_DOWN = "cooling-down"
    TUNING = "tuning"


@dataclass(frozen=True, kw_only=True, slots=True)
class Working:
    """A subject entered a phase that has no interval to show yet."""

    phase: Phase


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """The interval so far. `low_s` and `high_s` are None until there are six windows."""

    windows: int
    median_s: float
    low_s: float | None
    high_s: float | None
    elapsed_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Interrupted:
    """The agent stopped while the job ran; the job is in the queue again."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The job's last event."""

    state: JobState


EventBody = Queued | Working | Sampling | Interrupted | Result | Failure | Finished


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEvent:
    """One step of a job. `index` counts from 0 without gaps and never changes.

    `subject_id` is empty for events of the whole job.
    """

    index: int
    time_unix_s: float
    subject_id: str
    body: EventBody


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningJob:
    """What a device is busy with.

    Args:
        job_id: Of the job.
        purpose: Why it is measured.
        since_s: For how long it has run.
        phase: Of the subject that is at work; None: its samples are taken.
        phase_since_s: For how long.
        phase_budget_s: For how long the phase was asked for, as tuning is; None: nobody said.
        windows: Of the subject that was sampled last.
    """

    job_id: str
    purpose: Purpose
    since_s: float
    phase: Phase | None = None
    phase_since_s: float = 0.0
    phase_budget_s: float | None = None
    windows: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class JobCounts:
    """What came of jobs since the agent started.

    Args:
        jobs: Completed ones.
        verdicts: Subjects by their verdict, e.g. "ok"; references that others are divided by do
            not count, and of those that are divided the ratio's verdict does.
        failures: Subjects by the kind of their failure, e.g. "timeout".
    """

    jobs: int
    verdicts: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TelemetrySample:
    """The device's state at one moment. None: could not be read.

    `temperatures_c` is by thermal zone, `frequencies_hz` by cluster, named by its cores. An older
    agent tells neither `running` nor `counts` nor `lease`.
    """

    time_unix_s: float
    temperature_c: float | None = None
    frequency_hz: float | None = None
    governor: str | None = None
    cpu_fraction: float | None = None
    memory_available_bytes: int | None = None
    power_w: float | None = None
    running_job_id: str | None = None
    queued_jobs: int = 0
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    frequencies_hz: Mapping[str, float] = field(default_factory=dict)
    npu_frequency_hz: float | None = None
    gpu_frequency_hz: float | None = None
    memory_frequency_hz: float | None = None
    throttle_events: int | None = None
    cooling_state: int | None = None
    steal_fraction: float | None = None
    running: RunningJob | None = None
    counts: JobCounts | None = None
    lease: LeaseStatus | None = None


class LeaseState(enum.Enum):
    """Whether a client holds the device."""

    HELD = "held"
    WAITING = "waiting"


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseParty:
    """Somebody who holds a lease or waits for one.

    Args:
        name: For people.
        priority: Higher is served first.
        since_s: For how long it has held, or waited.
        expires_in_s: When it loses lease or place, if nothing is heard of it until then.
    """

    name: str
    priority: int
    since_s: float
    expires_in_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseStatus:
    """Who holds a device, and who waits, in the order in which they will be served."""

    holder: LeaseParty | None = None
    waiting: tuple[LeaseParty, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class AcquireLeaseRequest:
    """Asks for a device, or renews its lease or place in the queue.

    Args:
        lease_id: Of the client's choosing, one a run; nobody else can guess it.
        holder: For people, e.g. "anna@workstation, run spos-3".
        priority: Higher is served first; a holder is never driven out.
        duration_s: Without another call for so long the lease, or the place, is lost.
    """

    lease_id: str
    holder: str
    priority: int = 0
    duration_s: float = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class AcquireLeaseReply:
    """Answers a request for a lease.

    Args:
        state: Whether the client holds the device now.
        fencing_token: Goes into the jobs submitted under the lease; grows with every lease of
            the agent; 0 while waiting.
        expires_in_s: When it is lost without another call.
        position: How many are served before; 0 when held.
        status: Who else is there.
    """

    state: LeaseState
    fencing_token: int
    expires_in_s: float
    position: int
    status: LeaseStatus
