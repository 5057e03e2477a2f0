"""Stores and what travels between them, for the tests of both."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tests.latency_models import samples

from boardfront.latency_models.store_entry import Quarantine, StoreEntry, entry_from_json
from boardfront.protos.records import Failure, FailureKind, Normalised, Verdict

if TYPE_CHECKING:
    from boardfront.latency_models.store import MeasurementStore

EXTREMES = (5e-324, 1.7976931348623157e308, 0.1 + 0.2, 1 / 3, 2.0**-1074 * 3, 0.002)


def normalised(verdict: Verdict) -> Normalised:
    return Normalised(
        reference_subject_id="reference",
        reference_sha256="c" * 64,
        ratio=2.0,
        low=1.99,
        high=2.01,
        windows=9,
        merged=1,
        autocorrelation=None,
        elasticity=1.0,
        reference_median_s=0.001,
        reference_quiet_s=None,
        verdict=verdict,
        evidence=(),
    )


def entry(number: int, *reasons: str, created_unix_s: float = 0.0, **changes: Any) -> StoreEntry:
    made = samples.measurement(
        samples.result(**changes), job_id=f"job-{number}", created_unix_s=created_unix_s
    )
    marks = tuple(
        Quarantine(created_unix_s=7.5, reason=reason, times_only=bool(i))
        for i, reason in enumerate(reasons)
    )
    return StoreEntry(measurement=made, quarantines=marks)


def entries(store: MeasurementStore) -> list[StoreEntry]:
    with store.snapshot() as snapshot:
        return [entry_from_json(entry) for entry in snapshot.entries]


def fill(store: MeasurementStore) -> None:
    """Append what is hard to carry."""
    result = dataclasses.replace(
        samples.result(),
        warm_up_s=EXTREMES,
        load_s=-0.0,
        parts_s={"forward": 0.1 + 0.2},
        evidence=('a "quoted", line\r\n', "\u2603"),
        normalised=normalised(Verdict.OK),
    )
    appended = [store.append(samples.measurement(result, created_unix_s=1 / 3))]
    failure = Failure(kind=FailureKind.TIMEOUT, message="a\0b\udcff\r\nc", detail="\0\u2028")
    appended += [store.append(samples.measurement(failure, job_id="job-2"))]
    odd = dataclasses.replace(
        samples.measurement(job_id='=job;"3"', subject_id=""),
        device_name="\ufefftwo\nlines\t",
        sampled_in_turn=True,
    )
    appended += [store.append(odd)]
    appended += [store.append(samples.measurement(job_id=f"job-{i}")) for i in (4, 5)]
    first, _, third = (one.id or 0 for one in appended[:3])
    store.quarantine([first, third], 'it "drifted",\nso', times_only=True)
    store.quarantine([first], "and more")
