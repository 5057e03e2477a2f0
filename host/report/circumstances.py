"""What a run's measurements were taken in: devices, clocks, heat, load, from its raw file."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_NUMBER = re.compile(r"[+-]*\d+(\.\d+)?%?")
_MOST_REASONS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Smallest, middle and largest of what was read, and how often it was."""

    low: float
    middle: float
    high: float
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What was read while one target of one device was measured.

    Targets that differ in nothing below are told together.

    Args:
        device: Name of the device, with its id.
        fingerprint: Of its kind, system and clocks.
        agent_version: Of its agent.
        backend: With version.
        options: In full.
        task: What was timed, with its batch.
        cpus: Cores that networks ran on; empty where that is not written.
        origin: Whether times were measured or programmed.
        measurements: How many there are.
        failures: How many of them have no time.
        governors: As the kernel names them; empty where they could not be read.
        readings: By name with unit; only those that could be read.
        throttle_events: How often the hardware said that it held itself back; None: not known.
        verdicts: Of the times as they were taken, before any division by a reference.
        evidence: Reasons of verdicts that are not ok, with how often each was given.
    """

    device: str
    fingerprint: str
    agent_version: str
    backend: str
    options: str
    task: str
    cpus: str
    origin: str
    measurements: int
    failures: int = 0
    governors: tuple[str, ...] = ()
    readings: Mapping[str, Spread] = field(default_factory=dict)
    throttle_events: int | None = None
    verdicts: Mapping[str, int] = field(default_factory=dict)
    evidence: tuple[tuple[str, int], ...] = ()


_READINGS: tuple[tuple[str, tuple[str, ...], float], ...] = (
    (
        "frequency (MHz)",
        ("frequency_min_hz", "frequency_before_hz", "frequency_after_hz", "frequency_max_hz"),
        1e-6,
    ),
    (
        "temperature (C)",
        ("temperature_before_c", "temperature_after_c", "temperature_max_c"),
        1.0,
    ),
    ("load average", ("load_average",), 1.0),
    ("other processes (% of the cores' time)", ("other_cpu_fraction",), 100.0),
    ("steal by the hypervisor (%)", ("steal_fraction",), 100.0),
    ("memory of the worker (MiB)", ("worker_peak_rss_bytes",), 2.0**-20),
    ("power (W)", ("power_w",), 1.0),
    ("NPU frequency (MHz)", ("npu_frequency_min_hz",), 1e-6),
    ("GPU frequency (MHz)", ("gpu_frequency_min_hz",), 1e-6),
    ("memory frequency (MHz)", ("memory_frequency_min_hz",), 1e-6),
)


def read_surroundings(path: Path) -> tuple[tuple[Surroundings, ...], tuple[str, ...]]:
    """Read a run's raw measurements, one entry a device and target.

    Args:
        path: JSON lines; a run writes them when it ends.

    Returns:
        Entries with most measurements first, and sentences on what cannot be read.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    damaged = 0
    try:
        for line in _lines(path):
            entry, key = _entry(line)
            if key is None:
                damaged += 1
            else:
                groups.setdefault(key, []).append(entry)
    except FileNotFoundError:
        return (), ()
    except OSError as problem:
        return (), (f"{path.name} cannot be read: {problem.strerror}",)
    notes = (f"{path.name}: {damaged} lines cannot be read",) if damaged else ()
    found = [_surroundings(key, entries) for key, entries in groups.items()]
    return tuple(sorted(found, key=lambda one: -one.measurements)), notes


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from (line for line in file if line.strip())


def _entry(line: str) -> tuple[dict[str, Any], tuple[str, ...] | None]:
    """Return a measurement and what it is grouped by; None for a line that is none."""
    try:
        entry = json.loads(line)
        return entry, _group(entry)
    except (ValueError, KeyError, TypeError):
        return {}, None


def _group(entry: Mapping[str, Any]) -> tuple[str, ...]:
    key = entry["key"]
    target = entry["outcome"]["body"].get("target", {})
    return (
        f"{entry['device_name']} ({entry['device_id'][:8]})",
        key["fingerprint"],
        entry["agent_version"],
        f"{key['backend']} {key['backend_version']}",
        ", ".join(f"{name}={value}" for name, value in key["options"]),
        f"{key['task']['kind']}, batch {key['task']['batch']}",
        str(target.get("cpus", "")),
        key["origin"],
    )


def _surroundings(key: tuple[str, ...], entries: Sequence[Mapping[str, Any]]) -> Surroundings:
    results = [e["outcome"]["body"] for e in entries if e["outcome"]["kind"] == "result"]
    circumstances = [result.get("circumstances") or {} for result in results]
    throttled = _values(circumstances, ("throttle_events",))
    device, fingerprint, agent_version, backend, options, task, cpus, origin = key
    return Surroundings(
        device=device,
        fingerprint=fingerprint,
        agent_version=agent_version,
        backend=backend,
        options=options,
        task=task,
        cpus=cpus,
        origin=origin,
        measurements=len(entries),
        failures=len(entries) - len(results),
        governors=tuple(sorted({str(g) for c in circumstances if (g := c.get("governor"))})),
        readings=_readings(circumstances),
        throttle_events=int(sum(throttled)) if throttled else None,
        verdicts=dict(Counter(str(result["verdict"]) for result in results)),
        evidence=_evidence(results),
    )


def _readings(circumstances: Sequence[Mapping[str, Any]]) -> dict[str, Spread]:
    found = {}
    for name, fields, factor in _READINGS:
        values = [value * factor for value in _values(circumstances, fields)]
        if values:
            found[name] = Spread(
                low=min(values),
                middle=statistics.median(values),
                high=max(values),
                count=len(values),
            )
    return found


def _values(circumstances: Iterable[Mapping[str, Any]], fields: Sequence[str]) -> list[float]:
    return [
        float(value)
        for one in circumstances
        for name in fields
        if (value := one.get(name)) is not None
    ]


def _evidence(results: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, int], ...]:
    """Count reasons that differ in their numbers only as one, told by the first of them."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for result in results:
        for sentence in result.get("evidence", ()):
            shape = _NUMBER.sub("#", sentence)
            first.setdefault(shape, sentence)
            counts[shape] += 1
    return tuple((first[shape], count) for shape, count in counts.most_common(_MOST_REASONS))
