"""What Linux tells of a board in its files, read under a root that tests replace.

Every reading that is absent, unreadable or nonsense is None and never 0. Kernel units (kHz, m°C,
µJ, ticks) end here: outwards it is Hz, degrees Celsius, seconds, bytes.

Source: the Linux kernel's Documentation/ABI (sysfs-devices-system-cpu, sysfs-class-thermal,
    sysfs-class-devfreq) and proc(5).
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.protos.core_lists import parse_cpus

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path("/")
"""The machine this runs on."""

CPU = Path("sys/devices/system/cpu")
_LARGEST_BYTES = 1 << 16
_TICKS_PER_S = float(os.sysconf("SC_CLK_TCK"))
_COLDEST_C, _HOTTEST_C = -60.0, 200.0
"""Sensors that are switched off report readings such as -274 or 255 degrees."""
_CPU_HWMON = {"coretemp", "k10temp", "zenpower", "cpu_thermal"}
_NO_BRAKE = re.compile(r"fan|lcd|backlight|wifi|tcc|charg|battery", re.IGNORECASE)
"""Cooling devices that do not slow the processors down."""
_DEVFREQ_KINDS = (
    ("npu", re.compile(r"npu")),
    ("gpu", re.compile(r"gpu|\.ga10b$|\.gv11b$|\.mali$")),
    ("memory", re.compile(r"dmc|emc")),
)


def read_text(path: Path | str) -> str | None:
    """Return a file's text without the blanks around it; None if absent, unreadable or empty."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(descriptor, _LARGEST_BYTES):
            parts.append(part)
            # A sysfs attribute is one short read; asking for its end would cost as much again.
            if len(part) < 256:
                break
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return b"".join(parts).decode(errors="replace").strip() or None


def read_number(path: Path | str) -> float | None:
    """Return a file's one finite number, in the file's own unit."""
    text = read_text(path)
    try:
        number = None if text is None else float(text)
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def read_count(path: Path | str) -> int | None:
    """Return a file's one whole number of at least 0."""
    number = read_number(path)
    return int(number) if number is not None and number >= 0 else None


def read_hz(path: Path | str, scale: float = 1.0) -> float | None:
    """Return a file's frequency in Hz; `scale` is 1000 for kHz. No clock runs at 0."""
    number = read_number(path)
    return number * scale if number is not None and number > 0 else None


def read_celsius(path: Path | str) -> float | None:
    """Return a file's temperature; the file is in thousandths of a degree."""
    number = read_number(path)
    if number is None or not _COLDEST_C <= number / 1e3 <= _HOTTEST_C:
        return None
    return number / 1e3


def read_words(path: Path | str) -> tuple[str, ...]:
    """Return a file's words; none if it cannot be read."""
    return tuple((read_text(path) or "").split())


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Return the matching entries of a folder by their numbers: cpu2 before cpu10."""
    try:
        found = list(folder.glob(pattern))
    except OSError:
        return []
    return sorted(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])


def online_cpus(root: Path = ROOT) -> tuple[int, ...]:
    """Return the cores that are switched on; none if that cannot be read."""
    listed = parse_cpus(read_text(root / CPU / "online") or "")
    if listed:
        return listed
    return tuple(int(path.name[3:]) for path in numbered(root / CPU, "cpu[0-9]*"))


def physical_cores(root: Path = ROOT) -> int | None:
    """Return how many cores there are, hyper-threads not counted twice."""
    siblings = {
        read_text(root / CPU / f"cpu{cpu}/topology/thread_siblings_list")
        for cpu in online_cpus(root)
    }
    return len(siblings) if siblings and None not in siblings else None


def cpu_capacities(root: Path = ROOT) -> dict[int, int]:
    """Return the kernel's capacity of each core that has one; 1024 is the fastest core."""
    read = ((cpu, read_count(root / CPU / f"cpu{cpu}/cpu_capacity")) for cpu in online_cpus(root))
    return {cpu: capacity for cpu, capacity in read if capacity}


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuPolicy:
    """Cores that the kernel clocks together.

    `min_hz` and `max_hz` are the limits that are set, `bottom_hz` and `top_hz` the chip's own.
    """

    path: Path
    cpus: tuple[int, ...]
    governor: str | None
    available_governors: tuple[str, ...]
    current_hz: float | None
    min_hz: float | None
    max_hz: float | None
    bottom_hz: float | None
    top_hz: float | None


