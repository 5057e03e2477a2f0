"""What else the machine did while a job was timed."""

from __future__ import annotations

import os
import time

import psutil

from boardfront.device_agent import environment
from boardfront.protos.records import Circumstances


class LoadMeter:
    """Reads clocks, heat and processor time once now and once at `read`."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()
        self._cpu = psutil.cpu_times()
        self._own = os.times()
        self._frequency_hz = environment.read_frequency_hz()
        self._temperature_c = environment.read_temperature_c()

    def read(self, *, own_cpu_s: float) -> Circumstances:
        """Return what happened since the meter was made.

        Args:
            own_cpu_s: Processor seconds that the job's workers used meanwhile; they and the
                agent's own do not count as others'.
        """
        elapsed_s = max(time.monotonic() - self._start_s, 1e-9)
        now, agent = psutil.cpu_times(), os.times()
        cores = psutil.cpu_count() or 1
        busy_s = _busy_s(now) - _busy_s(self._cpu)
        agent_s = (agent.user + agent.system) - (self._own.user + self._own.system)
        steal = getattr(now, "steal", None)
        stolen_s = None if steal is None else steal - self._cpu.steal
        return Circumstances(
            governor=environment.read_governor(),
            frequency_before_hz=self._frequency_hz,
            frequency_after_hz=environment.read_frequency_hz(),
            temperature_before_c=self._temperature_c,
            temperature_after_c=environment.read_temperature_c(),
            steal_fraction=None if stolen_s is None else max(0.0, stolen_s / elapsed_s / cores),
            other_cpu_fraction=max(0.0, (busy_s - own_cpu_s - agent_s) / elapsed_s / cores),
            load_average=os.getloadavg()[0],
        )


def _busy_s(times: object) -> float:
    """Return the processor seconds spent for processes, over all cores."""
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
