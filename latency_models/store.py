"""All measurements ever taken, append-only, and the one rule by which a time is looked up."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from boardfront.latency_models import strict_json
from boardfront.latency_models.base import Measurement
from boardfront.latency_models.key import TimeKey
from boardfront.latency_models.outcome_json import outcome_from_json, outcome_to_json
from boardfront.latency_models.store_engine import StoreError, open_engine, writing
from boardfront.latency_models.store_schema import measurements, quarantines
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Purpose, Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from typing_extensions import Self

    from boardfront.protos.records import Normalised, Precision

__all__ = ["MeasurementStore", "StoreError", "Trusted"]

_IDS_A_QUERY = 500
"""Databases limit the parameters of one statement."""

_IN_QUARANTINE = (
    sa.exists().where(quarantines.c.measurement_id == measurements.c.id).correlate(measurements)
)

_RATIO_IN_QUARANTINE = (
    sa.exists()
    .where(quarantines.c.measurement_id == measurements.c.id, ~quarantines.c.times_only)
    .correlate(measurements)
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trusted:
    """What one needs of a measurement to decide whether it can be measured again.

    The fields are the store's columns of the same names.
    """

    id: int
    purpose: Purpose
    fingerprint: str
    backend: str
    backend_version: str
    measurement_protocol_version: int


class MeasurementStore:
    """Keeps measurements for ever.

    Guarantees: what `append` returned is on the disk; nothing is ever updated or deleted;
    several processes and threads may use one file at once. Each read sees all appends that
    returned before it.

    Args:
        location: Path of an SQLite file, which is created, or a database URL.
        clock: Seconds since 1970, for the time of a quarantine.

    Raises:
        WrongInputError: The file is no store, or a newer boardfront wrote it.
        StoreError: The database cannot be opened.
    """

    def __init__(self, location: str | Path, *, clock: Callable[[], float] = time.time) -> None:
        self._place = str(location)
        self._clock = clock
        self._engine = open_engine(location)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def append(self, measurement: Measurement) -> Measurement:
        """Store a measurement, or return the one that is stored of its job and subject.

        Args:
            measurement: Without an id and not in quarantine.

        Returns:
            The stored measurement with its id.

        Raises:
            WrongInputError: A number is NaN or infinite, or it has an id already.
            StoreError: The database cannot be written; nothing was stored.
        """
        if measurement.id is not None or measurement.quarantined:
            raise WrongInputError(
                f"expected a measurement that was never stored, got number {measurement.id}: "
                "append each once; put stored ones in quarantine by quarantine()",
            )
        row = _to_row(measurement)
        try:
            with self._transaction(writes=True) as connection:
                connection.execute(measurements.insert().values(row))
        except sa.exc.IntegrityError as problem:
            stored = self.find(measurement.job_id, measurement.subject_id)
            if stored is None:
                raise StoreError(self._place, problem) from problem
            return stored
        stored = self.find(measurement.job_id, measurement.subject_id)
        assert stored is not None  # noqa: S101 - it was committed above and is never deleted
        return stored

    def find(self, job_id: str, subject_id: str) -> Measurement | None:
        """Return the measurement of one subject of a job, or None."""
        query = _select().where(
            measurements.c.job_id == job_id,
            measurements.c.subject_id == subject_id,
        )
        return next(iter(self._read(query)), None)

    def get(self, ids: Collection[int]) -> tuple[Measurement, ...]:
        """Return the measurements of these numbers, oldest first; unknown ones are left out."""
        found: list[Measurement] = []
        wanted = sorted(set(ids))
        for start in range(0, len(wanted), _IDS_A_QUERY):
            some = wanted[start : start + _IDS_A_QUERY]
            query = _select().where(measurements.c.id.in_(some)).order_by(measurements.c.id)
            found.extend(self._read(query))
        return tuple(found)

    def lookup(
        self, key: TimeKey, *, precision: Precision, reference_sha256: str | None = None
    ) -> Measurement | None:
        """Answer a time from what was measured.

        The rule: among the key's results that are not in quarantine, whose verdict is ok, whose
        interval is at least as narrow as asked and whose look was asked to be at least as long,
        the one with the narrowest relative interval; of equals the newest. Never chosen by the
        time itself: the fastest of several is biased. Without a reference only results of
        subjects that were alone in their job count.

        Args:
            key: What the time shall be true for.
            precision: The least that will do.
            reference_sha256: Ask for the ratio to this reference: verdict, interval and
                quarantine are then those of the ratio.
        """
        m = measurements.c
        if reference_sha256 is None:
            verdict, width = m.verdict, m.relative_half_width
            fits = sa.and_(~m.sampled_in_turn, ~_IN_QUARANTINE)
        else:
            verdict, width = m.ratio_verdict, m.ratio_relative_half_width
            fits = sa.and_(m.reference_sha256 == reference_sha256, ~_RATIO_IN_QUARANTINE)
        query = (
            _select()
            .where(
                m.key_digest == key.digest,
                verdict == Verdict.OK.value,
                width <= precision.relative_half_width,
                m.min_duration_s >= precision.min_duration_s,
                fits,
            )
            .order_by(width, m.created_unix_s.desc(), m.id.desc())
            .limit(1)
        )
        return next(iter(self._read(query)), None)

    def history(self, key: TimeKey) -> tuple[Measurement, ...]:
        """Return everything measured of a key, failures and quarantined ones too, oldest first."""
        query = (
            _select()
            .where(measurements.c.key_digest == key.digest)
            .order_by(measurements.c.created_unix_s, measurements.c.id)
        )
        return tuple(self._read(query))

    def recent(
        self,
        *,
        device_id: str,
        key: TimeKey | None = None,
        verdict: Verdict | None = None,
        after_id: int = 0,
        limit: int | None = None,
    ) -> tuple[Measurement, ...]:
        """Return what one device measured, newest first, failures and quarantined ones too.

        Args:
            device_id: Of the device itself, not of its kind.
            key: Only of this key.
            verdict: Only results of this verdict.
            after_id: Only what was stored after this number.
            limit: At most so many.
        """
        m = measurements.c
        query = _select().where(m.device_id == device_id, m.id > after_id).order_by(m.id.desc())
        if key is not None:
            query = query.where(m.key_digest == key.digest)
        if verdict is not None:
            query = query.where(m.verdict == verdict.value)
        return tuple(self._read(query if limit is None else query.limit(limit)))

    def count_jobs(self, *, device_id: str, after_id: int = 0) -> int:
        """Return how many jobs of a device were stored after a measurement's number."""
        m = measurements.c
        query = sa.select(sa.func.count(m.job_id.distinct())).where(
            m.device_id == device_id, m.id > after_id
        )
        with self._transaction(writes=False) as connection:
            return int(connection.execute(query).scalar_one())

    def trusted(self, *, device_id: str) -> tuple[Trusted, ...]:
        """Return what `lookup` may answer of one device's measurements, oldest first."""
        m = measurements.c
        alone = sa.and_(m.verdict == Verdict.OK.value, ~m.sampled_in_turn, ~_IN_QUARANTINE)
        as_ratio = sa.and_(m.ratio_verdict == Verdict.OK.value, ~_RATIO_IN_QUARANTINE)
        query = (
            sa.select(*(m[field.name] for field in dataclasses.fields(Trusted)))
            .where(m.device_id == device_id, sa.or_(alone, as_ratio))
            .order_by(m.id)
        )
        with self._transaction(writes=False) as connection:
            rows = connection.execute(query).mappings().all()
        return tuple(Trusted(**{**row, "purpose": Purpose(row["purpose"])}) for row in rows)

    def quarantine(self, ids: Collection[int], reason: str, *, times_only: bool = False) -> None:
        """Keep measurements from being looked up; all of `ids` or, on an error, none.

        Args:
            ids: Of stored measurements.
            reason: What showed that they cannot be trusted, for people.
            times_only: Their ratios to a reference can still be trusted.

        Raises:
            WrongInputError: An id is not in the store.
        """
        if not ids:
            return
        now_unix_s = self._clock()
        rows = [
            {
                "measurement_id": i,
                "created_unix_s": now_unix_s,
                "reason": reason,
                "times_only": times_only,
            }
            for i in sorted(set(ids))
        ]
        try:
            with self._transaction(writes=True) as connection:
                connection.execute(quarantines.insert(), rows)
        except sa.exc.IntegrityError as problem:
            raise WrongInputError(
                f"expected ids of stored measurements, got {sorted(set(ids))} of which at least "
                f"one is not in {self._place}: take them from history()",
            ) from problem

    @contextlib.contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[sa.engine.Connection]:
        """Give a connection inside a transaction; the database's problems become one line."""
        try:
            opened = writing(self._engine) if writes else self._engine.connect()
            with opened as connection, connection.begin():
                yield connection
        except sa.exc.IntegrityError:
            raise
        except sa.exc.SQLAlchemyError as problem:
            raise StoreError(self._place, problem) from problem

    def _read(self, query: sa.Select[tuple[object, ...]]) -> list[Measurement]:
        with self._transaction(writes=False) as connection:
            rows = connection.execute(query).mappings().all()
        return [_from_row(row) for row in rows]


def _select() -> sa.Select[tuple[object, ...]]:
    return sa.select(measurements, _IN_QUARANTINE.label("quarantined"))


def _to_row(measurement: Measurement) -> dict[str, object]:
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
        **_outcome_columns(measurement),
    }


def _outcome_columns(measurement: Measurement) -> dict[str, object]:
    outcome = measurement.outcome
    if not isinstance(outcome, Result):
        return {"failure_kind": outcome.kind.value, "failure_message": outcome.message}
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


def _from_row(row: sa.RowMapping) -> Measurement:
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
