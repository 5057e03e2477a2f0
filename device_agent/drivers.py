"""Versions of what a device's accelerators need. They change times, so they are in the target."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from boardfront.device_agent import nvml, sysfs

if TYPE_CHECKING:
    from pathlib import Path

_RKNN_RUNTIMES = ("usr/lib/librknnrt.so", "usr/lib64/librknnrt.so", "lib/librknnrt.so")
_RKNN_VERSION = re.compile(rb"librknnrt version: (\d+(?:\.\d+)+)")


def read_drivers(root: Path = sysfs.ROOT) -> dict[str, str]:
    """Return the versions that can be read, by name: "librknnrt", "nvidia", "rknpu"."""
    found = {
        "librknnrt": rknn_runtime_version(root),
        "nvidia": _nvidia_version() if root == sysfs.ROOT else None,
        "rknpu": sysfs.rknpu_version(root),
    }
    return {name: version for name, version in found.items() if version}


def rknn_runtime_version(root: Path = sysfs.ROOT) -> str | None:
    """Return the version written inside Rockchip's runtime library; None where there is none."""
    for name in _RKNN_RUNTIMES:
        path = root / name
        try:
            changed_ns = path.stat().st_mtime_ns
        except OSError:
            continue
        return _version_inside(path, changed_ns)
    return None


@functools.cache
def _version_inside(path: Path, _changed_ns: int) -> str | None:
    """Search the library, once as long as the file does not change: it is megabytes."""
    try:
        found = _RKNN_VERSION.search(path.read_bytes())
    except OSError:
        return None
    return found.group(1).decode() if found else None


@functools.cache
def _nvidia_version() -> str | None:
    """Ask once: the driver cannot change under a running agent."""
    gpu = nvml.open_gpu()
    if gpu is None:
        return None
    try:
        return gpu.driver_version()
    finally:
        gpu.close()