def cpu_policies(root: Path = ROOT) -> tuple[CpuPolicy, ...]:
    """Return the frequency policies of the cores that are switched on."""
    found = []
    for path in numbered(root / CPU / "cpufreq", "policy[0-9]*"):
        text = read_text(path / "affected_cpus") or read_text(path / "related_cpus") or ""
        cpus = parse_cpus(text)
        if not cpus:
            continue
        found.append(
            CpuPolicy(
                path=path,
                cpus=cpus,
                governor=read_text(path / "scaling_governor"),
                available_governors=read_words(path / "scaling_available_governors"),
                current_hz=read_hz(path / "scaling_cur_freq", 1e3),
                min_hz=read_hz(path / "scaling_min_freq", 1e3),
                max_hz=read_hz(path / "scaling_max_freq", 1e3),
                bottom_hz=read_hz(path / "cpuinfo_min_freq", 1e3),
                top_hz=read_hz(path / "cpuinfo_max_freq", 1e3),
            )
        )
    return tuple(found)


def time_in_state(policy: Path) -> dict[float, float] | None:
    """Return the seconds that a policy's cores spent at each frequency in Hz since the start."""
    lines = (read_text(policy / "stats/time_in_state") or "").splitlines()
    try:
        pairs = [(float(khz), float(ticks)) for khz, ticks in map(str.split, lines)]
    except ValueError:
        return None
    return {khz * 1e3: ticks / _TICKS_PER_S for khz, ticks in pairs} or None


@dataclass(frozen=True, kw_only=True, slots=True)
class ThermalZone:
    """One place where heat is measured. `trips_c` is (kind, temperature) of each trip point."""

    path: Path
    kind: str
    temperature_c: float | None
    trips_c: tuple[tuple[str, float], ...]


def thermal_zones(root: Path = ROOT) -> tuple[ThermalZone, ...]:
    """Return the thermal zones."""
    return tuple(
        ThermalZone(
            path=path,
            kind=read_text(path / "type") or path.name,
            temperature_c=read_celsius(path / "temp"),
            trips_c=_trips(path),
        )
        for path in numbered(root / "sys/class/thermal", "thermal_zone[0-9]*")
    )


def _trips(zone: Path) -> tuple[tuple[str, float], ...]:
    found = []
    for path in numbered(zone, "trip_point_*_temp"):
        temperature_c = read_celsius(path)
        kind = read_text(path.with_name(path.name.removesuffix("temp") + "type"))
        if temperature_c is not None:
            found.append((kind or "unknown", temperature_c))
    return tuple(found)


def temperature_files(root: Path = ROOT) -> dict[str, Path]:
    """Return the files of all thermal zones and processor sensors, by names that differ."""
    found: dict[str, Path] = {}
    for zone in numbered(root / "sys/class/thermal", "thermal_zone[0-9]*"):
        kind = read_text(zone / "type") or zone.name
        found[f"{kind} ({zone.name})" if kind in found else kind] = zone / "temp"
    for device in numbered(root / "sys/class/hwmon", "hwmon[0-9]*"):
        name = read_text(device / "name")
        if name in _CPU_HWMON:
            found[f"{name} ({device.name})"] = device / "temp1_input"
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class CoolingDevice:
    """Something that cools; state 0 is idle. `brakes`: it does so by slowing a processor down."""

    path: Path
    kind: str
    state: int | None
    max_state: int | None
    brakes: bool


def cooling_devices(root: Path = ROOT) -> tuple[CoolingDevice, ...]:
    """Return the cooling devices."""
    found = []
    for path in numbered(root / "sys/class/thermal", "cooling_device[0-9]*"):
        kind = read_text(path / "type") or path.name
        found.append(
            CoolingDevice(
                path=path,
                kind=kind,
                state=read_count(path / "cur_state"),
                max_state=read_count(path / "max_state"),
                brakes=_NO_BRAKE.search(kind) is None,
            )
        )
    return tuple(found)


