"""What this device is: hardware, system, fingerprint, identity.

All files are read under a root that tests replace by a board's fixture tree. What cannot be read
is None.
"""

from __future__ import annotations

import hashlib
import json
import platform
import uuid
from dataclasses import asdict
from pathlib import Path

import psutil

from boardfront.protos.records import Hardware, OperatingSystem

_ROOT = Path("/")


def read_hardware(root: Path = _ROOT) -> Hardware:
    """Describe processor and memory."""
    frequency = _read_number(root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    return Hardware(
        machine=platform.machine(),
        cpu_model=_cpu_model(root),
        soc=_soc(root),
        logical_cores=psutil.cpu_count() or 1,
        physical_cores=psutil.cpu_count(logical=False),
        max_frequency_hz=None if frequency is None else frequency * 1e3,
        memory_bytes=psutil.virtual_memory().total,
    )


def read_system(root: Path = _ROOT) -> OperatingSystem:
    """Describe the system software."""
    return OperatingSystem(
        name=platform.system(),
        kernel=platform.release(),
        distribution=_distribution(root),
        governor=read_governor(root),
    )


def read_governor(root: Path = _ROOT) -> str | None:
    """Return the frequency governor of cpu 0."""
    return _read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def read_frequency_hz(root: Path = _ROOT) -> float | None:
    """Return the present frequency of cpu 0 in Hz."""
    value = _read_number(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    return None if value is None else value * 1e3


def read_temperature_c(root: Path = _ROOT) -> float | None:
    """Return the temperature of the hottest thermal zone in degrees Celsius."""
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))
    readings = [value for zone in zones if (value := _read_number(zone)) is not None]
    return max(readings) / 1e3 if readings else None


def fingerprint(hardware: Hardware, system: OperatingSystem) -> str:
    """Return a hash of what times depend on; the device's identity is not in it."""
    content = {
        "hardware": {
            **asdict(hardware),
            # Kernels reserve a little more or less: whole gibibytes name the board's variant.
            "memory_bytes": round(hardware.memory_bytes / 2**30),
        },
        "system": asdict(system),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def read_device_id(state: Path, root: Path = _ROOT) -> str:
    """Return a stable identity of this machine: its machine-id, else one kept in `state`."""
    found = _read_text(root / "etc/machine-id")
    if found is None:
        kept = state / "device-id"
        found = _read_text(kept)
        if found is None:
            found = uuid.uuid4().hex
            kept.write_text(found)
    return hashlib.sha256(f"boardfront {found}".encode()).hexdigest()[:16]


def _cpu_model(root: Path) -> str:
    """Return the processor's name; Arm has only a part number, which is as good."""
    text = _read_text(root / "proc/cpuinfo") or ""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), []).append(value.strip())
    if "model name" in fields:
        return fields["model name"][0]
    if "CPU part" in fields:
        implementers = fields.get("CPU implementer", ["?"])
        return f"arm {implementers[0]} " + " ".join(sorted(set(fields["CPU part"])))
    return platform.processor() or platform.machine()


def _soc(root: Path) -> str | None:
    text = _read_text(root / "proc/device-tree/compatible")
    if not text:
        return None
    return text.strip("\0").split("\0")[-1]


def _distribution(root: Path) -> str | None:
    text = _read_text(root / "etc/os-release") or ""
    for line in text.splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return None


def _read_text(path: Path) -> str | None:
    """Return a file's text; None if it is absent or empty, as machine-id is in many images."""
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def _read_number(path: Path) -> float | None:
    text = _read_text(path)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
