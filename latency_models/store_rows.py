"""A measurement as a row of the store's table, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.latency_models import strict_json
from boardfront.latency_models.base import Measurement
from boardfront.latency_models.key import TimeKey
from boardfront.latency_models.outcome_json import outcome_from_json, outcome_to_json
from boardfront.protos.records import Purpose, Result

if TYPE_CHECKING:
    import sqlalchemy as sa

    from boardfront.protos.records import Normalised


def to_row(measurement: Measurement) -> dict[str, object]:
    """Return the columns of a measurement, without its number.

    Raises:
        WrongInputError: A number is NaN or infinite.
    """
    key = measurement.key
    return {
        "created_unix_s": strict_json.encode(measurement.created_unix_s, "created_unix_s"),
        "key_digest": key.digest,
        "key": strict_json.encode(key),
        "structure_hash": key.structure_hash,
        "task_kind": key.task.kind.value,
        "batch": key.task.batch,
        "fingerprint": key.fingerprint,
        "backend": key.backend,
        "backend_version": key.backend_version,
        "measurement_protocol_version": key.measurement_protocol_version,
        "origin": key.origin.value,
        "device_id": measurement.device_id,
        "device_name": measurement.device_name,
        "agent_version": measurement.agent_version,
        "job_id": measurement.job_id,
        "subject_id": measurement.subject_id,
        "purpose": measurement.purpose.value,
        "outcome": outcome_to_json(measurement.outcome),
        "sampled_in_turn": measurement.sampled_in_turn,
        **_EMPTY,
        **_outcome_columns(measurement),
    }


def from_row(row: sa.RowMapping) -> Measurement:
    """Build a measurement from its columns and `quarantined`."""
    return Measurement(
        id=row["id"],
        created_unix_s=row["created_unix_s"],
        key=strict_json.decode(TimeKey, row["key"], f"measurement {row['id']}'s key"),
        device_id=row["device_id"],
        device_name=row["device_name"],
        agent_version=row["agent_version"],
        job_id=row["job_id"],
        subject_id=row["subject_id"],
        purpose=Purpose(row["purpose"]),
        outcome=outcome_from_json(row["outcome"]),
        sampled_in_turn=bool(row["sampled_in_turn"]),
        quarantined=bool(row["quarantined"]),
    )


_EMPTY: dict[str, object] = dict.fromkeys(
    (
        *("verdict", "median_s", "interval_low_s", "interval_high_s", "relative_half_width"),
        *("min_duration_s", "reference_sha256", "ratio", "ratio_low", "ratio_high"),
        *("ratio_relative_half_width", "ratio_verdict", "failure_kind", "failure_message"),
    )
)
"""Rows of one statement have the same columns."""


def _outcome_columns(measurement: Measurement) -> dict[str, object]:
    outcome = measurement.outcome
    if not isinstance(outcome, Result):
        return {
            "failure_kind": outcome.kind.value,
            "failure_message": _storable(outcome.message),
        }
    return {
        "verdict": outcome.verdict.value,
        "median_s": outcome.statistics.median_s,
        "interval_low_s": outcome.statistics.low_s,
        "interval_high_s": outcome.statistics.high_s,
        "relative_half_width": outcome.statistics.relative_half_width,
        "min_duration_s": outcome.precision.min_duration_s,
        **_ratio_columns(outcome.normalised),
    }


def _ratio_columns(normalised: Normalised | None) -> dict[str, object]:
    if normalised is None:
        return {}
    return {
        "reference_sha256": normalised.reference_sha256,
        "ratio": normalised.ratio,
        "ratio_low": normalised.low,
        "ratio_high": normalised.high,
        "ratio_relative_half_width": normalised.relative_half_width,
        "ratio_verdict": normalised.verdict.value,
    }


def _storable(text: str) -> str:
    """Return a text that every database takes; the outcome beside it holds it as it was."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
