"""What a store holds, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from boardfront.latency_models.store_schema import measurements, quarantines

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredDevice:
    """What one device measured. `name` is the one that it had last."""

    device_id: str
    name: str
    measurements: int
    first_unix_s: float
    last_unix_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSummary:
    """A store in numbers.

    Args:
        place: Where it is, without a password.
        database: sqlite or postgresql.
        revision: Of its tables.
        measurements: All of them.
        verdicts: Results by verdict.
        failures: Failures by kind.
        quarantined: Measurements that are in quarantine, be it of their times only.
        networks: Distinct structure hashes.
        keys: Distinct keys of times.
        backends: Measurements by backend.
        devices: The devices, the one with the most first.
    """

    place: str
    database: str
    revision: str
    measurements: int
    verdicts: Mapping[str, int]
    failures: Mapping[str, int]
    quarantined: int
    networks: int
    keys: int
    backends: Mapping[str, int]
    devices: tuple[StoredDevice, ...]


def summarise(connection: sa.engine.Connection, *, place: str, revision: str) -> StoreSummary:
    """Count what a store holds."""
    m = measurements.c
    count = sa.func.count
    total, networks, keys = connection.execute(
        sa.select(count(m.id), count(m.structure_hash.distinct()), count(m.key_digest.distinct()))
    ).one()
    hidden = sa.select(count(quarantines.c.measurement_id.distinct()))
    return StoreSummary(
        place=place,
        database=connection.dialect.name,
        revision=revision,
        measurements=total,
        verdicts=_by(connection, m.verdict),
        failures=_by(connection, m.failure_kind),
        quarantined=connection.execute(hidden).scalar_one(),
        networks=networks,
        keys=keys,
        backends=_by(connection, m.backend),
        devices=_devices(connection),
    )


def _by(connection: sa.engine.Connection, column: sa.Column[object]) -> dict[str, int]:
    number = sa.func.count()
    query = (
        sa.select(column, number)
        .where(column.is_not(None))
        .group_by(column)
        .order_by(number.desc(), column)
    )
    return {str(name): count for name, count in connection.execute(query)}


def _devices(connection: sa.engine.Connection) -> tuple[StoredDevice, ...]:
    m = measurements.c
    number = sa.func.count()
    query = (
        sa.select(
            m.device_id,
            number,
            sa.func.min(m.created_unix_s),
            sa.func.max(m.created_unix_s),
            sa.func.max(m.id),
        )
        .group_by(m.device_id)
        .order_by(number.desc(), m.device_id)
    )
    rows = connection.execute(query).all()
    return tuple(
        StoredDevice(
            device_id=device_id,
            name=connection.execute(sa.select(m.device_name).where(m.id == last)).scalar_one(),
            measurements=count,
            first_unix_s=first_s,
            last_unix_s=last_s,
        )
        for device_id, count, first_s, last_s, last in rows
    )
