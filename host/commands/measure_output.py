"""What `boardfront measure` prints: JSON in seconds and joules, or a few aligned lines."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from boardfront.host import text
from boardfront.protos.records import Failure, Origin, TaskKind, Verdict

if TYPE_CHECKING:
    from boardfront.latency_models.base import Measurement
    from boardfront.protos.records import Circumstances, Energy, Normalised, Result


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
            "cpus": key.cpus,
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
        failure = {
            "kind": outcome.kind.value,
            "message": outcome.message,
            "detail": outcome.detail,
        }
        return {**base, "failure": failure}
    return {
        "median_s": outcome.statistics.median_s,
        "interval_s": [outcome.statistics.low_s, outcome.statistics.high_s],
        "verdict": outcome.verdict.value,
        "evidence": list(outcome.evidence),
        "normalised": _normalised_json(outcome.normalised),
        "energy": asdict(outcome.energy) if outcome.energy else None,
        "memory": {
            "worker_peak_rss_bytes": outcome.circumstances.worker_peak_rss_bytes,
            "artifact_bytes": outcome.artifact_bytes,
        },
        "parts_s": dict(outcome.parts_s),
        "tuned_fraction": outcome.tuned_fraction,
        **base,
        "coarse": outcome.precision.is_coarse,
        "sampled_in_turn": measurement.sampled_in_turn,
        "statistics": asdict(outcome.statistics),
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


def to_text(measurement: Measurement, result: Result, *, name: str, reference: str = "") -> str:
    """Return what a person reads.

    Args:
        measurement: The answer.
        result: Its result.
        name: What to call the model.
        reference: What to call the network that it was divided by; empty: it was not asked to be.
    """
    key = measurement.key
    options = ", ".join(f"{name}={value}" for name, value in key.options if value)
    cores = f", cores {key.cpus}" if key.cpus else ""
    kind = "" if key.task.kind is TaskKind.INFERENCE else f"{key.task.kind.value} of "
    head = (
        f"{kind}{name} on {measurement.device_name}, {key.backend} {key.backend_version} "
        f"({options}), batch {key.task.batch}{cores}"
    )
    lines = [*_time_lines(measurement, result)]
    if reference:
        lines += _ratio_lines(result, reference)
    lines += _other_lines(result)
    lines += _verdict_lines(result, divided=bool(reference))
    return "\n".join([head, *(f"  {label:9} {value}" for label, value in lines)]) + "\n"


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "value", value) for name, value in record.items()}


def _normalised_json(normalised: Normalised | None) -> dict[str, Any] | None:
    if normalised is None:
        return None
    return {**_plain(asdict(normalised)), "median_s": normalised.median_s}


def _time_lines(measurement: Measurement, result: Result) -> list[tuple[str, str]]:
    statistics, origin = result.statistics, measurement.key.origin
    mark = "" if origin is Origin.MEASURED else f"  ({origin.value}, not measured)"
    look = ", a coarse look" if result.precision.is_coarse else ""
    return [
        ("median", f"{text.format_time(statistics.median_s)}{mark}"),
        (
            "interval",
            f"{text.format_interval(statistics.low_s, statistics.high_s)}  "
            f"(95 %, +-{statistics.relative_half_width:.2%}; {statistics.samples} samples in "
            f"{statistics.windows} windows{look})",
        ),
        (
            "p90, p99",
            f"{text.format_time(statistics.p90_s)}, {text.format_time(statistics.p99_s)}",
        ),
        (
            "first run",
            f"{text.format_time(result.first_run_s)}, compiled in "
            f"{text.format_time(result.compile_s)}",
        ),
    ]


def _ratio_lines(result: Result, reference: str) -> list[tuple[str, str]]:
    ratio = result.normalised
    if ratio is None:
        return [("ratio", f"none: {reference} was not measured beside it")]
    moved = "" if ratio.elasticity is None else f", elasticity {ratio.elasticity:.2f}"
    lines = [
        (
            "ratio",
            f"{ratio.ratio:.4g} x {reference}  ({ratio.low:.4g} .. {ratio.high:.4g}, "
            f"+-{ratio.relative_half_width:.2%}{moved})",
        )
    ]
    if ratio.median_s is not None and ratio.reference_quiet_s is not None:
        quiet_s = ratio.reference_quiet_s
        shown = text.format_interval(ratio.low * quiet_s, ratio.high * quiet_s)
        lines.append(
            (
                "quiet",
                f"{text.format_time(ratio.median_s)}  ({shown}; ratio x "
                f"{text.format_time(quiet_s)} of {reference} alone)",
            )
        )
    return lines


def _other_lines(result: Result) -> list[tuple[str, str]]:
    """Return energy, memory and the device's state, as far as they are known."""
    lines = []
    if result.parts_s:
        parts = (f"{part} {text.format_time(took_s)}" for part, took_s in result.parts_s.items())
        lines.append(("parts", ", ".join(parts)))
    if result.tuned_fraction is not None:
        lines.append(("tuned", f"{result.tuned_fraction:.0%} of the network's tasks"))
    if result.energy is not None:
        lines.append(("energy", _energy(result.energy)))
    peak_bytes = result.circumstances.worker_peak_rss_bytes
    peak = "" if peak_bytes is None else f"worker peak {_bytes(peak_bytes)}, "
    lines.append(("memory", f"{peak}model {_bytes(result.artifact_bytes)}"))
    state = _state(result.circumstances)
    if state:
        lines.append(("device", state))
    return lines


