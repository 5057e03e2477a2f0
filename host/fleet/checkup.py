"""What can be told from afar of a board's health: one finding a check. Pure functions.

The agent's own `boardfront-agent doctor` sees more, and must be run on the board. What could not
be read is a warning that says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.protos.core_lists import parse_cpus
from boardfront.protos.findings import Finding, good, problem, warning
from boardfront.protos.records import PROTOCOL_VERSION, Origin

if TYPE_CHECKING:
    from datetime import datetime

    from boardfront.host.fleet.fleet_file import FleetEntry
    from boardfront.protos.records import (
        CpuCluster,
        DeviceDescription,
        LeaseStatus,
        TelemetrySample,
    )

_ENDS_SOON_DAYS = 30.0
_CLOCK_WARNING_S, _CLOCK_PROBLEM_S = 2.0, 300.0
_HOT_C, _TOO_HOT_C = 80.0, 95.0
_BUSY, _STOLEN = 0.10, 0.02
"""Where a result's verdict is `contended` (docs/measurement.md)."""


def identity(description: DeviceDescription, entry: FleetEntry | None) -> Finding:
    """Is it the board that the fleet file means?"""
    seen = f"{description.name}, id {description.device_id}"
    if entry is None or not entry.device_id:
        return good("identity", "no id in the fleet file to compare with", seen)
    if entry.device_id == description.device_id:
        return good("identity", "the board that the fleet file means", seen)
    return problem(
        "identity",
        f"another board than {entry.name}",
        f"{seen}, expected {entry.device_id}",
        f"look what {entry.address} is now; correct the address, or boardfront device add it",
    )


def versions(description: DeviceDescription, host_version: str) -> Finding:
    """Do both sides speak alike? Another protocol version would not have answered at all."""
    seen = f"agent {description.agent_version}, host {host_version}"
    if description.agent_version == host_version:
        return good("versions", f"both speak protocol {PROTOCOL_VERSION}", seen)
    return warning(
        "versions",
        f"both speak protocol {PROTOCOL_VERSION}, and differ otherwise",
        seen,
        "install the same boardfront on both, so that the rules of timing are the same",
    )


def certificate(whose: str, not_after: datetime | None, now: datetime, remedy: str) -> Finding:
    """Is a certificate good, and for how long yet?"""
    if not_after is None:
        return good(whose, "none: reached without TLS, through loopback")
    left_days = (not_after - now).total_seconds() / 86400.0
    seen = f"until {not_after:%Y-%m-%d}"
    if left_days <= 0:
        return problem(whose, "it has ended", seen, remedy)
    if left_days < _ENDS_SOON_DAYS:
        return warning(whose, f"it ends in {left_days:.0f} days", seen, remedy)
    return good(whose, f"good for {left_days:.0f} days", seen)


def clock(offset_s: float, error_s: float) -> Finding:
    """Do both clocks say the same?

    Args:
        offset_s: The board's time minus ours, in seconds.
        error_s: How far the answer's way may have bent that, in seconds.
    """
    seen = f"{offset_s:+.3f} s, known to {error_s:.3f} s"
    off_s = max(0.0, abs(offset_s) - error_s)
    if off_s <= _CLOCK_WARNING_S:
        return good("clock", "agrees with this host's", seen)
    told = warning if off_s <= _CLOCK_PROBLEM_S else problem
    side = "ahead" if offset_s > 0 else "behind"
    return told(
        "clock",
        f"{text.format_duration(off_s)} {side} of this host's: certificates and records of "
        "measurements carry dates",
        seen,
        "let NTP set both: timedatectl set-ntp true",
    )


def backends(description: DeviceDescription) -> list[Finding]:
    """Return what each backend says of itself; it is a problem if none measures."""
    found = [
        good(f"backend {info.name}", info.version)
        if info.available
        else warning(
            f"backend {info.name}",
            "not available",
            info.reason,
            "install its runtime on the board if you want it",
        )
        for info in description.backends
    ]
    if not any(info.available and info.origin is Origin.MEASURED for info in description.backends):
        found.append(
            problem(
                "backends",
                "none of them measures anything",
                ", ".join(info.name for info in description.backends) or "none",
                "install one on the board, e.g. pip install 'boardfront[onnxruntime]'",
            )
        )
    return found


