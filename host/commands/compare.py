"""`boardfront compare`: which of two is faster on a device, and by how much."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from boardfront.host import text
from boardfront.host.networks import read_network
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import Normalised, Purpose, Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boardfront.host.networks import Network, NetworkChoice, TaskChoice
    from boardfront.latency_models.base import Measurement, TimeRequest
    from boardfront.protos.records import Deadlines, Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of the two: what, and how it is executed."""

    network: NetworkChoice
    task: TaskChoice
    backend: str
    options: Mapping[str, str]
    cpus: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareArguments:
    """What the person asked."""

    a: Side
    b: Side
    device: str
    precision: Precision
    deadlines: Deadlines
    as_json: bool
    store: str | Path
    fleet: Path | None = None
    priority: int = 0


class ComparisonFailedError(BoardfrontError):
    """The device could not measure one of the two."""


def run(arguments: CompareArguments) -> int:
    """Measure both in turn, run by run, print their ratio, and return the exit code 0.

    Raises:
        ComparisonFailedError: If one of them could not be measured.
    """
    from rich.console import Console

    from boardfront.host.commands.job_status import show
    from boardfront.host.fleet.lease import lease_request, leased_client
    from boardfront.host.fleet.measurer import DeviceMeasurer
    from boardfront.host.fleet.select import select_one
    from boardfront.latency_models.store import MeasurementStore

    networks = [read_network(side.network, side.task) for side in (arguments.a, arguments.b)]
    console = Console(stderr=True)

    def note(words: str) -> None:
        console.print(f"note: {words}", markup=False, highlight=False, soft_wrap=True)

    device = select_one(arguments.device, arguments.fleet, say=note)
    labels = " and ".join(network.label for network in networks)
    with (
        MeasurementStore(arguments.store) as store,
        console.status("connecting", refresh_per_second=2) as status,
        contextlib.closing(device.address),
        leased_client(
            device.address,
            lease_request(f"compare {labels}", priority=arguments.priority),
            device=device.name,
            say=note,
            on_lost=status.update,
        ) as client,
    ):
        measurer = DeviceMeasurer(
            client, store, listener=lambda label, event: show(status, label, event)
        )
        (first,) = measurer.measure([_request(arguments, networks)])
        second = store.find(first.job_id, "reference")
    return _tell(arguments, networks, first, second)


def _tell(
    arguments: CompareArguments,
    networks: list[Network],
    first: Measurement,
    second: Measurement | None,
) -> int:
    for network, measurement in zip(networks, (first, second), strict=True):
        failure = measurement.failure if measurement else None
        if failure is not None:
            raise ComparisonFailedError(
                f"{network.label} was not measured: {failure.kind.value}: {failure.message}"
            )
    a, b = first.result, second.result if second else None
    if a is None or b is None or a.normalised is None:
        raise ComparisonFailedError(
            "no ratio can be given from so few windows: raise --deadline or --duration"
        )
    names = _names(arguments, networks)
    if arguments.as_json:
        content = to_json(arguments, names, (a, b), a.normalised)
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        sys.stdout.write(to_text(names, (a, b), a.normalised))
    return 0


def to_json(
    arguments: CompareArguments,
    names: tuple[str, str],
    results: tuple[Result, Result],
    ratio: Normalised,
) -> dict[str, Any]:
    """Return what `--json` prints; `ratio` is the time of A over that of B."""
    return {
        "ratio": ratio.ratio,
        "interval": [ratio.low, ratio.high],
        "verdict": ratio.verdict.value,
        "evidence": list(ratio.evidence),
        "faster": _faster(ratio),
        "elasticity": ratio.elasticity,
        "device": arguments.device,
        **{
            side: {
                "name": name,
                "median_s": result.statistics.median_s,
                "interval_s": [result.statistics.low_s, result.statistics.high_s],
                "verdict": result.verdict.value,
                "target": {**asdict(result.target), "options": dict(result.target.options)},
                "parts_s": dict(result.parts_s),
            }
            for side, name, result in zip(("a", "b"), names, results, strict=True)
        },
    }


def to_text(names: tuple[str, str], results: tuple[Result, Result], ratio: Normalised) -> str:
    """Return what a person reads."""
    faster = _faster(ratio)
    said = {
        "a": f"A is faster: {1 / ratio.ratio:.3f} x as fast",
        "b": f"B is faster: {ratio.ratio:.3f} x as fast",
        None: "no difference can be told",
    }[faster]
    lines = [f"{said} (A takes {ratio.ratio:.4f} of B, 95 % {ratio.low:.4f} .. {ratio.high:.4f})"]
    if ratio.verdict is not Verdict.OK:
        verdict = text.format_verdict(ratio.verdict, ratio.evidence)
        lines.append(f"  do not trust this number: {verdict}")
    for side, name, result in zip("AB", names, results, strict=True):
        statistics = result.statistics
        verdict = text.format_verdict(result.verdict, result.evidence)
        lines.append(f"  {side}  {text.format_time(statistics.median_s):>10}  {name}")
        lines.append(f"     as it was, in turn with the other: {verdict}")
    return "\n".join(lines) + "\n"


def _faster(ratio: Normalised) -> str | None:
    """Return which side is faster beyond the interval; None where it cannot be told."""
    if ratio.high < 1:
        return "a"
    return "b" if ratio.low > 1 else None


def _names(arguments: CompareArguments, networks: list[Network]) -> tuple[str, str]:
    """Name each side by what tells it from the other."""
    sides = (arguments.a, arguments.b)
    differ_backend = sides[0].backend != sides[1].backend or sides[0].options != sides[1].options
    differ_batch = networks[0].task.batch != networks[1].task.batch
    names = []
    for side, network in zip(sides, networks, strict=True):
        parts = [network.label]
        if differ_backend:
            options = ", ".join(f"{key}={value}" for key, value in side.options.items())
            parts.append(side.backend + (f" ({options})" if options else ""))
        if differ_batch:
            parts.append(f"batch {network.task.batch}")
        names.append(", ".join(parts))
    return names[0], names[1]


def _request(arguments: CompareArguments, networks: list[Network]) -> TimeRequest:
    from boardfront.latency_models.base import ReferenceModel, TimeRequest

    (a, b), (net_a, net_b) = (arguments.a, arguments.b), networks
    return TimeRequest(
        model=net_a.content,
        structure_hash=net_a.structure_hash,
        task=net_a.task,
        backend=a.backend,
        options=a.options,
        cpus=a.cpus,
        input_shapes=net_a.input_shapes,
        precision=arguments.precision,
        deadlines=arguments.deadlines,
        purpose=Purpose.AUDIT,
        label=f"A {net_a.label}",
        fresh=True,
        reference=ReferenceModel(
            model=net_b.content,
            structure_hash=net_b.structure_hash,
            input_shapes=net_b.input_shapes,
            label=f"B {net_b.label}",
            task=net_b.task,
            backend=b.backend,
            options=b.options,
            cpus=b.cpus,
        ),
    )
