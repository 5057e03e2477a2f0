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
from typing import TYPE_CHECKING

import psutil

from boardfront.device_agent import cores, sysfs
from boardfront.device_agent.drivers import read_drivers
from boardfront.protos.records import Hardware, OperatingSystem

if TYPE_CHECKING:
    from pathlib import Path


def read_hardware(root: Path = sysfs.ROOT) -> Hardware:
    """Describe processor and memory."""
    clusters = cores.clusters(root)
    tops_hz = [cluster.max_frequency_hz for cluster in clusters]
    return Hardware(
        machine=sysfs.read_text(root / "proc/sys/kernel/arch") or platform.machine(),
        cpu_model=_cpu_model(root),
        soc=_soc(root),
        logical_cores=_logical_cores(root),
        physical_cores=_physical_cores(root),
        max_frequency_hz=max((hz for hz in tops_hz if hz is not None), default=None),
        memory_bytes=_memory_bytes(root),
        clusters=clusters,
    )


def read_system(root: Path = sysfs.ROOT) -> OperatingSystem:
    """Describe the system software."""
    kernel = root / "proc/sys/kernel"
    return OperatingSystem(
        name=sysfs.read_text(kernel / "ostype") or platform.system(),
        kernel=sysfs.read_text(kernel / "osrelease") or platform.release(),
        distribution=_distribution(root),
        governor=read_governor(root),
        drivers=read_drivers(root),
    )


def read_governor(root: Path = sysfs.ROOT) -> str | None:
    """Return the frequency governor of the cores that subjects run on by default."""
    return cores.governor(root, cores.default_cpus(root))


def read_frequency_hz(root: Path = sysfs.ROOT) -> float | None:
    """Return the present frequency in Hz of the fastest of the default cores."""
    default = set(cores.parse_cpus(cores.default_cpus(root)))
    found = [p.current_hz for p in sysfs.cpu_policies(root) if default & set(p.cpus)]
    return max((hz for hz in found if hz is not None), default=None)


def read_temperature_c(root: Path = sysfs.ROOT) -> float | None:
    """Return the temperature of the hottest thermal zone in degrees Celsius."""
    found = [sysfs.read_celsius(path) for path in sysfs.temperature_files(root).values()]
    return max((value for value in found if value is not None), default=None)


def fingerprint(hardware: Hardware, system: OperatingSystem) -> str:
    """Return a hash of what times depend on; the device's identity is not in it.

    Neither is anything that moves by itself: of the clocks only their limits, their governors
    and where they are held.
    """
    content = {
        "hardware": {
            **asdict(hardware),
            # Kernels reserve a little more or less: whole gibibytes name the board's variant.
            "memory_bytes": round(hardware.memory_bytes / 2**30),
        },
        "system": asdict(system),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def read_device_id(state: Path, root: Path = sysfs.ROOT) -> str:
    """Return a stable identity of this machine: its machine-id, else one kept in `state`."""
    found = sysfs.read_text(root / "etc/machine-id")
    if found is None:
        kept = state / "device-id"
        found = sysfs.read_text(kept)
        if found is None:
            found = uuid.uuid4().hex
            kept.write_text(found)
    return hashlib.sha256(f"boardfront {found}".encode()).hexdigest()[:16]


def _cpu_model(root: Path) -> str:
    """Return the processor's name; Arm has only a part number, which is as good."""
    text = sysfs.read_text(root / "proc/cpuinfo") or ""
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
    text = sysfs.read_text(root / "proc/device-tree/compatible")
    if not text:
        return None
    return text.strip("\0").split("\0")[-1]


def _distribution(root: Path) -> str | None:
    text = sysfs.read_text(root / "etc/os-release") or ""
    for line in text.splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return None


def _logical_cores(root: Path) -> int:
    """Return how many cores are switched on; a root that does not tell counts as one."""
    found = len(sysfs.online_cpus(root))
    return found or (root == sysfs.ROOT and psutil.cpu_count()) or 1


def _physical_cores(root: Path) -> int | None:
    found = sysfs.physical_cores(root)
    return psutil.cpu_count(logical=False) if found is None and root == sysfs.ROOT else found


def _memory_bytes(root: Path) -> int:
    found = sysfs.memory_bytes(root).get("MemTotal")
    if found is None:
        return int(psutil.virtual_memory().total) if root == sysfs.ROOT else 0
    return found
