"""The device's sensors: read once, watched by somebody, or sampled while a job is timed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from boardfront.device_agent import cores, nvml, power, sysfs
from boardfront.device_agent.energy import RaplMeter
from boardfront.device_agent.ticker import Ticker
from boardfront.protos.core_lists import format_cpus
from boardfront.protos.records import TelemetrySample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PERIOD_S = 0.25
_MAX_CPU_FRACTION = 0.004


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What all sensors said at one moment. None: could not be read.

    Args:
        time_s: Of the monotonic clock.
        frequency_hz: Of the fastest timed cluster at that moment: a core that rests between two
            runs says nothing about their times.
        frequencies_hz: By cluster, named by its cores.
        temperatures_c: By thermal zone.
        npu_hz: Clock of the NPU.
        gpu_hz: Clock of the GPU.
        memory_hz: Clock of the memory.
        power_w: Of the rails, else of the GPU's board.
        energy_j: RAPL, since the sensors were found.
        brakes: State of each cooling device that slows a processor down.
        throttles: Sum of the throttle counters.
        gpu_held_back: Heat or power supply slow the GPU down.
    """

    time_s: float
    frequency_hz: float | None = None
    frequencies_hz: Mapping[str, float] = field(default_factory=dict)
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    npu_hz: float | None = None
    gpu_hz: float | None = None
    memory_hz: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    brakes: tuple[int | None, ...] = ()
    throttles: int | None = None
    gpu_held_back: bool | None = None

    @property
    def temperature_c(self) -> float | None:
        """The hottest zone."""
        return max(self.temperatures_c.values(), default=None)

    @property
    def brake(self) -> int | None:
        """The highest state of a cooling device."""
        return max((state for state in self.brakes if state is not None), default=None)


class Sensors:
    """The sensors of a device: found once, so that a round of readings is cheap.

    One thread at a time. Nothing raises.

    Args:
        root: Where the device's files are.
        timed: Cores whose clock counts; empty: all.
        gpu: An NVIDIA GPU that is read with them, and given back by `close`.
    """

    def __init__(
        self,
        root: Path = sysfs.ROOT,
        timed: Sequence[int] = (),
        *,
        gpu: nvml.Gpu | None = None,
    ) -> None:
        policies = sysfs.cpu_policies(root)
        self._clocks = [
            (
                format_cpus(policy.cpus),
                str(policy.path / "scaling_cur_freq"),
                not timed or bool(set(timed) & set(policy.cpus)),
            )
            for policy in policies
        ]
        self._heat = [(name, str(path)) for name, path in sysfs.temperature_files(root).items()]
        devices = {device.kind: device.path for device in reversed(sysfs.devfreqs(root))}
        self._devices = {kind: str(path / "cur_freq") for kind, path in devices.items()}
        self._brakes = [
            str(device.path / "cur_state")
            for device in sysfs.cooling_devices(root)
            if device.brakes
        ]
        self._throttles = [str(path) for path in sysfs.throttle_counters(root)]
        self._rails = power.power_rails(root)
        domains = power.rapl_domains(root)
        self._rapl = RaplMeter(domains) if domains else None
        self._gpu = gpu

    def read(self) -> Reading:
        """Read every sensor once."""
        clocks = [(name, sysfs.read_hz(path, 1e3), timed) for name, path, timed in self._clocks]
        heat = {name: sysfs.read_celsius(path) for name, path in self._heat}
        gpu = self._gpu
        if gpu is not None:
            heat["nvidia"] = gpu.temperature_c()
        power_w = power.read_power_w(self._rails)
        if power_w is None and gpu is not None:
            power_w = gpu.power_w()
        return Reading(
            time_s=time.monotonic(),
            frequency_hz=max((hz for _, hz, timed in clocks if timed and hz), default=None),
            frequencies_hz={name: hz for name, hz, _ in clocks if hz is not None},
            temperatures_c={name: value for name, value in heat.items() if value is not None},
            npu_hz=self._device_hz("npu"),
            gpu_hz=self._device_hz("gpu") if gpu is None else gpu.clock_hz(),
            memory_hz=self._device_hz("memory"),
            power_w=power_w,
            energy_j=None if self._rapl is None else self._rapl.read_j(),
            brakes=tuple(sysfs.read_count(path) for path in self._brakes),
            throttles=self._read_throttles(),
            gpu_held_back=None if gpu is None else gpu.is_held_back(),
        )

    def close(self) -> None:
        """Give the GPU's library back; harmless when repeated."""
        gpu, self._gpu = self._gpu, None
        if gpu is not None:
            gpu.close()

    def _device_hz(self, kind: str) -> float | None:
        path = self._devices.get(kind)
        return None if path is None else sysfs.read_hz(path)

    def _read_throttles(self) -> int | None:
        counts = [sysfs.read_count(path) for path in self._throttles]
        known = [count for count in counts if count is not None]
        return sum(known) if known and len(known) == len(counts) else None


