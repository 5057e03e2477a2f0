"""What on a device makes times wrong: clocks, heat, load, cores, timers. Pure functions.

A check gets readings and returns one finding. What could not be read is a warning that says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.protos.core_lists import format_cpus
from boardfront.protos.findings import Finding, good, problem, unknown, warning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boardfront.device_agent.sysfs import CoolingDevice, CpuPolicy, CpuTimes, ThermalZone

SHORT_OF_HEADROOM_C = 10.0
BUSY_WARNING, BUSY_PROBLEM = 0.05, 0.10
STEAL_WARNING, STEAL_PROBLEM = 0.005, 0.02
"""The higher ones are where a result's verdict is `contended` (docs/measurement.md)."""
_NO_CPUFREQ = "clocks can be neither seen nor held here: use the machine itself, or another kernel"
_SWAP_BYTES = 16 << 20
_ALIKE = 0.9
_GOOD_CLOCKS = {
    *("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page"),
    *("riscv_clocksource", "timebase"),
}
_SLOW_CLOCKS = {"hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"}


def governor(policies: Sequence[CpuPolicy], cpus: Sequence[int]) -> Finding:
    """Judge whether the governor of the default cores keeps their clock up."""
    name = "governor"
    ours = _of_cores(policies, cpus)
    kinds = sorted({policy.governor for policy in ours if policy.governor is not None})
    if not kinds or any(policy.governor is None for policy in ours):
        return unknown(name, "no scaling_governor", _NO_CPUFREQ)
    evidence = f"cores {format_cpus(cpus)}: {', '.join(kinds)}"
    if kinds == ["performance"]:
        return good(name, "performance", evidence)
    if all(policy.min_hz is not None and policy.min_hz == policy.max_hz for policy in ours):
        return good(name, "any, because the clock is held", evidence)
    return warning(
        name,
        "the clock follows the load",
        evidence,
        "serve with --lock-clocks, or: echo performance | sudo tee "
        "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
    )


def frequency_limits(policies: Sequence[CpuPolicy], cpus: Sequence[int]) -> Finding:
    """Judge whether the default cores may run as fast as they can."""
    name = "frequency limits"
    ours = [p for p in _of_cores(policies, cpus) if p.max_hz is not None and p.top_hz is not None]
    if not ours:
        return unknown(name, "no scaling_max_freq or cpuinfo_max_freq", _NO_CPUFREQ)
    below = [p for p in ours if (p.max_hz or 0) < (p.top_hz or 0)]
    evidence = "; ".join(
        f"cores {format_cpus(p.cpus)}: {(p.max_hz or 0) / 1e6:.0f} of "
        f"{(p.top_hz or 0) / 1e6:.0f} MHz"
        for p in below
    )
    if not below:
        return good(name, "not lowered")
    if all(policy.min_hz == policy.max_hz for policy in below):
        return good(name, "the clock is held there", evidence)
    return warning(
        name,
        "cores may not run as fast as they can",
        evidence,
        "copy each policy's cpuinfo_max_freq to its scaling_max_freq (as root), and look whether "
        "heat or a power profile lowers it again",
    )


def heat(zones: Sequence[ThermalZone], hottest_c: float | None) -> Finding:
    """Judge how far the device is from slowing down: the zone nearest to its trip point.

    Args:
        zones: All thermal zones.
        hottest_c: The hottest sensor, in degrees Celsius, which need not have a trip point.
    """
    name = "heat"
    margins = []
    for zone in zones:
        # Trip points that are not used are set to 0 or below.
        trips_c = [c for kind, c in zone.trips_c if kind in ("passive", "hot") and c > 0]
        if trips_c and zone.temperature_c is not None:
            margins.append((min(trips_c) - zone.temperature_c, zone.kind, zone.temperature_c))
    if not margins:
        seen = "no sensor" if hottest_c is None else f"{hottest_c:.0f} °C, but no trip point"
        return unknown(
            name, f"headroom: {seen}", "look at the temperatures of results, and cool the device"
        )
    left_c, kind, now_c = min(margins)
    evidence = f"{kind}: {now_c:.0f} °C, slows down at {now_c + left_c:.0f} °C"
    remedy = "add a heat sink or a fan, or let the device cool down first"
    if left_c <= 0:
        return problem(name, "the device is slowed down by heat", evidence, remedy)
    if left_c < SHORT_OF_HEADROOM_C:
        return warning(name, f"only {left_c:.0f} degrees left", evidence, remedy)
    return good(name, f"{left_c:.0f} degrees left", evidence)