def default_cores(description: DeviceDescription) -> Finding:
    """Are networks timed on the fast cores unless somebody says otherwise?"""
    clusters = description.hardware.clusters
    timed = _default_clusters(description)
    seen = f"cores {description.default_cpus or 'not known'}"
    capacities = [cluster.capacity for cluster in clusters if cluster.capacity is not None]
    if not timed or not capacities:
        return good("default cores", "all cores are alike, as far as it says", seen)
    slow = [c.cpus for c in timed if c.capacity is not None and c.capacity < max(capacities)]
    if not slow:
        return good("default cores", "the fastest", seen)
    return warning(
        "default cores",
        f"slower cores are among them: {', '.join(slow)}",
        seen,
        "name the cores: --cpus, or cpus = ... in [[target]]; no taskset around the agent",
    )


def governor(description: DeviceDescription) -> Finding:
    """Is the clock of the default cores held?"""
    timed = _default_clusters(description)
    held = [c for c in timed if c.locked_hz is not None]
    if timed and len(held) == len(timed):
        seen = ", ".join(f"{c.cpus}: {(c.locked_hz or 0) / 1e6:.0f} MHz" for c in held)
        return good("governor", "the agent holds the clocks", seen)
    names: set[str | None] = {c.governor for c in timed if c.governor}
    names = names or {description.system.governor}
    seen = ", ".join(sorted(name or "not readable" for name in names))
    remedy = "boardfront-agent serve --lock-clocks on the board"
    if names == {"performance"}:
        return good("governor", "performance", seen)
    if names == {None}:
        return warning("governor", "its clocks can be neither seen nor held", seen, remedy)
    return warning("governor", "clocks follow the load", seen, remedy)


def temperature(sample: TelemetrySample) -> Finding:
    """Is it so hot that it slows down?"""
    if sample.cooling_state:
        return problem(
            "temperature",
            "a cooling device slows a processor now",
            f"state {sample.cooling_state}, {_degrees(sample)}",
            "heat sink, fan, patience; or boardfront-agent serve --lock-clocks MHZ",
        )
    if sample.temperature_c is None:
        return warning(
            "temperature",
            "cannot be read",
            "",
            "use the machine itself, not a virtual one; results cannot be judged by heat",
        )
    remedy = "heat sink, fan, patience; --start-below DEGREES_C waits until it is cool"
    if sample.temperature_c >= _TOO_HOT_C:
        return problem("temperature", "too hot", _degrees(sample), remedy)
    if sample.temperature_c >= _HOT_C:
        return warning("temperature", "hot", _degrees(sample), remedy)
    return good("temperature", _degrees(sample))


def load(sample: TelemetrySample) -> Finding:
    """Does something else run there?"""
    busy, stolen = sample.cpu_fraction, sample.steal_fraction or 0.0
    if sample.running_job_id:
        return good("load", "a job runs: not looked at")
    if busy is None:
        return warning("load", "cannot be read", "", "boardfront-agent doctor on the board")
    seen = f"{busy:.0%} of all cores busy, {stolen:.1%} stolen"
    if busy <= _BUSY and stolen <= _STOLEN:
        return good("load", "idle", seen)
    return warning(
        "load",
        "something else runs there: results will be marked contended",
        seen,
        "end other programs; a machine of its own",
    )


def lease(status: LeaseStatus | None) -> Finding:
    """Who has it?"""
    if status is None:
        return warning(
            "lease",
            "its agent knows no leases: two runs can disturb each other",
            "",
            "install the same boardfront on both",
        )
    if status.holder is None:
        return good("lease", "free")
    since = text.format_duration(status.holder.since_s)
    return good(
        "lease",
        f"held by {status.holder.name} for {since}",
        f"{len(status.waiting)} waiting",
    )


def _default_clusters(description: DeviceDescription) -> list[CpuCluster]:
    timed = set(parse_cpus(description.default_cpus) or ())
    return [
        c for c in description.hardware.clusters if timed.intersection(parse_cpus(c.cpus) or ())
    ]


def _degrees(sample: TelemetrySample) -> str:
    if sample.temperature_c is None:
        return "temperature not readable"
    return f"{sample.temperature_c:.0f} degrees"
