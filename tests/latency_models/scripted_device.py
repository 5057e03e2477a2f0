"""A scripted device that answers a build, exactly, and what builds on it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tests.latency_models import samples
from tests.latency_models.table_samples import (
    KINDS,
    MEMBERS,
    Programmes,
    member,
)
from typing_extensions import override

from boardfront.latency_models.base import (
    Measurement,
    TimeRequest,
)
from boardfront.latency_models.key import TimeKey
from boardfront.latency_models.table_build import TableBuilder
from boardfront.latency_models.table_plan import Members, Plan
from boardfront.latency_models.table_rule import BuildRule, TableTask
from boardfront.protos.records import (
    Failure,
    FailureKind,
    Normalised,
    Origin,
    Purpose,
    Result,
    Task,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boardfront.latency_models.table import Table
    from boardfront.latency_models.table_chains import Chain, ChainFile

BASE = member("abab")
OTHERS = [one for one in MEMBERS if one != BASE]


@dataclass
class Device:
    """Answers with the programmed times, exactly, and lets time pass.

    Args:
        half_width: Of the intervals, relative.
        verdict: Of all ratios.
        broken: Labels that fail.
        drift: Factor on everything, a look.
    """

    half_width: float = 0.01
    verdict: Verdict = Verdict.OK
    broken: frozenset[str] = frozenset()
    drift: float = 1.0
    now_s: float = 0.0
    level: float = 1.0
    asked: list[TimeRequest] = field(default_factory=list)

    def measure(self, requests: Sequence[TimeRequest]) -> Iterator[Measurement]:
        """Answer at once."""
        for request in requests:
            self.asked.append(request)
            self.now_s += 3.0
            self.level *= self.drift
            yield self._measurement(request)

    def _measurement(self, request: TimeRequest) -> Measurement:
        time_s = float(json.loads(request.model)["time_s"]) * self.level
        outcome: Result | Failure = samples.result(
            median_s=time_s, relative_half_width=self.half_width
        )
        assert isinstance(outcome, Result)
        if request.label in self.broken:
            outcome = Failure(kind=FailureKind.CRASHED, message="signal 11")
        elif request.reference is not None:
            rest_s = float(json.loads(request.reference.model)["time_s"]) * self.level
            ratio = time_s / rest_s
            outcome = replace(
                outcome,
                normalised=Normalised(
                    reference_subject_id="reference",
                    reference_sha256="c" * 64,
                    ratio=ratio,
                    low=ratio * (1 - self.half_width),
                    high=ratio * (1 + self.half_width),
                    windows=8,
                    merged=1,
                    autocorrelation=None,
                    elasticity=None,
                    reference_median_s=rest_s,
                    reference_quiet_s=request.reference.quiet_s,
                    verdict=self.verdict,
                    evidence=(),
                ),
            )
        return Measurement(
            id=len(self.asked),
            created_unix_s=1_700_000_000.0,
            key=TimeKey.of_target(
                samples.TARGET,
                structure_hash=request.structure_hash,
                task=request.task,
                input_shapes={},
                origin=Origin.PROGRAMMED,
            ),
            device_id="d",
            device_name="board",
            agent_version="0.1.0",
            job_id=request.job_seed,
            subject_id="s0",
            purpose=Purpose.CANDIDATE,
            outcome=outcome,
            sampled_in_turn=request.reference is not None,
        )


@dataclass
class Turner(Device):
    """Can answer several requests in one job.

    Args:
        jobs: Their labels, by job.
    """

    jobs: list[tuple[str, ...]] = field(default_factory=list)

    def measure_together(self, requests: Sequence[TimeRequest]) -> tuple[Measurement, ...]:
        """Answer a job."""
        first = requests[0]
        assert all(
            (one.job_seed, one.precision, one.reference)
            == (first.job_seed, first.precision, first.reference)
            for one in requests
        )
        self.jobs.append(tuple(one.label for one in requests))
        return tuple(self.measure(requests))


class NoCall(Programmes):
    """Writes no call without a block."""

    @override
    def write(self, chain: Chain) -> ChainFile | None:
        """Write a chain of blocks."""
        return super().write(chain) if chain else None


def builder_of(
    device: Device, *, rule: BuildRule | None = None, writer: Programmes | None = None
) -> TableBuilder:
    """Return a builder of a table of the toy space."""
    chosen = Members(base=BASE, calibration=OTHERS[:4], held_out=OTHERS[4:10], repeats=2)
    return TableBuilder(
        Plan(chosen, KINDS, has_call=not isinstance(writer, NoCall)),
        writer or Programmes(),
        device,
        TableTask(
            space="toy",
            space_settings={"resolution": 32},
            task=Task(batch=1, resolution=32, classes=10),
            backend="fake",
            seed="seed",
            built_unix_s=1_700_000_000.0,
        ),
        rule or BuildRule(),
        clock=lambda: device.now_s,
    )


def built(builder: TableBuilder) -> Table:
    """Build to the end."""
    for _ in builder.run():
        pass
    table = builder.table()
    assert table is not None
    return table


@dataclass(kw_only=True)
class Remembering(Device):
    """Knows what it answered, as a measurer with a store does."""

    known: dict[tuple[str, str], Measurement] = field(default_factory=dict)

    @override
    def measure(self, requests: Sequence[TimeRequest]) -> Iterator[Measurement]:
        """Answer what is known as before."""
        for request in requests:
            kept = self.recall([request])
            yield kept[0] if kept else self._measured(request)

    def _measured(self, request: TimeRequest) -> Measurement:
        (measurement,) = super().measure([request])
        self.known[request.job_seed, request.label] = measurement
        return measurement

    def recall(self, requests: Sequence[TimeRequest]) -> tuple[Measurement, ...] | None:
        """Return what was answered before."""
        found = [self.known.get((one.job_seed, one.label)) for one in requests]
        kept = tuple(one for one in found if one is not None)
        return kept if len(kept) == len(found) else None