def _verdict_lines(result: Result, *, divided: bool) -> list[tuple[str, str]]:
    lines = [("verdict", text.format_verdict(result.verdict, result.evidence))]
    ratio = result.normalised if divided else None
    if ratio is not None:
        lines.append(("of ratio", text.format_verdict(ratio.verdict, ratio.evidence)))
    if ratio is not None and ratio.verdict is Verdict.OK:
        if result.verdict is not Verdict.OK:
            lines.append(("", "act on the ratio, not on the median"))
    elif result.verdict is not Verdict.OK or ratio is not None:
        lines.append(("", "do not act on this number: quiet the machine, then --fresh"))
    return lines


def _energy(energy: Energy) -> str:
    """Write joules of a run in the unit of the median, e.g. `12.3 mJ a run (12.1 .. 12.5)`."""
    units = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "uJ"), (1e-9, "nJ"))
    scale, unit = next((u for u in units if abs(energy.median_j) >= u[0]), units[-1])
    low, high = energy.low_j / scale, energy.high_j / scale
    return f"{energy.median_j / scale:.3g} {unit} a run ({low:.3g} .. {high:.3g}), {energy.source}"


def _bytes(count: int) -> str:
    return f"{text.format_count(count)}B" if count >= 1000 else f"{count} B"


def _state(seen: Circumstances) -> str:
    """Write governor, frequency range and temperature, as far as they are known."""
    parts = [] if seen.governor is None else [f"governor {seen.governor}"]
    frequencies = [
        hz
        for hz in (
            *(seen.frequency_min_hz, seen.frequency_max_hz),
            *(seen.frequency_before_hz, seen.frequency_after_hz),
        )
        if hz is not None
    ]
    if frequencies:
        low, high = f"{min(frequencies) / 1e9:.2f}", f"{max(frequencies) / 1e9:.2f}"
        parts.append(f"{low} GHz" if low == high else f"{low} .. {high} GHz")
    temperatures = [
        c
        for c in (seen.temperature_before_c, seen.temperature_max_c, seen.temperature_after_c)
        if c is not None
    ]
    if temperatures:
        low, high = f"{min(temperatures):.0f}", f"{max(temperatures):.0f}"
        parts.append(f"{low} C" if low == high else f"{low} .. {high} C")
    return ", ".join(parts)