def throttle_counters(root: Path = ROOT) -> tuple[Path, ...]:
    """Return the x86 counters of thermal throttling: one of each core, one of each package."""
    paths: list[Path] = []
    packages: set[str | None] = set()
    for cpu in online_cpus(root):
        folder = root / CPU / f"cpu{cpu}"
        package = read_text(folder / "topology/physical_package_id")
        names = ["core_throttle_count"]
        if package not in packages:
            names.append("package_throttle_count")
            packages.add(package)
        paths += [path for name in names if (path := folder / "thermal_throttle" / name).exists()]
    return tuple(paths)


@dataclass(frozen=True, kw_only=True, slots=True)
class Devfreq:
    """A clocked device beside the cores; `kind` is "npu", "gpu", "memory" or ""."""

    path: Path
    kind: str
    governor: str | None
    available_governors: tuple[str, ...]
    current_hz: float | None
    min_hz: float | None
    max_hz: float | None
    available_hz: tuple[float, ...]


def devfreqs(root: Path = ROOT) -> tuple[Devfreq, ...]:
    """Return the clocked devices beside the cores."""
    try:
        paths = sorted((root / "sys/class/devfreq").iterdir())
    except OSError:
        return ()
    return tuple(
        Devfreq(
            path=path,
            kind=next((kind for kind, names in _DEVFREQ_KINDS if names.search(path.name)), ""),
            governor=read_text(path / "governor"),
            available_governors=read_words(path / "available_governors"),
            current_hz=read_hz(path / "cur_freq"),
            min_hz=read_hz(path / "min_freq"),
            max_hz=read_hz(path / "max_freq"),
            available_hz=tuple(
                sorted(
                    float(word)
                    for word in read_words(path / "available_frequencies")
                    if word.isdecimal()
                )
            ),
        )
        for path in paths
    )


def rknpu_version(root: Path = ROOT) -> str | None:
    """Return the version of Rockchip's NPU driver, e.g. "0.9.6"; usually root's to read."""
    text = read_text(root / "sys/kernel/debug/rknpu/version") or ""
    matched = re.search(r"v?(\d+(?:\.\d+)+)", text)
    return matched[1] if matched else None


def rknpu_load(root: Path = ROOT) -> tuple[float, ...] | None:
    """Return how busy each core of Rockchip's NPU is (0..1); usually root's to read."""
    text = read_text(root / "sys/kernel/debug/rknpu/load") or ""
    found = tuple(float(percent) / 100 for percent in re.findall(r"(\d+)\s*%", text))
    return found or None


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuTimes:
    """Seconds of one core, or of all, since the start. `steal_s` went to other machines."""

    busy_s: float
    total_s: float
    steal_s: float


def cpu_times(root: Path = ROOT) -> Mapping[int | None, CpuTimes]:
    """Return the times of each core, and under None those of all; empty if unreadable."""
    found: dict[int | None, CpuTimes] = {}
    for line in (read_text(root / "proc/stat") or "").splitlines():
        if not line.startswith("cpu"):
            break
        name, *fields = line.split()
        try:
            # user nice system idle iowait irq softirq steal; guests are in user already.
            times = [float(field) / _TICKS_PER_S for field in fields[:8]]
            number = int(name[3:]) if name[3:] else None
        except ValueError:
            continue
        if len(times) == 8:
            busy_s = sum(times[:3]) + sum(times[5:7])
            found[number] = CpuTimes(busy_s=busy_s, total_s=sum(times), steal_s=times[7])
    return found


def memory_bytes(root: Path = ROOT) -> Mapping[str, int]:
    """Return the fields of /proc/meminfo (MemTotal, MemAvailable, SwapTotal, ...) in bytes."""
    found: dict[str, int] = {}
    for line in (read_text(root / "proc/meminfo") or "").splitlines():
        matched = re.match(r"(\w+):\s+(\d+) kB", line)
        if matched:
            found[matched[1]] = int(matched[2]) * 1024
    return found


def load_average(root: Path = ROOT) -> float | None:
    """Return how many tasks wanted to run, on average over the last minute."""
    words = read_words(root / "proc/loadavg")
    try:
        return float(words[0]) if words else None
    except ValueError:
        return None
