"""Which cores a device has, which of them are timed, and which are left for everything else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from boardfront.device_agent import sysfs
from boardfront.protos import core_lists
from boardfront.protos.core_lists import format_cpus
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import CpuCluster

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ALIKE = 0.9
"""Clusters of at least this share of the highest capacity count as the fastest ones too: chips of
one cluster design are binned to slightly different clocks, and the capacity follows the clock."""


def parse_cpus(text: str) -> tuple[int, ...]:
    """Return the cores of a list as the kernel writes it, e.g. "0-3,6".

    Raises:
        WrongInputError: If it is not such a list.
    """
    found = core_lists.parse_cpus(text)
    if found is None:
        raise WrongInputError(f"cores {text!r}: expected a list such as 0-3,6")
    return found


def allowed_cpus(root: Path = sysfs.ROOT) -> tuple[int, ...]:
    """Return the cores that this process may use; of another root than this machine's, all."""
    if root == sysfs.ROOT and hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return sysfs.online_cpus(root) or tuple(range(os.cpu_count() or 1))


def clusters(root: Path = sysfs.ROOT) -> tuple[CpuCluster, ...]:
    """Return the cores that share a clock, by policy, else by capacity, else all as one."""
    capacities = sysfs.cpu_capacities(root)
    found = [
        CpuCluster(
            cpus=format_cpus(policy.cpus),
            capacity=_capacity(policy.cpus, capacities),
            max_frequency_hz=policy.top_hz,
            governor=policy.governor,
        )
        for policy in sysfs.cpu_policies(root)
    ]
    covered = {cpu for cluster in found for cpu in parse_cpus(cluster.cpus)}
    left = [cpu for cpu in sysfs.online_cpus(root) if cpu not in covered]
    for capacity in sorted({capacities.get(cpu) for cpu in left}, key=lambda value: value or 0):
        alike = [cpu for cpu in left if capacities.get(cpu) == capacity]
        found.append(CpuCluster(cpus=format_cpus(alike), capacity=capacity))
    return tuple(sorted(found, key=lambda cluster: parse_cpus(cluster.cpus)))


def default_cpus(root: Path = sysfs.ROOT, allowed: Sequence[int] | None = None) -> str:
    """Return the cores of a subject that names none.

    They are the fastest clusters where the kernel tells the clusters apart, otherwise all.

    Args:
        root: Where the device's files are.
        allowed: Cores that the agent may use; default is `allowed_cpus(root)`.
    """
    usable = allowed_cpus(root) if allowed is None else tuple(allowed)
    capacities = sysfs.cpu_capacities(root)
    if not usable or any(cpu not in capacities for cpu in usable):
        return format_cpus(usable)
    highest = max(capacities[cpu] for cpu in usable)
    return format_cpus(cpu for cpu in usable if capacities[cpu] >= _ALIKE * highest)


def resolve_cpus(text: str, allowed: Sequence[int]) -> str:
    """Return an explicit set of cores in the kernel's own spelling.

    Args:
        text: What was asked, e.g. "4-7".
        allowed: Cores that the agent may use.

    Raises:
        WrongInputError: If it is no list, is empty, or names a core that is not among them.
    """
    asked = parse_cpus(text)
    if not asked or not set(asked) <= set(allowed):
        raise WrongInputError(
            f"cores {text!r} were asked: expected some of {format_cpus(allowed)}, "
            "which are the ones that the agent may use"
        )
    return format_cpus(asked)


def telemetry_cpus(timed: Sequence[int], allowed: Sequence[int]) -> tuple[int, ...]:
    """Return the cores for work beside the timed one: those not timed, where there are others."""
    others = tuple(sorted(set(allowed) - set(timed)))
    return others or tuple(sorted(allowed))


def governor(root: Path, cpus: str) -> str | None:
    """Return the frequency governor of these cores ("" is all); several are joined by "+"."""
    wanted = set(parse_cpus(cpus))
    found = {
        policy.governor
        for policy in sysfs.cpu_policies(root)
        if policy.governor is not None and (not wanted or wanted & set(policy.cpus))
    }
    return "+".join(sorted(found)) or None


def _capacity(cpus: Sequence[int], capacities: dict[int, int]) -> int | None:
    found = [capacities[cpu] for cpu in cpus if cpu in capacities]
    return max(found) if found else None
