"""All measurements ever taken, append-only, and the one rule by which a time is looked up."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from boardfront.latency_models.store_absorb import absorb
from boardfront.latency_models.store_engine import (
    StoreError,
    open_engine,
    snapshot,
    store_revision,
    writing,
)
from boardfront.latency_models.store_entry import scan
from boardfront.latency_models.store_location import is_same, shown
from boardfront.latency_models.store_rows import from_row, to_row
from boardfront.latency_models.store_schema import measurements, quarantines
from boardfront.latency_models.store_summary import StoreSummary, summarise
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Purpose, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from typing_extensions import Self

    from boardfront.latency_models.base import Measurement
    from boardfront.latency_models.key import TimeKey
    from boardfront.latency_models.store_absorb import Absorbed
    from boardfront.latency_models.store_entry import EntryJson, StoreEntry
    from boardfront.protos.records import Precision

__all__ = ["MeasurementStore", "Snapshot", "StoreError", "Trusted"]

_IDS_A_QUERY = 500
"""Databases limit the parameters of one statement."""

_ABSORB_TRIES = 5
"""Each meets another process that stores one of the same measurements at the same moment."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """All of a store at one moment: how many measurements, and each with its quarantines."""

    count: int
    entries: Iterator[EntryJson]


class MeasurementStore:
    """Keeps measurements for ever.

    Guarantees: what `append` returned is on the disk; nothing is ever updated or deleted;
    several processes and threads may use one store at once, on several hosts where it is a
    server's. Each read sees all appends that returned before it.

    Args:
        location: Path of an SQLite file, which is created, or the URL of a PostgreSQL database.
        clock: Seconds since 1970, for the time of a quarantine.

    Raises:
        WrongInputError: The file is no store, or a newer boardfront wrote it.
        StoreError: The database cannot be opened.
    """

    def __init__(self, location: str | Path, *, clock: Callable[[], float] = time.time) -> None:
        self._location = location
        self._place = shown(location)
        self._clock = clock
        self._engine = open_engine(location)

    @property
    def place(self) -> str:
        """Where it is, as it may be printed."""
        return self._place

    def is_at(self, location: str | Path) -> bool:
        """Return whether this is the store of a location."""
        return is_same(self._location, location)

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
        row = to_row(measurement)
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

        What was imported after newer ones of the device is left out: here the order counts.

        Args:
            device_id: Of the device itself, not of its kind.
            key: Only of this key.
            verdict: Only results of this verdict.
            after_id: Only what was stored after this number.
            limit: At most so many.
        """
        m = measurements.c
        query = (
            _select()
            .where(m.device_id == device_id, m.id > after_id, ~m.arrived_late)
            .order_by(m.id.desc())
        )
        if key is not None:
            query = query.where(m.key_digest == key.digest)
        if verdict is not None:
            query = query.where(m.verdict == verdict.value)
        return tuple(self._read(query if limit is None else query.limit(limit)))

    def count_jobs(self, *, device_id: str, after_id: int = 0) -> int:
        """Return how many jobs of a device were stored after a measurement's number."""
        m = measurements.c
        query = sa.select(sa.func.count(m.job_id.distinct())).where(
            m.device_id == device_id, m.id > after_id, ~m.arrived_late
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
    def snapshot(self) -> Iterator[Snapshot]:
        """Give all measurements, oldest number first, a few at a time, as of this moment.

        Whoever appends meanwhile is neither disturbed nor seen.
        """
        with self._problems_told(), snapshot(self._engine) as connection, connection.begin():
            count = connection.execute(sa.select(sa.func.count(measurements.c.id))).scalar_one()
            yield Snapshot(count=count, entries=scan(connection))

    def absorb(self, entries: Sequence[StoreEntry]) -> Absorbed:
        """Take measurements of another store in, all in one transaction.

        What is there already stays one; one that differs from the stored of its job and subject
        is left out and told. Quarantines are added to those that there are.

        Args:
            entries: Hundreds rather than thousands: others wait meanwhile.

        Raises:
            WrongInputError: A number is NaN or infinite.
            StoreError: The database cannot be written; nothing was stored.
        """
        for attempt in range(_ABSORB_TRIES):
            try:
                with self._transaction(writes=True) as connection:
                    return absorb(connection, entries)
            except sa.exc.IntegrityError as problem:  # noqa: PERF203 - seldom
                if attempt == _ABSORB_TRIES - 1:
                    raise StoreError(self._place, problem) from problem
        raise AssertionError

    def summary(self) -> StoreSummary:
        """Return what the store holds, in numbers."""
        with self._problems_told(), snapshot(self._engine) as connection, connection.begin():
            revision = store_revision(connection, self._place)
            return summarise(connection, place=self._place, revision=revision or "")

    @contextlib.contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[sa.engine.Connection]:
        """Give a connection inside a transaction."""
        with self._problems_told():
            opened = writing(self._engine) if writes else self._engine.connect()
            with opened as connection, connection.begin():
                yield connection

    @contextlib.contextmanager
    def _problems_told(self) -> Iterator[None]:
        """Turn the database's problems into one line."""
        try:
            yield
        except sa.exc.IntegrityError:
            raise
        except sa.exc.SQLAlchemyError as problem:
            raise StoreError(self._place, problem) from problem

    def _read(self, query: sa.Select[tuple[object, ...]]) -> list[Measurement]:
        with self._transaction(writes=False) as connection:
            rows = connection.execute(query).mappings().all()
        return [from_row(row) for row in rows]


def _select() -> sa.Select[tuple[object, ...]]:
    return sa.select(measurements, _IN_QUARANTINE.label("quarantined"))
