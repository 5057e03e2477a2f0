"""What the device did while a job was timed: clocks, heat, power, and other processes."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import psutil

from boardfront.device_agent import cores, nvml, sysfs
from boardfront.device_agent.telemetry import Reading, Sampler, Sensors, mean_power_w
from boardfront.protos.core_lists import format_cpus
from boardfront.protos.records import Circumstances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

_STEAL_TOLD_TO_S = 0.01
"""The kernel tells a core's times in hundredths of a second, rounded down."""
_WORK_TOLD_TO_S = 2 * _STEAL_TOLD_TO_S
"""Work is told in two such parts, user and system. In a short look these are a tenth of its time:
what may be rounding convicts nobody."""


class LoadMeter:
    """Watches the device from now on until `read` or `close`.

    Args:
        root: Where the device's files are.
        timed_cpus: Cores that the job runs on, as a list ("4-7") or numbers; empty: all that the
            agent may use. Clocks are of these.
        around: Cores that are watched with them, because what runs there slows the job too, most
            of all where two of them are one core's threads. Steal and others' processor time are
            of the timed cores or of all together, whichever have the greater share.
        gpu: CUDA's number of the NVIDIA GPU that the job runs on, of this machine; None: on none.

    Raises:
        WrongInputError: If `timed_cpus` is no list of cores.
    """

    def __init__(
        self,
        root: Path = sysfs.ROOT,
        timed_cpus: str | Sequence[int] = "",
        *,
        around: Iterable[int] = (),
        gpu: int | None = None,
    ) -> None:
        asked = cores.parse_cpus(timed_cpus) if isinstance(timed_cpus, str) else timed_cpus
        allowed = cores.allowed_cpus(root)
        self._root = root
        self._cpus = tuple(asked) or allowed
        # Another root is another machine's: its cores are not the ones to stay away from.
        beside = cores.telemetry_cpus(self._cpus, allowed) if root == sysfs.ROOT else ()
        found = nvml.open_cuda_gpu(gpu) if gpu is not None and root == sysfs.ROOT else None
        self._sensors = Sensors(root, self._cpus, gpu=found)
        self._sampler = Sampler(self._sensors, cpus=beside)
        self._sampler.start()
        self._agent_s = _agent_times()
        self._start_s = time.monotonic()
        together = tuple(sorted({*self._cpus, *around}))
        self._watches = [_CoreWatch(root, cpus) for cpus in dict.fromkeys((self._cpus, together))]

    def read(self, *, own_cpu_s: float) -> Circumstances:
        """Return what happened since this thread made the meter, and end it.

        What the sampler should have seen is None, and `telemetry_samples` 0, where it failed.

        Args:
            own_cpu_s: Processor seconds that the job's workers used meanwhile; they and the
                agent's own do not count as others'.
        """
        elapsed_s = max(time.monotonic() - self._start_s, 1e-9)
        # The thread that asks the workers has its turns between theirs: wherever it ran, and be
        # it on a timed core, it hardly took anything from them.
        asking_s, beside_s = (
            now_s - then_s for now_s, then_s in zip(_agent_times(), self._agent_s, strict=True)
        )
        shares = [
            watch.shares(elapsed_s, own_cpu_s + asking_s, beside_s) for watch in self._watches
        ]
        self.close()
        readings = self._sampler.readings
        frequencies_hz = _known(readings, lambda reading: reading.frequency_hz)
        return Circumstances(
            governor=cores.governor(self._root, format_cpus(self._cpus)),
            frequency_before_hz=readings[0].frequency_hz if readings else None,
            frequency_after_hz=readings[-1].frequency_hz if readings else None,
            temperature_before_c=readings[0].temperature_c if readings else None,
            temperature_after_c=readings[-1].temperature_c if readings else None,
            steal_fraction=_greatest(steal for steal, _ in shares),
            other_cpu_fraction=_greatest(other for _, other in shares),
            load_average=sysfs.load_average(self._root),
            frequency_min_hz=min(frequencies_hz, default=None),
            frequency_max_hz=max(frequencies_hz, default=None),
            temperature_max_c=max(_known(readings, lambda r: r.temperature_c), default=None),
            throttle_events=_throttle_events(readings),
            cooling_state_max=_raised_brake(readings),
            npu_frequency_min_hz=min(_known(readings, lambda r: r.npu_hz), default=None),
            gpu_frequency_min_hz=min(_known(readings, lambda r: r.gpu_hz), default=None),
            memory_frequency_min_hz=min(_known(readings, lambda r: r.memory_hz), default=None),
            power_w=mean_power_w(readings),
            telemetry_samples=len(readings),
            telemetry_cpu_fraction=self._sampler.cpu_fraction,
        )

    def close(self) -> None:
        """Stop watching; harmless when repeated."""
        self._sampler.stop()
        self._sensors.close()


