"""The device's state at one moment, for whoever watches it."""

from __future__ import annotations

import time

import psutil

from boardfront.device_agent import environment
from boardfront.protos.records import TelemetrySample


def sample(*, running_job_id: str | None, queued_jobs: int) -> TelemetrySample:
    """Read the sensors once. Sensors of power and of the NPU are not read yet: they are None."""
    return TelemetrySample(
        time_unix_s=time.time(),
        temperature_c=environment.read_temperature_c(),
        frequency_hz=environment.read_frequency_hz(),
        governor=environment.read_governor(),
        cpu_fraction=psutil.cpu_percent(interval=None) / 100.0,
        memory_available_bytes=psutil.virtual_memory().available,
        running_job_id=running_job_id,
        queued_jobs=queued_jobs,
    )
