"""Looks for all that would make numbers wrong or backends fail here, and says what to do.

Reads only: nothing on the device is changed. Takes about as long as it looks at the load.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from boardfront.device_agent import (
    cores,
    doctor_checks,
    doctor_setup,
    environment,
    power,
    protections,
    sysfs,
)
from boardfront.device_agent.agent import Agent
from boardfront.device_agent.doctor_setup import Access, RknnVersions
from boardfront.device_agent.process import WorkerFailedError, WorkerProcess
from boardfront.protos import core_lists
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boardfront.protos.findings import Finding

_RUNTIMES = ("usr/lib/librknnrt.so", "usr/lib64/librknnrt.so", "lib/librknnrt.so")
_LARGEST_RUNTIME_BYTES = 64 << 20
_VENDORS = re.compile(r"QEMU|KVM|VMware|VirtualBox|innotek|Xen|Amazon EC2|Google Compute|Bochs")


def examine(root: Path, state: Path, *, look_s: float = 1.0) -> tuple[Finding, ...]:
    """Check everything; return all findings in the order in which they are to be read.

    Args:
        root: Where the device's files are.
        state: The agent's folder, which need not exist.
        look_s: How long to look at the background load.
    """
    cpus = cores.parse_cpus(cores.default_cpus(root))
    # First, while nothing of ours runs beside.
    load = _background_load(root, cpus, look_s)
    policies = sysfs.cpu_policies(root)
    memory_bytes = sysfs.memory_bytes(root)
    tops_hz = {cpu: p.top_hz for p in policies for cpu in p.cpus if p.top_hz is not None}
    brakes = [device for device in sysfs.cooling_devices(root) if device.brakes]
    counts = [sysfs.read_count(path) for path in sysfs.throttle_counters(root)]
    hottest_c = environment.read_temperature_c(root)
    energy = _energy_sources(root)
    return (
        doctor_checks.governor(policies, cpus),
        doctor_checks.frequency_limits(policies, cpus),
        doctor_checks.heat(sysfs.thermal_zones(root), hottest_c),
        doctor_checks.throttling(counts, brakes),
        load,
        doctor_checks.swap(memory_bytes),
        doctor_setup.memory(memory_bytes),
        doctor_checks.siblings(_thread_groups(root, cpus), cpus),
        doctor_checks.big_cores(sysfs.cpu_capacities(root), tops_hz, cpus),
        doctor_checks.clock_source(_clock_source(root), _resolution_s(root)),
        doctor_setup.virtual(_virtual_signs(root)),
        doctor_setup.clock_rights(_clock_access(root, policies)),
        doctor_setup.energy_rights(*energy),
        doctor_setup.device_rights(_device_access(root)),
        _state_folder(state),
        doctor_setup.agents_user(os.geteuid()),
        *_worker_isolation(),
        *_backends(),
        doctor_setup.rknn(_rknn_versions(root)),
    )


def _background_load(root: Path, cpus: Sequence[int], look_s: float) -> Finding:
    here = root == sysfs.ROOT
    processes = _process_times() if here else {}
    before = sysfs.cpu_times(root)
    time.sleep(look_s)
    after = sysfs.cpu_times(root)
    busiest = _busiest(processes, _process_times(), look_s) if here else []
    return doctor_checks.background_load(before, after, cpus, busiest)


def _process_times() -> dict[tuple[int, str], float]:
    """Return the processor seconds of every process but this one."""
    found = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != os.getpid():
            found[process.pid, process.info["name"]] = times.user + times.system
    return found


def _busiest(
    before: Mapping[tuple[int, str], float], after: Mapping[tuple[int, str], float], look_s: float
) -> list[str]:
    """Return the names of up to three processes that took over a hundredth of a core."""
    used = [(after[key] - before.get(key, after[key]), key) for key in after]
    top = sorted(used, reverse=True)[:3]
    return [f"{name} {cpu_s / look_s:.0%}" for cpu_s, (_, name) in top if cpu_s > 0.01 * look_s]


def _thread_groups(root: Path, cpus: Sequence[int]) -> dict[int, tuple[int, ...] | None]:
    listed = {
        cpu: sysfs.read_text(root / sysfs.CPU / f"cpu{cpu}/topology/thread_siblings_list")
        for cpu in cpus
    }
    return {cpu: core_lists.parse_cpus(text or "") for cpu, text in listed.items()}


def _clock_source(root: Path) -> str | None:
    folder = root / "sys/devices/system/clocksource/clocksource0"
    return sysfs.read_text(folder / "current_clocksource")


def _resolution_s(root: Path, readings: int = 2000) -> float | None:
    """Return the shortest step of the clock that samples are timed by; it includes one call."""
    if root != sysfs.ROOT:
        return None
    times = [time.perf_counter() for _ in range(readings)]
    steps = [late - early for early, late in itertools.pairwise(times) if late > early]
    return min(steps, default=1.0)


def _virtual_signs(root: Path) -> list[str] | None:
    cpuinfo = sysfs.read_text(root / "proc/cpuinfo")
    if cpuinfo is None:
        return None
    signs = []
    if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE):
        signs.append("hypervisor flag in /proc/cpuinfo")
    for name in ("sys_vendor", "product_name"):
        text = sysfs.read_text(root / "sys/class/dmi/id" / name) or ""
        if _VENDORS.search(text):
            signs.append(text)
    if "dummy-virt" in (sysfs.read_text(root / "proc/device-tree/compatible") or ""):
        signs.append("device tree of a virtual machine")
    signs += [
        f"/{name}"
        for name in (".dockerenv", "run/.containerenv", "run/systemd/container")
        if (root / name).exists()
    ]
    return signs


def _clock_access(root: Path, policies: Sequence[sysfs.CpuPolicy]) -> list[Access]:
    names = ("scaling_governor", "scaling_min_freq", "scaling_max_freq")
    paths = [policy.path / name for policy in policies for name in names]
    paths += [device.path / "governor" for device in sysfs.devfreqs(root) if device.kind]
    return [Access(path=str(path), allowed=os.access(path, os.W_OK)) for path in paths]


def _energy_sources(root: Path) -> tuple[list[str], list[str]]:
    sources = [f"rapl:{domain.name}" for domain in power.rapl_domains(root)]
    sources += [
        f"hwmon:{rail.name}" for rail in power.power_rails(root) if rail.read_w() is not None
    ]
    counters = sysfs.numbered(root / "sys/class/powercap", "intel-rapl:*")
    files = [path / "energy_uj" for path in counters]
    return sources, [
        str(file) for file in files if file.exists() and sysfs.read_text(file) is None
    ]


def _device_access(root: Path) -> list[Access]:
    dev = root / "dev"
    paths = sysfs.numbered(dev / "dri", "renderD[0-9]*")
    paths += [path for name in ("rknpu", "nvidia0") if (path := dev / name).exists()]
    found = [Access(path=str(path), allowed=os.access(path, os.R_OK | os.W_OK)) for path in paths]
    if _has_npu(root):
        debug = root / "sys/kernel/debug/rknpu"
        found.append(Access(path=str(debug), allowed=os.access(debug, os.R_OK | os.X_OK)))
    return found


def _state_folder(state: Path) -> Finding:
    """Judge the folder, or the nearest one above it that exists."""
    here = state.absolute()
    while not here.exists() and here != here.parent:
        here = here.parent
    allowed = here.is_dir() and os.access(here, os.W_OK | os.X_OK)
    free_bytes = None
    with contextlib.suppress(OSError):
        free_bytes = shutil.disk_usage(here).free
    is_open = state.is_dir() and bool(state.stat().st_mode & 0o077)
    access = Access(path=str(state), allowed=allowed)
    return doctor_setup.state_folder(access, free_bytes, is_open=is_open)


def _worker_isolation() -> tuple[Finding, ...]:
    with tempfile.TemporaryDirectory() as folder:
        bounds = protections.WorkerBounds(state=Path(folder))
        try:
            with protections.workers(bounds), WorkerProcess() as worker:
                held = worker.protections()
        except WorkerFailedError:
            held = None
    return doctor_setup.worker_isolation(held, protections.obstacle())


def _backends() -> tuple[Finding, ...]:
    with tempfile.TemporaryDirectory() as folder:
        agent = Agent(Path(folder))
        try:
            return doctor_setup.backends(agent.describe().backends)
        except BoardfrontError as error:
            return doctor_setup.backends(None, str(error))
        finally:
            agent.stop()


def _has_npu(root: Path) -> bool:
    """Whether this is a chip of Rockchip's with an NPU."""
    compatible = sysfs.read_text(root / "proc/device-tree/compatible") or ""
    is_there = (root / "sys/kernel/debug/rknpu").exists() or (root / "dev/rknpu").exists()
    return is_there or re.search(r"rockchip,(rk35(?!28)|rv11)", compatible) is not None


def _rknn_versions(root: Path) -> RknnVersions:
    toolkit = None
    with contextlib.suppress(PackageNotFoundError):
        toolkit = version("rknn-toolkit-lite2")
    return RknnVersions(
        has_npu=_has_npu(root),
        toolkit=toolkit,
        runtime=_runtime_version(root),
        driver=_driver_version(root),
    )


def _runtime_version(root: Path) -> str | None:
    """Return the version that is written in Rockchip's runtime library."""
    for name in _RUNTIMES:
        path = root / name
        with contextlib.suppress(OSError):
            if path.stat().st_size > _LARGEST_RUNTIME_BYTES:
                continue
            found = re.search(rb"librknnrt version: (\d+(?:\.\d+)+)", path.read_bytes())
            if found:
                return found[1].decode()
    return None


def _driver_version(root: Path) -> str | None:
    found = sysfs.rknpu_version(root)
    if found is None:
        text = sysfs.read_text(root / "proc/rknpu/version") or ""
        matched = re.search(r"v?(\d+(?:\.\d+)+)", text)
        found = matched[1] if matched else None
    return found
