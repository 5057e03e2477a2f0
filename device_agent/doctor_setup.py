"""What around a device stops backends or readings: rights, versions, space. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.device_agent.limits import MOST_PROCESSES
from boardfront.protos.findings import Finding, good, problem, unknown, warning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boardfront.device_agent.protections import Protections
    from boardfront.protos.records import BackendInfo

_OLDEST_DRIVER, _OLD_DRIVER = (0, 9, 2), (0, 9, 6)
"""Rockchip numbers its driver apart from toolkit and runtime and publishes no table. Reported are
0.9.6 and 0.9.8 with runtimes 2.x, and trouble with 0.8 and 0.9.2.

Source: github.com/airockchip/rknn-toolkit2 issues 405, 465, 468; radxa-build/rock-5b issue 29.
"""
_DISK_PROBLEM_BYTES, _DISK_WARNING_BYTES = 256 << 20, 2 << 30
_MEMORY_PROBLEM_BYTES, _MEMORY_WARNING_BYTES = 256 << 20, 1 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """A file and whether the agent may do with it what it needs to."""

    path: str
    allowed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RknnVersions:
    """What of Rockchip's NPU software is installed, None where it is not or cannot be read."""

    has_npu: bool
    toolkit: str | None
    runtime: str | None
    driver: str | None


def clock_rights(clocks: Sequence[Access]) -> Finding:
    """Judge whether --lock-clocks could set these files."""
    name = "clock permissions"
    if not clocks:
        return unknown(
            name,
            "no clock that can be set",
            "--lock-clocks has no use here: use the machine itself",
        )
    refused = [clock.path for clock in clocks if not clock.allowed]
    if not refused:
        return good(name, "--lock-clocks may set the clocks")
    return warning(
        name,
        "--lock-clocks may not set all clocks",
        _some(refused),
        "run the agent with sudo, or let its user write them (docs/agent.md)",
    )


def energy_rights(sources: Sequence[str], unreadable: Sequence[str]) -> Finding:
    """Judge whether energy can be read.

    Args:
        sources: Names of the meters that can be read.
        unreadable: Counters that are there and refuse to be read.
    """
    name = "energy"
    if sources:
        return good(name, "can be read", ", ".join(sources))
    if unreadable:
        return warning(
            name,
            "there are counters that the agent may not read",
            _some(unreadable),
            "run the agent with sudo, or: sudo chmod a+r /sys/class/powercap/*/energy_uj",
        )
    return unknown(
        name,
        "no RAPL counter and no power sensor",
        "only needed to search for little energy: add a power sensor that hwmon knows",
    )


def device_rights(devices: Sequence[Access]) -> Finding:
    """Judge whether the agent may use the GPU and the NPU."""
    name = "GPU and NPU permissions"
    if not devices:
        return good(name, "nothing to permit", "no /dev/dri, no /dev/rknpu, no /dev/nvidia0")
    refused = [device.path for device in devices if not device.allowed]
    if not refused:
        return good(name, "may be used", _some([device.path for device in devices]))
    return warning(
        name,
        "the agent may not open all devices",
        _some(refused),
        "sudo usermod -aG render,video $USER, then log in again; /sys/kernel/debug needs sudo",
    )


def state_folder(access: Access, free_bytes: int | None, *, is_open: bool = False) -> Finding:
    """Judge whether jobs and artifacts can be kept, and from others.

    Args:
        access: To the folder.
        free_bytes: Of its disk; None: could not be read.
        is_open: Whether other users may look into it.
    """
    name = "state folder"
    if not access.allowed:
        return problem(
            name,
            "cannot be written",
            access.path,
            "give the agent another one: --state FOLDER, or change its owner",
        )
    if free_bytes is None:
        return unknown(name, f"free space of {access.path}", "look with `df`")
    evidence = f"{access.path}: {free_bytes / 2**30:.1f} GiB free"
    remedy = "make room, or: serve --state FOLDER elsewhere, --artifact-store-mb less"
    if free_bytes < _DISK_PROBLEM_BYTES:
        return problem(name, "the disk is full", evidence, remedy)
    if free_bytes < _DISK_WARNING_BYTES:
        return warning(name, "little space is left", evidence, remedy)
    if is_open:
        return warning(
            name, "other users may read networks and results", evidence, f"chmod 700 {access.path}"
        )
    return good(name, "writable, with space", evidence)


