"""Measures a sample of what the store holds of a device again, and compares.

Source: MLPerf Inference rules, which have results audited by running them again and call a
difference of 2 % material; here a person's own device is audited, on a seeded random sample.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from boardfront.host.fleet.connection import ArtifactGoneError
from boardfront.host.fleet.kept_artifacts import KeptArtifacts, KeptNetwork, KeptRequest
from boardfront.protos.records import Deadlines, Purpose, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boardfront.host.fleet.client import AgentClient
    from boardfront.latency_models.base import Measurement
    from boardfront.latency_models.store import MeasurementStore, Trusted
    from boardfront.protos.records import DeviceDescription

_RUN_S = 60.0
_RUN_FACTOR = 20.0
_READ_AT_ONCE = 50
_NOT_AUDITED = frozenset({Purpose.SENTINEL, Purpose.AUDIT})
"""Those that were taken to check others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What can be measured again, and how much cannot.

    Args:
        sample: Drawn at random, in the order of drawing.
        comparable: How many measurements it was drawn from.
        other_conditions: How many were taken under another fingerprint, backend version or
            rules of timing.
        gone: How many were drawn whose artifacts the agent does not have any more.
    """

    sample: tuple[Measurement, ...]
    comparable: int
    other_conditions: int
    gone: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A measurement and the one that was taken to check it.

    `new` is None where the agent lost the artifact meanwhile.
    """

    old: Measurement
    new: Measurement | None

    @property
    def is_comparable(self) -> bool:
        """Whether the two are of the same time, and the new one can be trusted."""
        return (
            self.new is not None
            and self.new.key == self.old.key
            and verdict(self.new) is Verdict.OK
            and value(self.new) is not None
        )

    @property
    def difference(self) -> float:
        """Relative difference of new against old, of times or of ratios; NaN without two."""
        old, new = value(self.old), value(self.new) if self.new else None
        return float("nan") if old is None or new is None else new / old - 1.0


def select(
    trusted: Sequence[Trusted],
    description: DeviceDescription,
    *,
    count: int,
    seed: int,
    look: Look,
) -> Selection:
    """Draw what shall be measured again.

    Args:
        trusted: What lookups may answer of the device.
        description: What the device is now.
        count: How many are wanted.
        seed: Of the drawing.
        look: Reads measurements, and says which the agent still has.
    """
    audited = [one for one in trusted if one.purpose not in _NOT_AUDITED]
    comparable = [one.id for one in audited if _is_same(one, description)]
    order = random.Random(seed).sample(comparable, len(comparable))  # noqa: S311 - no secrets
    sample: list[Measurement] = []
    gone = 0
    for start in range(0, len(order), _READ_AT_ONCE):
        for measurement, is_there in look.at(order[start : start + _READ_AT_ONCE]):
            if is_there:
                sample.append(measurement)
            else:
                gone += 1
            if len(sample) == count:
                break
        if len(sample) == count:
            break
    return Selection(
        sample=tuple(sample),
        comparable=len(comparable),
        other_conditions=len(audited) - len(comparable),
        gone=gone,
    )


class Look:
    """Says of stored measurements whether the agent has what they were taken of."""

    def __init__(self, client: AgentClient, store: MeasurementStore) -> None:
        self._client = client
        self._store = store

    def at(self, ids: Sequence[int]) -> list[tuple[Measurement, bool]]:
        """Return the measurements of these numbers, in this order, and whether each is there."""
        found = {one.id: one for one in self._store.get(ids)}
        names = {name for one in found.values() for name in _artifacts(one)}
        missing = self._client.missing(sorted(names))
        return [(found[i], not missing & set(_artifacts(found[i]))) for i in ids if i in found]


class Auditor:
    """Measures again as it was measured: the same options, cores, precision and reference.

    Args:
        kept: Measures on the device.
        store: Where the references of ratios are found.
        description: What the device is now.
    """

    def __init__(
        self, kept: KeptArtifacts, store: MeasurementStore, description: DeviceDescription
    ) -> None:
        self._kept = kept
        self._store = store
        self._description = description

    def check(self, sample: Sequence[Measurement]) -> Iterator[Check]:
        """Yield one check a measurement as it is done; each is in the store by then."""
        for old in sample:
            request = self._request(old)
            new = None
            if request is not None:
                try:
                    new = self._kept.measure(request, self._description)
                except ArtifactGoneError:
                    new = None
            yield Check(old=old, new=new)

    def _request(self, old: Measurement) -> KeptRequest | None:
        result = old.result
        if result is None:
            return None
        reference, ratio = None, result.normalised
        if ratio is not None:
            beside = self._store.find(old.job_id, ratio.reference_subject_id)
            if beside is None:
                return None
            reference = KeptNetwork(artifact_sha256=ratio.reference_sha256, key=beside.key)
        return KeptRequest(
            network=KeptNetwork(artifact_sha256=result.artifact_sha256, key=old.key),
            reference=reference,
            quiet_s=ratio.reference_quiet_s if ratio else None,
            precision=result.precision,
            deadlines=Deadlines(run_s=max(_RUN_S, _RUN_FACTOR * result.precision.min_duration_s)),
            purpose=Purpose.AUDIT,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """How well checks agree. Differences are relative to the old value.

    Args:
        differences: Of those that compare, in the order of checking.
        not_ok: How many checks had a verdict that is not ok, by verdict.
        failed: How many gave no time, or one under other conditions.
    """

    differences: tuple[float, ...]
    not_ok: dict[Verdict, int]
    failed: int

    def within(self, limit: float) -> int:
        """Return how many differ by no more than `limit`."""
        return sum(abs(difference) <= limit for difference in self.differences)

    @property
    def median(self) -> float | None:
        """The median of the absolute differences."""
        return median(abs(one) for one in self.differences) if self.differences else None

    @property
    def worst(self) -> float | None:
        """The difference that is farthest from 0, with its sign."""
        return max(self.differences, key=abs) if self.differences else None


def summarize(checks: Sequence[Check]) -> Summary:
    """Count what the checks say; one that is not ok is no disagreement."""
    not_ok: dict[Verdict, int] = {}
    failed = 0
    for check in checks:
        seen = verdict(check.new) if check.new else None
        if seen is not None and seen is not Verdict.OK:
            not_ok[seen] = not_ok.get(seen, 0) + 1
        elif not check.is_comparable:
            failed += 1
    return Summary(
        differences=tuple(check.difference for check in checks if check.is_comparable),
        not_ok=not_ok,
        failed=failed,
    )


def value(measurement: Measurement) -> float | None:
    """Return what is compared: the ratio where there is a reference, else the median in s."""
    result = measurement.result
    if result is None or (measurement.sampled_in_turn and result.normalised is None):
        return None
    return result.normalised.ratio if result.normalised else result.statistics.median_s


def verdict(measurement: Measurement) -> Verdict | None:
    """Return the verdict of `value`, or None for a failure."""
    result = measurement.result
    if result is None:
        return None
    return result.normalised.verdict if result.normalised else result.verdict


def _is_same(one: Trusted, description: DeviceDescription) -> bool:
    info = description.backend(one.backend)
    return (
        info is not None
        and info.available
        and info.version == one.backend_version
        and one.fingerprint == description.fingerprint
        and one.measurement_protocol_version == description.measurement_protocol_version
    )


def _artifacts(measurement: Measurement) -> tuple[str, ...]:
    result = measurement.result
    if result is None:
        return ()
    beside = (result.normalised.reference_sha256,) if result.normalised else ()
    return (result.artifact_sha256, *beside)
