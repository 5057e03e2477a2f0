"""Readings of an NVIDIA GPU through NVML; the package nvidia-ml-py may be absent.

Source: NVML API Reference Guide, sections Device Queries and NvmlClocksEventReasons.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SM_CLOCK = 1
_CORE_TEMPERATURE = 0
_HELD_BACK = 0x08 | 0x20 | 0x40 | 0x80
"""Hardware slowdown, thermal slowdown by driver and by hardware, power brake. The power cap
(0x04) is not among them: a GPU under full load runs at it."""

_ASKED = re.compile(r"cuda(?::(?P<number>\d+))?|tensorrt", re.IGNORECASE)


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


def cuda_number(options: Mapping[str, str]) -> int | None:
    """Return the number by which CUDA knows the GPU that a backend's options ask for.

    0 where they ask for CUDA or TensorRT and say no number; None where they ask for neither.
    """
    found = _ASKED.search(" ".join(options.values()))
    return None if found is None else int(found["number"] or 0)


def open_gpu() -> Gpu | None:
    """Return the first GPU of this machine; None without package, library, driver or GPU."""
    return _open(lambda _: 0)


def open_only_gpu() -> Gpu | None:
    """Return the GPU of a machine that has one alone; None elsewhere, and as for `open_gpu`."""
    return _open(lambda library: 0 if library.nvmlDeviceGetCount() == 1 else None)


def open_cuda_gpu(number: int) -> Gpu | None:
    """Return the GPU that CUDA knows by a number; None where it is not certain which that is."""
    return _open(lambda library: index_of(number, library.nvmlDeviceGetCount(), os.environ))


def index_of(number: int, count: int, environment: Mapping[str, str]) -> int | None:
    """Return NVML's number of a GPU; None where it is not certain.

    NVML goes by the place on the bus; CUDA puts the fastest first unless it is told otherwise.

    Source: CUDA C++ Programming Guide, CUDA Environment Variables.

    Args:
        number: CUDA's.
        count: How many GPUs NVML knows.
        environment: Variables that the workers have too.
    """
    if count == 1 and number == 0:
        return 0
    if environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        return None
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    names = map(str, range(count)) if visible is None else visible.split(",")
    name = dict(enumerate(names)).get(number, "").strip()
    return int(name) if name.isdecimal() and int(name) < count else None


def _open(choose: Callable[[Any], int | None]) -> Gpu | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    with contextlib.suppress(pynvml.NVMLError):
        index = choose(pynvml)
        if index is not None:
            return Gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))
    pynvml.nvmlShutdown()
    return None