def throttling(counts: Sequence[int | None], brakes: Sequence[CoolingDevice]) -> Finding:
    """Judge whether the processor was or is slowed down.

    Args:
        counts: The counters of throttling since the start.
        brakes: Cooling devices that slow processors down.
    """
    name = "throttling"
    active = [f"{b.kind} at {b.state} of {b.max_state}" for b in brakes if b.state]
    events = [count for count in counts if count is not None]
    if active:
        return problem(
            name,
            "processors are being slowed down now",
            ", ".join(active),
            "let the device cool down; add a heat sink or a fan, or a stronger power supply",
        )
    if any(events):
        return warning(
            name,
            "the processor was slowed down since the start",
            f"{max(events)} times by the highest counter",
            "cool the device better; hold a lower frequency that it can keep: --lock-clocks MHZ",
        )
    if not events and all(brake.state is None for brake in brakes):
        return unknown(
            name, "no counter and no cooling device", "cool the device well: it cannot tell"
        )
    return good(name, "none now" + (" and none since the start" if events else ""))


def swap(memory_bytes: Mapping[str, int]) -> Finding:
    """Judge whether memory was swapped out."""
    name = "swap"
    total, free = memory_bytes.get("SwapTotal"), memory_bytes.get("SwapFree")
    if total is None or free is None:
        return unknown(name, "no SwapTotal in /proc/meminfo", "look with `swapon --show`")
    if total == 0:
        return good(name, "there is none")
    evidence = f"{(total - free) >> 20} of {total >> 20} MiB"
    if total - free < _SWAP_BYTES:
        return good(name, "not in use", evidence)
    return warning(
        name,
        "in use: a network may wait for the disk",
        evidence,
        "end what takes the memory, then: sudo swapoff -a",
    )


def background_load(
    before: Mapping[int | None, CpuTimes],
    after: Mapping[int | None, CpuTimes],
    cpus: Sequence[int],
    busiest: Sequence[str] = (),
) -> Finding:
    """Judge what others do on the default cores while nothing is measured.

    Args:
        before: Times of the cores.
        after: The same, about a second later.
        cpus: The default cores.
        busiest: Names of the processes that took most, as evidence.
    """
    name = "background load"
    if not cpus or not all(cpu in before and cpu in after for cpu in cpus):
        return unknown(name, "no times of the cores in /proc/stat", "look with `top`")
    total_s = sum(after[cpu].total_s - before[cpu].total_s for cpu in cpus)
    if total_s <= 0:
        return unknown(name, "/proc/stat stands still", "look with `top`")
    busy = sum(after[cpu].busy_s - before[cpu].busy_s for cpu in cpus) / total_s
    steal = sum(after[cpu].steal_s - before[cpu].steal_s for cpu in cpus) / total_s
    evidence = f"cores {format_cpus(cpus)}: {busy:.1%} busy, {steal:.1%} taken by a hypervisor"
    if busiest:
        evidence += f" (most: {', '.join(busiest)})"
    remedy = "end other programs, or time other cores"
    if steal > STEAL_WARNING:
        remedy += "; other virtual machines share these cores: use a machine of your own"
    if busy > BUSY_PROBLEM or steal > STEAL_PROBLEM:
        return problem(name, "results will be marked contended", evidence, remedy)
    if busy > BUSY_WARNING or steal > STEAL_WARNING:
        return warning(name, "others use the cores", evidence, remedy)
    return good(name, "little", evidence)


