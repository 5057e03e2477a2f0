"""Energy of the device in joules, and of one run."""

from __future__ import annotations

import threading
import time
from statistics import median
from typing import TYPE_CHECKING, Protocol

from boardfront.device_agent import nvml, power, sysfs
from boardfront.device_agent.ticker import Ticker
from boardfront.protos.records import Energy
from boardfront.protos.statistics import median_interval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_HWMON_PERIOD_S = 0.05


class EnergyMeter(Protocol):
    """Counts joules from some moment on; only differences mean something.

    `read_j` returns None once a reading is missing, and never raises. One thread at a time.
    """

    source: str

    def read_j(self) -> float | None:
        """Return the joules so far."""
        ...

    def close(self) -> None:
        """Stop counting; harmless when repeated."""
        ...


class RaplMeter:
    """Adds up RAPL counters, over their wrap-arounds: read it at least once in half a round."""

    def __init__(self, domains: Sequence[power.RaplDomain]) -> None:
        self.source = "rapl:" + "+".join(domain.name for domain in domains)
        self._domains = tuple(domains)
        self._last_j = [domain.read_j() for domain in domains]
        self._total_j = 0.0

    def read_j(self) -> float | None:
        """Return the joules since the meter was made."""
        for index, domain in enumerate(self._domains):
            now_j, last_j = domain.read_j(), self._last_j[index]
            if now_j is None or last_j is None:
                return None
            self._total_j += (now_j - last_j) % domain.range_j
            self._last_j[index] = now_j
        return self._total_j

    def close(self) -> None:
        """Do nothing: nothing is held."""


class NvmlMeter:
    """The GPU's own counter."""

    def __init__(self, gpu: nvml.Gpu) -> None:
        self.source = "nvml"
        self._gpu = gpu

    def read_j(self) -> float | None:
        """Return the joules since the driver was loaded."""
        return self._gpu.energy_j()

    def close(self) -> None:
        """Give the library back."""
        self._gpu.close()


class HwmonMeter:
    """Integrates the power of rails over time, by the trapezoid between readings.

    Args:
        rails: What to add up.
        cpus: Cores that its readings may run on; empty: any.
    """

    def __init__(self, rails: Sequence[power.PowerRail], cpus: Sequence[int] = ()) -> None:
        self.source = "hwmon:" + "+".join(rail.name for rail in rails)
        self._rails = tuple(rails)
        self._lock = threading.Lock()
        self._total_j: float | None = 0.0
        self._last: tuple[float, float] | None = None
        self._ticker = Ticker(self._step, period_s=_HWMON_PERIOD_S, cpus=cpus)
        self._ticker.start()

    def read_j(self) -> float | None:
        """Return the joules since the meter was made."""
        if self._ticker.failed:
            return None
        self._step()
        with self._lock:
            return self._total_j

    def close(self) -> None:
        """Stop reading."""
        self._ticker.stop()

    def _step(self) -> None:
        with self._lock:
            now_w = power.read_power_w(self._rails)
            now_s = time.monotonic()
            if now_w is None or self._total_j is None:
                self._total_j = None
                return
            if self._last is not None:
                last_s, last_w = self._last
                self._total_j += (now_s - last_s) * (now_w + last_w) / 2
            self._last = now_s, now_w


def find_energy_meter(
    root: Path = sysfs.ROOT, *, gpu: int | None = None, cpus: Sequence[int] = ()
) -> EnergyMeter | None:
    """Return the best meter there is, counting from now on; None where nothing can be read.

    A counter is better than integrated power, because nothing falls between its readings.

    Args:
        root: Where the device's files are. NVML tells of this machine only.
        gpu: CUDA's number of the NVIDIA GPU that the subject runs on: what the processor uses is
            not its energy then. None: it runs on no such GPU.
        cpus: Cores that a meter may run on beside the subject; empty: any.
    """
    if gpu is not None and root == sysfs.ROOT and (found := nvml.open_cuda_gpu(gpu)) is not None:
        if found.energy_j() is not None:
            return NvmlMeter(found)
        found.close()
    if gpu is None and (domains := power.rapl_domains(root)):
        return RaplMeter(domains)
    rails = power.power_rails(root)
    if power.read_power_w(rails) is not None:
        return HwmonMeter(rails, cpus)
    return None


def per_run(windows: Sequence[tuple[float | None, int]], source: str) -> Energy | None:
    """Return the energy of one run.

    Args:
        windows: (joules, runs) of each window.
        source: What was read, e.g. "rapl:package-0".

    Returns:
        The median over the windows and its 95 % interval; None for fewer than six windows, or
        where one has no positive reading: its counter was too coarse or failed.
    """
    runs_j = []
    for energy_j, runs in windows:
        if energy_j is None or energy_j <= 0 or runs <= 0:
            return None
        runs_j.append(energy_j / runs)
    interval = median_interval(runs_j)
    if interval is None:
        return None
    return Energy(
        source=source,
        median_j=median(runs_j),
        low_j=interval[0],
        high_j=interval[1],
        windows=len(runs_j),
    )