def memory(memory_bytes: Mapping[str, int]) -> Finding:
    """Judge whether networks have memory."""
    name = "memory"
    free, total = memory_bytes.get("MemAvailable"), memory_bytes.get("MemTotal")
    if free is None or total is None:
        return unknown(name, "no MemAvailable in /proc/meminfo", "look with `free`")
    evidence = f"{free >> 20} of {total >> 20} MiB available"
    remedy = "end other programs; large networks will fail as out_of_memory"
    if free < _MEMORY_PROBLEM_BYTES:
        return problem(name, "hardly any is left", evidence, remedy)
    if free < min(_MEMORY_WARNING_BYTES, total // 2):
        return warning(name, "little is left", evidence, remedy)
    return good(name, "enough", evidence)


def agents_user(uid: int) -> Finding:
    """Judge as whom the agent, and with it every network, runs."""
    name = "agent's user"
    if uid != 0:
        return good(name, "not root", f"user {uid}")
    return warning(
        name,
        "root: a network that breaks out of its runtime may do anything here",
        "user 0",
        "run the agent as a user of its own; it can hold the clocks too (docs/security.md)",
    )


def worker_isolation(
    held: Protections | None, obstacle: tuple[str, str]
) -> tuple[Finding, Finding, Finding]:
    """Judge what networks are kept from.

    Args:
        held: What a worker is kept from; None: no worker could be started.
        obstacle: Why it is not kept from more, and what to do.
    """
    names = ("worker rights", "worker network", "worker files")
    if held is None:
        seen = [unknown(name, "no worker started", "look at the backends below") for name in names]
        return seen[0], seen[1], seen[2]
    rights, network, files = names
    reason, remedy = obstacle
    limits = (
        f"{MOST_PROCESSES} processes, {held.tasks or 'any number of'} threads, "
        f"{held.open_files or 'any number of'} open files, "
        f"{'any size' if held.file_bytes is None else f'{held.file_bytes >> 20} MiB'} a file"
    )
    return (
        good(rights, "none can be gained, and numbers are bounded", limits)
        if held.no_new_privileges
        else warning(rights, "setuid programs give more", limits, "Linux 3.5 or later"),
        good(network, "none can be reached")
        if held.no_network
        else warning(network, "networks' processes can reach it", reason, remedy),
        good(files, "the agent's folder is read-only, its keys are hidden")
        if held.sealed_files
        else warning(files, "the agent's folder is open to networks' processes", reason, remedy),
    )


def virtual(signs: Sequence[str] | None) -> Finding:
    """Judge whether this is a machine of its own.

    Args:
        signs: What tells of a hypervisor or a container; None: could not be read.
    """
    name = "machine"
    if signs is None:
        return unknown(name, "no /proc/cpuinfo", "look with `systemd-detect-virt`")
    if not signs:
        return good(name, "no sign of a hypervisor or a container")
    return warning(
        name,
        "not a machine of its own",
        ", ".join(signs),
        "times are those of this virtual set-up: run the agent on the machine itself",
    )


def backends(infos: Sequence[BackendInfo] | None, failure: str = "") -> tuple[Finding, ...]:
    """Judge each backend by its own answer.

    Args:
        infos: What the backends said; None: they could not be asked.
        failure: Why not.
    """
    if infos is None:
        remedy = "run the agent with --debug and look at its messages"
        return (problem("backends", "could not be asked", failure, remedy),)
    found = []
    for info in infos:
        name = f"backend {info.name}"
        if info.available and info.reason:
            # Such a reason ends in what to do: ": pip install ...".
            evidence, _, remedy = info.reason.rpartition(": ")
            found.append(warning(name, "available, but not on every device", evidence, remedy))
        elif info.available:
            found.append(good(name, "available", info.version))
        else:
            remedy = "install it if this device is to use it: docs/agent.md"
            found.append(warning(name, "not available", info.reason, remedy))
    if not any(info.available for info in infos if info.name != "fake"):
        remedy = "install one, e.g.: pip install 'boardfront[onnxruntime]'"
        found.append(problem("backends", "none can run a network", "all but fake", remedy))
    return tuple(found)


def rknn(versions: RknnVersions) -> Finding:
    """Judge whether toolkit, runtime and driver of Rockchip's NPU go together.

    Toolkit and runtime must share major and minor version; the driver has numbers of its own.
    """
    name = "RKNN versions"
    toolkit, runtime, driver = versions.toolkit, versions.runtime, versions.driver
    if not versions.has_npu:
        return good(name, "no Rockchip NPU here")
    evidence = (
        f"toolkit-lite2 {toolkit or 'not found'}, librknnrt {runtime or 'not found'}, "
        f"driver {driver or 'could not be read'}"
    )
    if toolkit is None or runtime is None:
        return warning(
            name,
            "the NPU cannot be used",
            evidence,
            "there is no RKNN backend yet; for one of your own: pip install rknn-toolkit-lite2, "
            "and put librknnrt.so of the same version from github.com/airockchip/rknn-toolkit2 "
            "(rknpu2/runtime) into /usr/lib",
        )
    if _numbers(toolkit)[:2] != _numbers(runtime)[:2]:
        return problem(
            name,
            "toolkit and runtime do not go together",
            evidence,
            f"replace /usr/lib/librknnrt.so by version {toolkit}: github.com/airockchip/"
            "rknn-toolkit2 (rknpu2/runtime), and convert networks with the same version",
        )
    return _driver(name, driver, evidence)


def _driver(name: str, driver: str | None, evidence: str) -> Finding:
    if driver is None:
        return unknown(name, evidence, "run as root: sudo boardfront-agent doctor")
    update = "update the board's kernel: the driver is a part of it"
    if _numbers(driver) < _OLDEST_DRIVER:
        return problem(name, "the driver is too old", evidence, update)
    if _numbers(driver) < _OLD_DRIVER:
        return warning(name, "the driver is old", evidence, update)
    return good(name, "go together", evidence)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
    return ", ".join(paths[:2]) + more