def siblings(groups: Mapping[int, Sequence[int] | None], cpus: Sequence[int]) -> Finding:
    """Judge whether two of the default cores are threads of one.

    Args:
        groups: The hardware threads of each core's own core, itself included.
        cpus: The default cores.
    """
    name = "hyper-threads"
    if not cpus or any(not groups.get(cpu) for cpu in cpus):
        return unknown(name, "no thread_siblings_list", "look with `lscpu --extended`")
    first_of = {cpu: min(set(groups[cpu] or ()) & set(cpus), default=cpu) for cpu in cpus}
    alone = sorted(set(first_of.values()))
    if len(alone) == len(cpus):
        return good(name, "none among the default cores", f"cores {format_cpus(cpus)}")
    return warning(
        name,
        "default cores share their execution units",
        f"{len(cpus)} threads on {len(alone)} cores",
        f"time one thread a core (cores {format_cpus(alone)}), or: "
        "echo off | sudo tee /sys/devices/system/cpu/smt/control",
    )


def big_cores(
    capacities: Mapping[int, int], tops_hz: Mapping[int, float], default: Sequence[int]
) -> Finding:
    """Judge whether the default cores are the fastest ones, and only those.

    Args:
        capacities: The kernel's capacity of each core that has one.
        tops_hz: The highest clock of each core that has one.
        default: The default cores, which are among those that the agent may use.
    """
    name = "big and little cores"
    ranks: Mapping[int, float] = capacities or tops_hz
    if not ranks or any(cpu not in ranks for cpu in default):
        return unknown(
            name,
            "neither cpu_capacity nor cpuinfo_max_freq of all cores",
            "if this chip has cores of several kinds, name the cores of each target",
        )
    big = sorted(cpu for cpu, rank in ranks.items() if rank >= _ALIKE * max(ranks.values()))
    if len(big) == len(ranks):
        return good(name, "all cores are alike", f"cores {format_cpus(ranks)}")
    evidence = f"fastest are {format_cpus(big)} of {format_cpus(ranks)}"
    evidence += f", default is {format_cpus(default)}"
    excluded = sorted(set(big) - set(default))
    if not set(big) & set(default):
        return problem(
            name,
            "the agent may not use the big cores",
            evidence,
            f"start the agent without taskset or cpuset limits, or with: taskset -c "
            f"{format_cpus(ranks)}",
        )
    if set(default) - set(big):
        return warning(
            name,
            "networks run on cores of several kinds",
            evidence,
            f"name the cores of the target: {format_cpus(sorted(set(big) & set(default)))}",
        )
    if excluded:
        return warning(
            name,
            "the agent may not use all big cores",
            f"{evidence}, excluded are {format_cpus(excluded)}",
            "start the agent without taskset or cpuset limits",
        )
    return good(name, "networks run on the big cores", evidence)


def clock_source(current: str | None, resolution_s: float | None) -> Finding:
    """Judge the clock that samples are timed by.

    Args:
        current: The kernel's clock source.
        resolution_s: The shortest step that was seen; None: not of this machine.
    """
    name = "clock source"
    if current is None:
        return unknown(name, "no current_clocksource", "look with `dmesg | grep clocksource`")
    evidence = current
    if resolution_s is not None:
        evidence += f", steps of {resolution_s * 1e9:.0f} ns"
    remedy = (
        "boot with clocksource=tsc if the processor has a stable one: look at `dmesg | grep tsc`"
    )
    if current in _SLOW_CLOCKS or (resolution_s is not None and resolution_s > 1e-5):
        return problem(name, "slow or coarse", evidence, remedy)
    if current not in _GOOD_CLOCKS or (resolution_s is not None and resolution_s > 1e-6):
        return warning(name, "not one that is known to be fast", evidence, remedy)
    return good(name, "fine", evidence)


def _of_cores(policies: Sequence[CpuPolicy], cpus: Sequence[int]) -> list[CpuPolicy]:
    return [policy for policy in policies if set(policy.cpus) & set(cpus)]
