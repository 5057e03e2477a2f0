"""`boardfront-agent describe`: what this device is and what it can do."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import json_format

from boardfront.protos import codec
from boardfront.protos.core_lists import format_cpus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from boardfront.protos.records import CpuCluster, DeviceDescription


def run(options: argparse.Namespace) -> int:
    """Print it for people, or as JSON; return the exit code."""
    import tempfile

    from boardfront.device_agent.agent import Agent

    with tempfile.TemporaryDirectory() as folder:
        agent = Agent(Path(folder), name=options.name, root=options.root)
        description = agent.describe()
        agent.stop()
    if options.json:
        message = json_format.MessageToDict(
            codec.to_message(description),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        sys.stdout.write(json.dumps(message, indent=2) + "\n")
        return 0
    for line in _for_people(description):
        sys.stdout.write(line + "\n")
    return 0


def _for_people(description: DeviceDescription) -> Iterator[str]:
    hardware, system = description.hardware, description.system
    yield f"name         {description.name}"
    yield f"processor    {hardware.cpu_model}, {hardware.logical_cores} cores, {hardware.machine}"
    if hardware.soc is not None:
        yield f"chip         {hardware.soc}"
    for cluster in _alike(hardware.clusters):
        yield f"cores        {_cluster_text(cluster)}"
    yield f"runs on      cores {description.default_cpus} unless told otherwise"
    yield f"memory       {hardware.memory_bytes / 2**30:.1f} GiB"
    yield f"system       {system.distribution or system.name}, kernel {system.kernel}"
    yield f"governor     {system.governor or 'not readable'}"
    yield f"fingerprint  {description.fingerprint}"
    for info in description.backends:
        state = info.version if info.available else f"not available: {info.reason}"
        yield f"backend      {info.name} {state}"


def _alike(clusters: Sequence[CpuCluster]) -> list[CpuCluster]:
    """Put clusters that differ in nothing but their cores into one; PCs have one a core."""
    from boardfront.device_agent import cores

    cpus: dict[CpuCluster, list[str]] = {}
    for cluster in clusters:
        cpus.setdefault(replace(cluster, cpus=""), []).append(cluster.cpus)
    return [
        replace(kind, cpus=format_cpus(cores.parse_cpus(",".join(lists))))
        for kind, lists in cpus.items()
    ]


def _cluster_text(cluster: CpuCluster) -> str:
    parts = [cluster.cpus]
    if cluster.capacity is not None:
        parts.append(f"capacity {cluster.capacity}")
    if cluster.max_frequency_hz is not None:
        parts.append(f"up to {cluster.max_frequency_hz / 1e6:.0f} MHz")
    if cluster.governor is not None:
        parts.append(f"governor {cluster.governor}")
    if cluster.locked_hz is not None:
        parts.append(f"held at {cluster.locked_hz / 1e6:.0f} MHz")
    return ", ".join(parts)
