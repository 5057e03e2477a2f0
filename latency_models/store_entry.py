"""A measurement with its quarantines, as it travels from store to store."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import sqlalchemy as sa

from boardfront.latency_models import strict_json
from boardfront.latency_models.base import Measurement
from boardfront.latency_models.key import TimeKey  # noqa: TC001 - strict_json reads it
from boardfront.latency_models.outcome_json import outcome_from_json
from boardfront.latency_models.store_schema import measurements, quarantines
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Purpose  # noqa: TC001 - strict_json reads it

if TYPE_CHECKING:
    from collections.abc import Iterator

EntryJson: TypeAlias = dict[str, object]
"""An entry as JSON has it; its keys are those of `Measurement` without id, and `quarantines`."""

_ENTRIES_A_PAGE = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Quarantine:
    """Why and since when a measurement is not looked up; see `MeasurementStore.quarantine`."""

    created_unix_s: float
    reason: str
    times_only: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreEntry:
    """A measurement without number or quarantine, and its quarantines."""

    measurement: Measurement
    quarantines: tuple[Quarantine, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    """All of an entry but its outcome."""

    created_unix_s: float
    key: TimeKey
    device_id: str
    device_name: str
    agent_version: str
    job_id: str
    subject_id: str
    purpose: Purpose
    sampled_in_turn: bool = False
    quarantines: tuple[Quarantine, ...] = ()


def entry_from_json(data: object, where: str = "") -> StoreEntry:
    """Read an entry.

    Args:
        data: What `scan` yields, or what came of it through a file.
        where: Which entry it is, for the error's text.

    Raises:
        WrongInputError: It is no entry, or a newer boardfront wrote it.
    """
    if not isinstance(data, dict) or "outcome" not in data:
        raise WrongInputError(
            f"expected a measurement at {where or 'the top'}, got {data!r:.60}: "
            "the file is damaged or of another kind"
        )
    rest = {name: value for name, value in data.items() if name != "outcome"}
    frame = strict_json.decode(_Frame, rest, where)
    fields = {field.name: getattr(frame, field.name) for field in dataclasses.fields(frame)}
    del fields["quarantines"]
    return StoreEntry(
        measurement=Measurement(**fields, outcome=outcome_from_json(data["outcome"])),
        quarantines=frame.quarantines,
    )


def scan(connection: sa.engine.Connection) -> Iterator[EntryJson]:
    """Yield all entries of a store by their numbers, a page at a time.

    They are passed on as they were stored, older versions' outcomes included.
    """
    m = measurements.c
    names = [field.name for field in dataclasses.fields(_Frame) if field.name != "quarantines"]
    query = sa.select(m.id, m.outcome, *(m[name] for name in names)).order_by(m.id)
    last = 0
    while True:
        page = query.where(m.id > last).limit(_ENTRIES_A_PAGE)
        rows = connection.execute(page).mappings().all()
        if not rows:
            return
        marks = _quarantines(connection, rows[0]["id"], rows[-1]["id"])
        last = rows[-1]["id"]
        for row in rows:
            yield {
                **{name: row[name] for name in names},
                "quarantines": marks[row["id"]],
                "outcome": row["outcome"],
            }


def _quarantines(
    connection: sa.engine.Connection, first: int, last: int
) -> dict[int, list[dict[str, object]]]:
    q = quarantines.c
    query = sa.select(q.measurement_id, q.created_unix_s, q.reason, q.times_only).where(
        q.measurement_id.between(first, last)
    )
    found: defaultdict[int, list[dict[str, object]]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        mark = {name: value for name, value in row.items() if name != "measurement_id"}
        found[row["measurement_id"]].append(mark)
    for marks in found.values():
        # Not by the database: each orders texts in its own way.
        marks.sort(key=lambda mark: (mark["created_unix_s"], mark["reason"], mark["times_only"]))
    return found