class Sampler:
    """Reads the sensors on a thread of its own while a job is timed.

    The first reading is taken before `start` returns and the last one by `stop`: a sampler that
    works has at least two. One that failed has none, so that nothing can rest on half of them.

    Args:
        sensors: Read by the sampler's thread only, from `start` to `stop`.
        cpus: Cores to stay on, beside the timed ones; empty: any.
        period_s: Shortest time between two readings; longer where they take more than 0.4 % of
            a core.
    """

    def __init__(
        self, sensors: Sensors, *, cpus: Sequence[int] = (), period_s: float = PERIOD_S
    ) -> None:
        self._sensors = sensors
        self._readings: list[Reading] = []
        self._ticker = Ticker(
            self._take, period_s=period_s, cpus=cpus, max_fraction=_MAX_CPU_FRACTION
        )

    @property
    def readings(self) -> tuple[Reading, ...]:
        """All readings in order; none when the sampler failed."""
        return () if self._ticker.failed else tuple(self._readings)

    @property
    def cpu_fraction(self) -> float | None:
        """Share of one core that the readings inside the timed region took, after `stop`."""
        return None if self._ticker.failed else self._ticker.cpu_fraction

    def start(self) -> None:
        """Take the first reading and go on."""
        self._ticker.start()

    def stop(self) -> None:
        """Take the last reading and end; harmless when ended already or never begun."""
        self._ticker.stop()

    def _take(self) -> None:
        self._readings.append(self._sensors.read())


class Watcher:
    """The device's state for one who watches it: shares and events count from sample to sample.

    One thread at a time.
    """

    def __init__(self, root: Path = sysfs.ROOT) -> None:
        self._root = root
        self._governor_cpus = cores.default_cpus(root)
        # Of several GPUs nobody said which; and another root is another machine's.
        gpu = nvml.open_only_gpu() if root == sysfs.ROOT else None
        self._sensors = Sensors(root, cores.parse_cpus(self._governor_cpus), gpu=gpu)
        self._times = sysfs.cpu_times(root).get(None)
        self._last: Reading | None = None

    def sample(self, *, running_job_id: str | None, queued_jobs: int) -> TelemetrySample:
        """Read everything once.

        Of the first sample, what needs a difference is None: processor and steal share, throttle
        events, and power where only an energy counter tells it.
        """
        reading, last = self._sensors.read(), self._last
        self._last = reading
        cpu_fraction, steal_fraction = self._shares()
        events = None
        if last is not None and last.throttles is not None and reading.throttles is not None:
            events = max(0, reading.throttles - last.throttles)
        return TelemetrySample(
            time_unix_s=time.time(),
            temperature_c=reading.temperature_c,
            frequency_hz=reading.frequency_hz,
            governor=cores.governor(self._root, self._governor_cpus),
            cpu_fraction=cpu_fraction,
            memory_available_bytes=_available_bytes(self._root),
            power_w=mean_power_w([reading] if last is None else [last, reading], latest=True),
            running_job_id=running_job_id,
            queued_jobs=queued_jobs,
            temperatures_c=reading.temperatures_c,
            frequencies_hz=reading.frequencies_hz,
            npu_frequency_hz=reading.npu_hz,
            gpu_frequency_hz=reading.gpu_hz,
            memory_frequency_hz=reading.memory_hz,
            throttle_events=events,
            cooling_state=reading.brake,
            steal_fraction=steal_fraction,
        )

    def close(self) -> None:
        """Let the sensors go."""
        self._sensors.close()

    def _shares(self) -> tuple[float | None, float | None]:
        """Return which shares of all cores' time were busy and stolen since the last call."""
        now, last = sysfs.cpu_times(self._root).get(None), self._times
        self._times = now
        if now is None or last is None or now.total_s <= last.total_s:
            return None, None
        total_s = now.total_s - last.total_s
        busy_s, steal_s = now.busy_s - last.busy_s, now.steal_s - last.steal_s
        return max(0.0, busy_s / total_s), max(0.0, steal_s / total_s)


def sample(
    *, running_job_id: str | None, queued_jobs: int, root: Path = sysfs.ROOT
) -> TelemetrySample:
    """Read the sensors once; for more than one sample keep a `Watcher`."""
    watcher = Watcher(root)
    try:
        return watcher.sample(running_job_id=running_job_id, queued_jobs=queued_jobs)
    finally:
        watcher.close()


def mean_power_w(readings: Sequence[Reading], *, latest: bool = False) -> float | None:
    """Return the mean power over the readings in watts.

    Args:
        readings: In order. Power itself goes before the difference of an energy counter, which
            needs two readings.
        latest: Of the powers take the last one alone.
    """
    powers_w = [reading.power_w for reading in readings if reading.power_w is not None]
    if powers_w and len(powers_w) == len(readings):
        return powers_w[-1] if latest else sum(powers_w) / len(powers_w)
    if len(readings) < 2:
        return None
    first, last = readings[0], readings[-1]
    if first.energy_j is None or last.energy_j is None or last.time_s <= first.time_s:
        return None
    return (last.energy_j - first.energy_j) / (last.time_s - first.time_s)


def _available_bytes(root: Path) -> int | None:
    found = sysfs.memory_bytes(root).get("MemAvailable")
    if found is None and root == sysfs.ROOT:
        return int(psutil.virtual_memory().available)
    return found
