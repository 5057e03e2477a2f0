"""Take measurements of other stores in: each once, none changed."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa

from boardfront.latency_models.store_engine import take_turn
from boardfront.latency_models.store_rows import from_row, to_row
from boardfront.latency_models.store_schema import measurements, quarantines

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from boardfront.latency_models.base import Measurement
    from boardfront.latency_models.store_entry import StoreEntry

_Value = TypeVar("_Value", str, int)

_LOCK = 0x62_6F_61_72_64_66_73
_JOBS_A_QUERY = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Absorbed:
    """What became of some entries.

    Args:
        added: Measurements that were not there.
        known: Measurements that were there, the same.
        quarantines: That were not there.
        conflicts: Job and subject of measurements that differ from those that are there.
    """

    added: int = 0
    known: int = 0
    quarantines: int = 0
    conflicts: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: Absorbed) -> Absorbed:
        return Absorbed(
            added=self.added + other.added,
            known=self.known + other.known,
            quarantines=self.quarantines + other.quarantines,
            conflicts=self.conflicts + other.conflicts,
        )


def absorb(connection: sa.engine.Connection, entries: Sequence[StoreEntry]) -> Absorbed:
    """Store what is not there yet.

    Args:
        connection: Inside a transaction that writes.
        entries: Of another store.

    Raises:
        sqlalchemy.exc.IntegrityError: Another process stored one of them just now.
    """
    # Otherwise two imports of one file could both find a quarantine missing.
    take_turn(connection, _LOCK)
    stored = _stored(connection, entries)
    new: dict[tuple[str, str], Measurement] = {}
    conflicts = []
    accepted = []
    for entry in entries:
        pair = _pair(entry.measurement)
        there = stored.get(pair) or new.setdefault(pair, entry.measurement)
        if there == entry.measurement:
            accepted.append(entry)
        else:
            conflicts.append(pair)
    if new:
        rows = list(_rows(connection, new.values()))
        connection.execute(measurements.insert(), rows)
    return Absorbed(
        added=len(new),
        known=len(accepted) - len(new),
        quarantines=_add_quarantines(connection, accepted),
        conflicts=tuple(conflicts),
    )


def _pair(measurement: Measurement) -> tuple[str, str]:
    return measurement.job_id, measurement.subject_id


def _stored(
    connection: sa.engine.Connection, entries: Sequence[StoreEntry]
) -> dict[tuple[str, str], Measurement]:
    """Return what is there of the entries' jobs, as it was when it was appended."""
    m = measurements
    found = {}
    for some in _slices({entry.measurement.job_id for entry in entries}):
        query = sa.select(m, sa.false().label("quarantined")).where(m.c.job_id.in_(some))
        for row in connection.execute(query).mappings():
            one = dataclasses.replace(from_row(row), id=None)
            found[_pair(one)] = one
    return found


def _rows(
    connection: sa.engine.Connection, new: Collection[Measurement]
) -> Iterator[dict[str, object]]:
    newest_s: dict[str, float] = {}
    for one in new:
        if one.device_id not in newest_s:
            newest_s[one.device_id] = _newest_s(connection, one.device_id)
        late = one.created_unix_s < newest_s[one.device_id]
        if not late:
            newest_s[one.device_id] = one.created_unix_s
        yield {**to_row(one), "arrived_late": late}


def _newest_s(connection: sa.engine.Connection, device_id: str) -> float:
    """Return when the last measurement of a device that is in order was taken."""
    m = measurements.c
    query = (
        sa.select(m.created_unix_s)
        .where(m.device_id == device_id, ~m.arrived_late)
        .order_by(m.id.desc())
        .limit(1)
    )
    newest_s = connection.execute(query).scalar()
    return float("-inf") if newest_s is None else float(newest_s)


def _add_quarantines(connection: sa.engine.Connection, entries: Sequence[StoreEntry]) -> int:
    wanted = {(_pair(entry.measurement), mark) for entry in entries for mark in entry.quarantines}
    if not wanted:
        return 0
    ids = _ids(connection, {job_id for (job_id, _), _ in wanted})
    there = _marks(connection, [ids[pair] for pair, _ in wanted])
    rows = [
        {"measurement_id": ids[pair], **dataclasses.asdict(mark)}
        for pair, mark in sorted(wanted, key=lambda one: (ids[one[0]], one[1].created_unix_s))
        if (mark.created_unix_s, mark.reason, mark.times_only) not in there[ids[pair]]
    ]
    if rows:
        connection.execute(quarantines.insert(), rows)
    return len(rows)


def _ids(connection: sa.engine.Connection, jobs: Collection[str]) -> dict[tuple[str, str], int]:
    m = measurements.c
    found = {}
    for some in _slices(jobs):
        query = sa.select(m.job_id, m.subject_id, m.id).where(m.job_id.in_(some))
        found.update({(job, subject): i for job, subject, i in connection.execute(query)})
    return found


def _marks(
    connection: sa.engine.Connection, ids: Collection[int]
) -> defaultdict[int, set[tuple[float, str, bool]]]:
    q = quarantines.c
    found: defaultdict[int, set[tuple[float, str, bool]]] = defaultdict(set)
    for some in _slices(set(ids)):
        query = sa.select(q.measurement_id, q.created_unix_s, q.reason, q.times_only).where(
            q.measurement_id.in_(some)
        )
        for i, created_unix_s, reason, times_only in connection.execute(query):
            found[i].add((created_unix_s, reason, bool(times_only)))
    return found


def _slices(values: Collection[_Value]) -> Iterator[list[_Value]]:
    """Yield the values, so many at a time as one statement may have."""
    ordered = list(values)
    for start in range(0, len(ordered), _JOBS_A_QUERY):
        yield ordered[start : start + _JOBS_A_QUERY]