class _CoreWatch:
    """Counts from now on what was stolen from some cores, and what others did there."""

    def __init__(self, root: Path, cpus: tuple[int, ...]) -> None:
        self._root = root
        self._cpus = cpus
        self._before = _read_times(root, cpus)

    def shares(
        self, elapsed_s: float, own_cpu_s: float, beside_s: float
    ) -> tuple[float | None, float | None]:
        """Return which shares of these cores' time were stolen and used by others.

        Args:
            elapsed_s: Since the watch was made.
            own_cpu_s: Processor seconds that do not count as others'.
            beside_s: More of them, of threads that may have run on any core.
        """
        now = _read_times(self._root, self._cpus)
        if now is None or self._before is None:
            return None, None
        core_s = elapsed_s * len(self._cpus)
        (busy_s, stolen_s), (busy_before_s, stolen_before_s) = now, self._before
        # Where those threads ran is not known: all cores share them evenly.
        everywhere = len(sysfs.online_cpus(self._root)) or os.cpu_count() or 1
        here_s = own_cpu_s + beside_s * min(1.0, len(self._cpus) / everywhere)
        other_s = busy_s - busy_before_s - here_s - _WORK_TOLD_TO_S
        if stolen_s is None or stolen_before_s is None:
            return None, max(0.0, other_s / core_s)
        steal_s = stolen_s - stolen_before_s - _STEAL_TOLD_TO_S
        return max(0.0, steal_s / core_s), max(0.0, other_s / core_s)


def _agent_times() -> tuple[float, float]:
    """Return the processor seconds of this thread of the agent, and of all its others."""
    thread_s = time.thread_time()
    return thread_s, time.process_time() - thread_s


def _greatest(shares: Iterable[float | None]) -> float | None:
    return max((share for share in shares if share is not None), default=None)


def _read_times(root: Path, cpus: Sequence[int]) -> tuple[float, float | None] | None:
    """Return the busy and stolen seconds of these cores; None if one cannot be read."""
    times = sysfs.cpu_times(root)
    if all(cpu in times for cpu in cpus):
        return sum(times[cpu].busy_s for cpu in cpus), sum(times[cpu].steal_s for cpu in cpus)
    if root != sysfs.ROOT or times:
        return None
    # Not Linux: the sum over all cores is all there is, and no steal time.
    known = psutil.cpu_times()
    return sum(getattr(known, name, 0.0) for name in ("user", "nice", "system")), None


def _known(readings: Iterable[Reading], value: Callable[[Reading], float | None]) -> list[float]:
    return [found for reading in readings if (found := value(reading)) is not None]


def _throttle_events(readings: Sequence[Reading]) -> int | None:
    """Return how often the processor counted throttling or the GPU began to be held back."""
    events: int | None = None
    counts = [reading.throttles for reading in readings]
    if counts and counts[0] is not None and counts[-1] is not None:
        events = max(0, counts[-1] - counts[0])
    held = [reading.gpu_held_back for reading in readings if reading.gpu_held_back is not None]
    if held:
        before = [False, *held[:-1]]
        begun = sum(now and not was for now, was in zip(held, before, strict=True))
        events = (events or 0) + begun
    return events


def _raised_brake(readings: Sequence[Reading]) -> int | None:
    """Return the highest state of a cooling device above its first one; 0 if none rose.

    None where there is no such device, or none could be read more than once.
    """
    if len(readings) < 2:
        return None
    highest: int | None = None
    for index, first in enumerate(readings[0].brakes):
        later = [r.brakes[index] for r in readings[1:]]
        states = [state for state in later if state is not None]
        if first is None or not states:
            continue
        top = max(states)
        highest = max(highest or 0, top if top > first else 0)
    return highest
