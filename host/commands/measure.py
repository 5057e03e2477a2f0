"""`boardfront measure`: the time of one ONNX file on one device."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.networks import NetworkChoice, TaskChoice, read_network
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import (
    Deadlines,
    Failure,
    Precision,
    Purpose,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console
    from rich.status import Status

    from boardfront.host.fleet.sentinel import Finding, SentinelRule
    from boardfront.host.networks import Network
    from boardfront.latency_models.base import Measurer, ReferenceModel, TimeRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureArguments:
    """What the person asked."""

    network: NetworkChoice
    task: TaskChoice
    reference: Path | None = None
    device: str
    backend: str
    options: Mapping[str, str] = field(default_factory=dict)
    cpus: str = ""
    tuning_budget_s: float = 0.0
    start_below_c: float | None = None
    fresh: bool
    sentinel: bool = True
    as_json: bool
    precision: Precision
    deadlines: Deadlines
    store: str | Path
    fleet: Path | None = None
    priority: int = 0


class MeasurementFailedError(BoardfrontError):
    """The device could not measure the model."""


def run(arguments: MeasureArguments) -> int:
    """Measure, print, and return the exit code: 0 also for a time whose verdict is not ok."""
    from rich.console import Console

    from boardfront.host.commands.job_status import show
    from boardfront.host.commands.measure_output import to_json, to_text
    from boardfront.host.fleet.lease import lease_request, leased_client
    from boardfront.host.fleet.measurer import DeviceMeasurer
    from boardfront.host.fleet.select import select_one
    from boardfront.latency_models.store import MeasurementStore

    network = read_network(arguments.network, arguments.task)
    request = _request(arguments, network)
    console = Console(stderr=True)
    device = select_one(arguments.device, arguments.fleet, say=lambda words: _tell(console, words))
    with (
        MeasurementStore(arguments.store) as store,
        console.status("connecting", refresh_per_second=2) as status,
        contextlib.closing(device.address),
        leased_client(
            device.address,
            lease_request(f"measure {network.label}", priority=arguments.priority),
            device=device.name,
            say=lambda line: _tell(console, line),
            on_lost=status.update,
        ) as client,
    ):
        measurer = DeviceMeasurer(
            client,
            store,
            listener=lambda label, event: show(status, label, event),
            sentinel=_sentinel(status, console) if arguments.sentinel else None,
        )
        if arguments.reference is not None:
            reference = _reference(arguments, request, measurer, console)
            request = replace(request, reference=reference)
        (measurement,) = measurer.measure([request])
    if arguments.as_json:
        sys.stdout.write(json.dumps(to_json(measurement), indent=2) + "\n")
    if isinstance(measurement.outcome, Failure):
        raise MeasurementFailedError(_one_line(network.label, measurement.outcome))
    if not arguments.as_json:
        beside = arguments.reference.name if arguments.reference else ""
        sys.stdout.write(
            to_text(measurement, measurement.outcome, name=network.label, reference=beside)
        )
    return 0


def _request(arguments: MeasureArguments, network: Network) -> TimeRequest:
    from boardfront.latency_models.base import TimeRequest

    return TimeRequest(
        model=network.content,
        structure_hash=network.structure_hash,
        task=network.task,
        backend=arguments.backend,
        options=arguments.options,
        cpus=arguments.cpus,
        tuning_budget_s=arguments.tuning_budget_s,
        start_below_c=arguments.start_below_c,
        input_shapes=network.input_shapes,
        precision=arguments.precision,
        deadlines=arguments.deadlines,
        purpose=Purpose.CANDIDATE,
        label=network.label,
        fresh=arguments.fresh,
    )


def _reference(
    arguments: MeasureArguments, request: TimeRequest, measurer: Measurer, console: Console
) -> ReferenceModel:
    """Return the network that the model is divided by, with its own time on a quiet device.

    That time is the store's, or is measured now.
    """
    from boardfront.latency_models.base import ReferenceModel

    path = arguments.reference
    assert path is not None  # noqa: S101 - the caller asked for a reference
    shapes = _shapes_of(path, arguments.task.shapes)
    asked = replace(arguments.task, batch=request.task.batch, shapes=shapes)
    model = read_network(NetworkChoice(text=str(path)), asked)
    alone = replace(
        request,
        model=model.content,
        structure_hash=model.structure_hash,
        task=model.task,
        input_shapes=shapes,
        label=f"{path.name} alone",
        fresh=False,
    )
    (measured,) = measurer.measure([alone])
    if isinstance(measured.outcome, Failure):
        raise MeasurementFailedError(_one_line(path.name, measured.outcome))
    if measured.outcome.verdict is not Verdict.OK:
        verdict = text.format_verdict(measured.outcome.verdict, measured.outcome.evidence)
        _tell(console, f"{path.name} alone was {verdict}: trust the ratio, not the quiet time")
    return ReferenceModel(
        model=model.content,
        structure_hash=model.structure_hash,
        task=model.task,
        input_shapes=shapes,
        quiet_s=measured.outcome.statistics.median_s,
        label=path.name,
    )


def _shapes_of(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return those of the model's shapes that the reference's dynamic inputs take, by name."""
    import onnx

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # noqa: BLE001 - read_model says what is wrong with the file
        return {}
    dynamic = {
        value.name
        for value in graph.input
        if not all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim)
    }
    return {name: shape for name, shape in shapes.items() if name in dynamic}


def _sentinel(status: Status, console: Console) -> SentinelRule:
    """Look at the sentinel now and then; only what went wrong outlives the status line."""
    from boardfront.host.fleet.sentinel import SentinelRule, State

    def tell(finding: Finding) -> None:
        if finding.state in {State.SHIFTED, State.UNKNOWN}:
            _tell(console, finding.message)

    return SentinelRule(
        at_once=False,
        on_look=lambda: status.update("timing the agent's sentinel (--no-sentinel: never)"),
        on_finding=tell,
    )


def _tell(console: Console, message: str) -> None:
    console.print(f"note: {message}", markup=False, highlight=False, soft_wrap=True)


def _one_line(name: str, failure: Failure) -> str:
    last = failure.detail.strip().splitlines()
    seen = f" (last words: {last[-1][:200]})" if last else ""
    return f"{name} was not measured: {failure.kind.value}: {failure.message}{seen}"
