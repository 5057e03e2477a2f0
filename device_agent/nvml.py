"""Readings of an NVIDIA GPU through NVML; the package nvidia-ml-py may be absent.

Source: NVML API Reference Guide, sections Device Queries and NvmlClocksEventReasons.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_SM_CLOCK = 1
_CORE_TEMPERATURE = 0
_HELD_BACK = 0x08 | 0x20 | 0x40 | 0x80
"""Hardware slowdown, thermal slowdown by driver and by hardware, power brake. The power cap
(0x04) is not among them: a GPU under full load runs at it."""


class Gpu:
    """One GPU. A reading that cannot be had is None; nothing raises."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library = library
        self._handle = handle

    def temperature_c(self) -> float | None:
        """Return the temperature of the chip."""
        return self._ask(self._library.nvmlDeviceGetTemperature, _CORE_TEMPERATURE, scale=1.0)

    def clock_hz(self) -> float | None:
        """Return the clock of the streaming multiprocessors."""
        return self._ask(self._library.nvmlDeviceGetClockInfo, _SM_CLOCK, scale=1e6)

    def power_w(self) -> float | None:
        """Return the power of the whole board."""
        return self._ask(self._library.nvmlDeviceGetPowerUsage, scale=1e-3)

    def energy_j(self) -> float | None:
        """Return the energy since the driver was loaded (Volta and newer)."""
        return self._ask(self._library.nvmlDeviceGetTotalEnergyConsumption, scale=1e-3)

    def is_held_back(self) -> bool | None:
        """Return whether heat or the power supply slows the GPU down."""
        reasons = self._ask(self._library.nvmlDeviceGetCurrentClocksThrottleReasons, scale=1.0)
        return None if reasons is None else bool(int(reasons) & _HELD_BACK)

    def driver_version(self) -> str | None:
        """Return the version of the driver."""
        try:
            version = self._library.nvmlSystemGetDriverVersion()
        except self._library.NVMLError:
            return None
        # Releases of nvidia-ml-py before 11.5 answered in bytes.
        return version.decode() if isinstance(version, bytes) else str(version)

    def close(self) -> None:
        """Give the library back."""
        with contextlib.suppress(self._library.NVMLError):
            self._library.nvmlShutdown()

    def _ask(self, question: Callable[..., Any], *details: int, scale: float) -> float | None:
        try:
            return float(question(self._handle, *details)) * scale
        except self._library.NVMLError:
            return None


def open_gpu(index: int = 0) -> Gpu | None:
    """Return a GPU of this machine; None without package, library, driver or GPU."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return Gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))
    except pynvml.NVMLError:
        pynvml.nvmlShutdown()
        return None
