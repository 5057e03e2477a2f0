"""`boardfront measure`: the time of one ONNX file on one device."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from boardfront.host import text
from boardfront.host.models import ModelFile, fixed_batch, read_model
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import (
    Deadlines,
    Failure,
    JobEvent,
    Precision,
    Purpose,
    Queued,
    Result,
    Sampling,
    Task,
    Verdict,
    Working,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.status import Status

    from boardfront.latency_models.base import Measurement, TimeRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureArguments:
    """What the person asked."""

    model: Path
    device: str
    backend: str
    batch: int
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    fresh: bool
    as_json: bool
    precision: Precision
    deadlines: Deadlines
    store: Path


class MeasurementFailedError(BoardfrontError):
    """The device could not measure the model."""


def run(arguments: MeasureArguments) -> int:
    """Measure, print, and return the exit code: 0 also for a time whose verdict is not ok."""
    from rich.console import Console

    from boardfront.host.fleet.address import parse_device
    from boardfront.host.fleet.client import AgentClient
    from boardfront.host.fleet.measurer import DeviceMeasurer
    from boardfront.latency_models.store import MeasurementStore

    model = read_model(arguments.model, batch=arguments.batch, shapes=arguments.shapes)
    console = Console(stderr=True)
    address = parse_device(arguments.device)
    with (
        MeasurementStore(arguments.store) as store,
        console.status("connecting", refresh_per_second=2) as status,
    ):
        client = AgentClient(address, on_lost=status.update)
        try:
            measurer = DeviceMeasurer(
                client, store, listener=lambda _, event: _show(status, event)
            )
            (measurement,) = measurer.measure([_request(arguments, model)])
        finally:
            client.close()
            address.close()
    if arguments.as_json:
        sys.stdout.write(json.dumps(to_json(measurement), indent=2) + "\n")
    if isinstance(measurement.outcome, Failure):
        raise MeasurementFailedError(_one_line(arguments, measurement.outcome))
    if not arguments.as_json:
        _print(arguments, measurement, measurement.outcome)
    return 0


def to_json(measurement: Measurement) -> dict[str, Any]:
    """Return what `--json` prints: seconds throughout, null for what is not known."""
    key = measurement.key
    base: dict[str, Any] = {
        "id": measurement.id,
        "created_unix_s": measurement.created_unix_s,
        "device": {"id": measurement.device_id, "name": measurement.device_name},
        "target": {
            "fingerprint": key.fingerprint,
            "backend": key.backend,
            "backend_version": key.backend_version,
            "options": dict(key.options),
            "tuning": key.tuning,
        },
        "task": _plain(asdict(key.task)),
        "origin": key.origin.value,
        "structure_hash": key.structure_hash,
        "purpose": measurement.purpose.value,
        "agent_version": measurement.agent_version,
        "measurement_protocol_version": key.measurement_protocol_version,
    }
    outcome = measurement.outcome
    if isinstance(outcome, Failure):
        return {
            **base,
            "failure": {
                "kind": outcome.kind.value,
                "message": outcome.message,
                "detail": outcome.detail,
            },
        }
    statistics = asdict(outcome.statistics)
    return {
        "median_s": outcome.statistics.median_s,
        "interval_s": [outcome.statistics.low_s, outcome.statistics.high_s],
        "verdict": outcome.verdict.value,
        "evidence": list(outcome.evidence),
        **base,
        "coarse": outcome.precision.is_coarse,
        "statistics": statistics,
        "samples_s": [s for window in outcome.windows for s in window.samples_s],
        "windows": [asdict(window) for window in outcome.windows],
        "first_run_s": outcome.first_run_s,
        "warm_up_s": list(outcome.warm_up_s),
        "load_s": outcome.load_s,
        "compile_s": outcome.compile_s,
        "run_s": outcome.run_s,
        "artifact_bytes": outcome.artifact_bytes,
        "circumstances": asdict(outcome.circumstances),
        "precision": asdict(outcome.precision),
    }


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "value", value) for name, value in record.items()}


def _request(arguments: MeasureArguments, model: ModelFile) -> TimeRequest:
    from boardfront.latency_models.base import TimeRequest

    return TimeRequest(
        model=model.content,
        structure_hash=model.structure_hash,
        task=Task(batch=fixed_batch(model.content, arguments.batch)),
        backend=arguments.backend,
        options=arguments.options,
        input_shapes=arguments.shapes,
        precision=arguments.precision,
        deadlines=arguments.deadlines,
        purpose=Purpose.CANDIDATE,
        label=model.path.name,
        fresh=arguments.fresh,
    )


def _show(status: Status, event: JobEvent) -> None:
    body = event.body
    if isinstance(body, Queued):
        status.update(f"queued, {body.position} before this one" if body.position else "starting")
    elif isinstance(body, Working):
        status.update(body.phase.value)
    elif isinstance(body, Sampling):
        shown = f"sampling {body.elapsed_s:.0f} s, {text.format_time(body.median_s)}"
        if body.low_s is not None and body.high_s is not None:
            width = (body.high_s - body.low_s) / 2 / body.median_s
            shown += f" +-{width:.1%}"
        status.update(shown)


def _print(arguments: MeasureArguments, measurement: Measurement, result: Result) -> None:
    statistics, key = result.statistics, measurement.key
    options = ", ".join(f"{name}={value}" for name, value in key.options if value)
    origin = "" if key.origin.value == "measured" else f"  ({key.origin.value}, not measured)"
    look = ", a coarse look" if result.precision.is_coarse else ""
    lines = [
        f"{arguments.model.name} on {measurement.device_name}, "
        f"{key.backend} {key.backend_version} ({options}), batch {key.task.batch}",
        f"  median    {text.format_time(statistics.median_s)}{origin}",
        f"  interval  {text.format_interval(statistics.low_s, statistics.high_s)}  "
        f"(95 %, +-{statistics.relative_half_width:.2%}; "
        f"{statistics.samples} samples in {statistics.windows} windows{look})",
        f"  p90, p99  {text.format_time(statistics.p90_s)}, {text.format_time(statistics.p99_s)}",
        f"  first run {text.format_time(result.first_run_s)}, compiled in "
        f"{text.format_time(result.compile_s)}",
        f"  verdict   {text.format_verdict(result.verdict, result.evidence)}",
    ]
    if result.verdict is not Verdict.OK:
        lines.append("            do not act on this number: quiet the machine, then --fresh")
    sys.stdout.write("\n".join(lines) + "\n")


def _one_line(arguments: MeasureArguments, failure: Failure) -> str:
    last = failure.detail.strip().splitlines()
    seen = f" (last words: {last[-1][:200]})" if last else ""
    return (
        f"{arguments.model.name} was not measured: {failure.kind.value}: {failure.message}{seen}"
    )
