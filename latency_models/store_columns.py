"""An entry as one flat row for tables: what each column holds, and in which unit.

The columns are for reading; the entry itself travels whole in the column `record`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.latency_models.store_entry import EntryJson

Cell: TypeAlias = str | int | float | bool | None
Kind: TypeAlias = Literal["text", "integer", "number", "flag"]

FORMAT = "boardfront measurements"
VERSION = 1
"""Of the exchanged form, whatever the file's type. A newer one is refused."""

UNITS = {
    "_unix_s": "s since 1970-01-01 UTC",
    "_s": "s",
    "_hz": "Hz",
    "_c": "degC",
    "_w": "W",
    "_j": "J",
    "_bytes": "bytes",
}
"""What a name's ending says. Ratios, fractions and counts have no unit."""

RECORD = f"record [{FORMAT} {VERSION}, JSON]"
"""Heading of the column that holds the whole entry."""

_RECORD_HEADING = re.compile(r"record \[" + FORMAT + r" (\d+), JSON\]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column. `path` leads to its value inside an entry's JSON."""

    name: str
    kind: Kind
    path: tuple[str, ...]

    @property
    def unit(self) -> str:
        """Its unit, or empty."""
        return next((unit for end, unit in UNITS.items() if self.name.endswith(end)), "")

    @property
    def heading(self) -> str:
        """Its name, with its unit where it has one, e.g. `median_s [s]`."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name


def _columns() -> tuple[Column, ...]:
    listed: list[tuple[Kind, str, str]] = [
        ("number", "", "created_unix_s"),
        ("text", "", "device_name device_id agent_version job_id subject_id purpose"),
        ("flag", "", "sampled_in_turn"),
        ("text", "key", "structure_hash fingerprint backend backend_version options tuning cpus"),
        ("text", "key", "input_shapes origin"),
        ("integer", "key", "measurement_protocol_version"),
        ("text", "key.task", "kind=task"),
        ("integer", "key.task", "batch resolution classes frozen_stages"),
        ("text", "key.task", "cache"),
        ("text", "outcome.body", "verdict kind=failure_kind message=failure_message"),
        (
            "number",
            "outcome.body.statistics",
            "median_s low_s=interval_low_s high_s=interval_high_s mean_s min_s max_s p90_s p99_s "
            "mad_s cv",
        ),
        ("integer", "outcome.body.statistics", "samples windows outliers"),
        (
            "number",
            "outcome.body.precision",
            "relative_half_width=asked_relative_half_width min_duration_s",
        ),
        ("number", "outcome.body", "first_run_s load_s compile_s run_s tuned_fraction"),
        ("integer", "outcome.body", "artifact_bytes"),
        ("text", "outcome.body", "artifact_sha256"),
        ("text", "outcome.body.normalised", "reference_sha256"),
        (
            "number",
            "outcome.body.normalised",
            "ratio low=ratio_low high=ratio_high elasticity reference_median_s reference_quiet_s",
        ),
        ("text", "outcome.body.normalised", "verdict=ratio_verdict"),
        ("number", "outcome.body.energy", "median_j=energy_median_j low_j=energy_low_j"),
        ("number", "outcome.body.energy", "high_j=energy_high_j"),
        ("text", "outcome.body.energy", "source=energy_source"),
        ("text", "outcome.body.circumstances", "governor"),
        (
            "number",
            "outcome.body.circumstances",
            "frequency_before_hz frequency_after_hz frequency_min_hz frequency_max_hz "
            "temperature_before_c temperature_after_c temperature_max_c power_w steal_fraction "
            "other_cpu_fraction load_average",
        ),
        ("integer", "outcome.body.circumstances", "worker_peak_rss_bytes throttle_events"),
    ]
    found = []
    for kind, place, names in listed:
        for item in names.split():
            inner, _, outer = item.partition("=")
            path = (*place.split("."), inner) if place else (inner,)
            found.append(Column(name=outer or inner, kind=kind, path=path))
    return (
        *found,
        Column(name="quarantined", kind="flag", path=()),
        Column(name="quarantine_reasons", kind="text", path=()),
    )


COLUMNS = _columns()


def cells(entry: EntryJson) -> dict[str, Cell]:
    """Return an entry's cells by their columns' names; None where it has none."""
    marks = entry.get("quarantines")
    marks = marks if isinstance(marks, list) else []
    reasons = "; ".join(str(mark.get("reason")) for mark in marks if isinstance(mark, dict))
    found = {column.name: _cell(entry, column) for column in COLUMNS[:-2]}
    return {**found, "quarantined": bool(marks), "quarantine_reasons": _plain(reasons) or None}


def check_record_heading(heading: str, where: str) -> bool:
    """Return whether a heading is that of the whole entries.

    Raises:
        WrongInputError: It is, and a newer boardfront wrote it.
    """
    match = _RECORD_HEADING.fullmatch(heading)
    if match is None:
        return False
    check_version(int(match.group(1)), where)
    return True


def check_version(version: object, where: str) -> None:
    """Refuse a version that this boardfront does not know.

    Raises:
        WrongInputError: It is another.
    """
    if version != VERSION:
        raise WrongInputError(
            f"{where}: expected measurements in form {VERSION}, got {version!r:.40}: "
            "another boardfront wrote it; use a newer one"
        )


def check_cells(entry: EntryJson, given: Mapping[str, Cell], where: str) -> None:
    """Compare a row's cells with its entry: a table that was edited is not taken for measured.

    Args:
        entry: What the row's record says.
        given: Cells by the names of columns; unknown names are passed over.
        where: Which row, for the error's text.

    Raises:
        WrongInputError: A cell says something else than the record.
    """
    expected = cells(entry)
    for name, value in given.items():
        if name in expected and not _same(value, expected[name]):
            raise WrongInputError(
                f"{where}: expected {name} {expected[name]!r:.40} as in the row's record, got "
                f"{value!r:.40}: the table was edited; export it again"
            )


def _cell(entry: EntryJson, column: Column) -> Cell:
    value: object = entry
    for name in column.path:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, list):
        value = "; ".join("=".join(map(str, pair)) for pair in value if isinstance(pair, list))
    if isinstance(value, str):
        return _plain(value) or None
    if column.kind == "number" and isinstance(value, int):
        return float(value)
    return value if isinstance(value, bool | int | float) else None


def _plain(text: str) -> str:
    """Return a text in one line without control characters; the record has it as it is."""
    return _CONTROLS.sub(" ", text).strip()


def _same(given: Cell, expected: Cell) -> bool:
    if given is None or given == "":
        return expected is None
    if isinstance(given, str) and not isinstance(expected, str):
        if isinstance(expected, bool):
            return given.lower() == str(expected).lower()
        try:
            return expected is not None and float(given) == expected
        except ValueError:
            return False
    return given == expected
