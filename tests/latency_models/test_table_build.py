"""The build of a table over a scripted device: what is asked, kept, given up and told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.latency_models import samples
from tests.latency_models.table_samples import (
    CALL_S,
    HEAD_BLOCK,
    KINDS,
    MEMBERS,
    STEM_BLOCK,
    Programmes,
    block,
    block_s,
    chain_s,
    member,
)
from typing_extensions import override

from boardfront.latency_models.base import (
    Measurement,
    Measurer,
    TimeRequest,
    TogetherMeasurer,
)
from boardfront.latency_models.key import TimeKey
from boardfront.latency_models.table_answers import Answer, Span
from boardfront.latency_models.table_build import BuildFailedError, TableBuilder
from boardfront.latency_models.table_chains import CALL, ChainFile
from boardfront.latency_models.table_looks import Filled, Look, LookKind, MeasuredSum
from boardfront.latency_models.table_plan import Members, Plan
from boardfront.latency_models.table_rule import BuildRule, TableTask
from boardfront.protos.errors import WrongInputError
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

    from boardfront.latency_models.blocks import BlockKey
    from boardfront.latency_models.table import Table, TableEntry
    from boardfront.latency_models.table_chains import Chain

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


def _builder(
    device: Device, *, rule: BuildRule | None = None, writer: Programmes | None = None
) -> TableBuilder:
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


def _built(builder: TableBuilder) -> Table:
    for _ in builder.run():
        pass
    table = builder.table()
    assert table is not None
    return table


def test_the_device_of_these_tests_is_a_measurer() -> None:
    assert isinstance(Device(), Measurer)


def test_blocks_come_out_as_they_were_programmed() -> None:
    table = _built(_builder(Device()))
    assert [entry.block for entry in table.entries] == list(KINDS)
    thin_s = 3e-6 * 8
    for entry in table.entries:
        expected_s = block_s(entry.block)
        if entry.block == STEM_BLOCK:
            expected_s += thin_s
        elif entry.block == HEAD_BLOCK:
            expected_s -= thin_s
        assert entry.time_s == pytest.approx(expected_s, rel=1e-6), entry.block.text
        assert entry.low_s < entry.time_s < entry.high_s
        assert entry.count > 0
    assert table.fixed_s == pytest.approx(CALL_S, rel=1e-6)
    assert table.base_s == pytest.approx(chain_s(BASE.chain), rel=1e-6)
    for one in MEMBERS:
        found_s = table.predict_s(type(table.networks[0].decomposition)(blocks=one.chain))
        assert found_s == pytest.approx(chain_s(one.chain), rel=1e-6)
    assert table.residual is not None
    assert (table.residual.networks, table.residual.repeats) == (6, 2)
    assert table.residual.mape == pytest.approx(0.0, abs=1e-6)
    assert table.residual.noise_floor == pytest.approx(0.0, abs=1e-6)
    assert table.is_finished


def test_a_level_that_moves_moves_no_block() -> None:
    table = _built(_builder(Device(drift=1.01)))
    still = _built(_builder(Device()))
    # Seconds are at the level of the base's middle look; between blocks nothing has changed.
    for moved, was in zip(table.entries, still.entries, strict=True):
        assert moved.time_s / table.base_s == pytest.approx(was.time_s / still.base_s, rel=1e-6)
    assert table.residual is not None
    assert table.residual.mape == pytest.approx(0.0, abs=1e-6)
    assert table.base_high_s / table.base_low_s > 1.1


def test_the_base_is_the_reference_of_what_is_inserted_into_it() -> None:
    device = Device()
    writer = Programmes()
    builder = _builder(device, writer=writer)
    _built(builder)
    base = writer.write(BASE.chain)
    assert base is not None
    inserted = next(one for one in device.asked if one.label == block("a", 16, 16).text)
    assert inserted.reference is not None
    assert inserted.reference.model == base.content
    assert inserted.reference.quiet_s == pytest.approx(chain_s(BASE.chain))
    alone = [one for one in device.asked if one.reference is None]
    assert {one.model for one in alone} == {base.content}
    assert len(alone) == 3


def test_every_job_has_a_name_of_its_own_that_follows_from_the_seed() -> None:
    first, second = Device(half_width=0.03), Device(half_width=0.03)
    _built(_builder(first))
    _built(_builder(second))
    seeds = [one.job_seed for one in first.asked]
    assert seeds == [one.job_seed for one in second.asked]
    assert len(set(seeds)) == len(seeds)
    # Else a repeat would be answered by what it shall repeat.
    repeats = [one for one in first.asked if "seed 0 repeat " in one.job_seed]
    assert len(repeats) == 2
    assert all(one.fresh for one in repeats)


def test_what_is_compared_with_the_base_shares_jobs() -> None:
    alone, turner = Device(), Turner()
    assert isinstance(turner, TogetherMeasurer)
    assert not isinstance(alone, TogetherMeasurer)
    rule = BuildRule(rounds=0, together=3)
    steps = list(_builder(turner, rule=rule).run())
    list(_builder(alone, rule=rule).run())
    assert sorted(one.label for one in turner.asked) == sorted(one.label for one in alone.asked)
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].done == steps[-1].total
    assert {len(job) for job in turner.jobs} == {2, 3}
    held = [label for job in turner.jobs for label in job if label.startswith("held-out")]
    assert len(held) == len(set(held)) >= 4
    for job in turner.jobs:
        # What is looked at unequally closely, or again, is in a job of its own.
        assert len({label.split()[0] in {"held-out", "calibration"} for label in job}) == 1
        assert len({label.startswith("repeat") for label in job}) == 1


def test_jobs_that_are_shared_do_not_depend_on_the_budget() -> None:
    def jobs(budget_s: float | None) -> tuple[list[tuple[str, str]], int]:
        device = Turner()
        builder = _builder(device, rule=BuildRule(rounds=0, budget_s=budget_s))
        list(builder.run())
        return [(one.label, one.job_seed) for one in device.asked], len(device.jobs)

    (few, few_jobs), (many, many_jobs) = jobs(60.0), jobs(None)
    assert 0 < few_jobs < many_jobs
    assert set(few) < set(many)


def test_what_is_wide_is_looked_at_again_and_closer() -> None:
    device = Device(half_width=0.03)
    builder = _builder(device, rule=BuildRule(precision=0.05, rounds=1))
    steps = list(builder.run())
    again = [one for one in steps if one.round_number == 1]
    assert again
    # Whole networks that say little are measured again as well, after the blocks.
    kinds = [one.look.kind for one in again]
    assert set(kinds) == set(LookKind) - {LookKind.BASE}
    assert kinds.index(LookKind.HELD_OUT) > max(
        index for index, kind in enumerate(kinds) if kind is LookKind.ENTRY
    )
    by_label = {one.label: one for one in device.asked}
    for step in again:
        if step.look.kind is not LookKind.ENTRY or step.look.ratio is None:
            continue
        request = by_label[step.look.name]
        added = abs(step.look.ratio - 1) / step.look.ratio
        expected = min(0.05, max(0.001, 0.05 * added))
        assert request.precision.relative_half_width == pytest.approx(expected)
        assert request.fresh
    narrow = _builder(Device(half_width=0.0005), rule=BuildRule(precision=0.05, rounds=2))
    assert {step.round_number for step in narrow.run()} == {0}


def test_of_two_looks_the_better_counts_not_the_faster() -> None:
    device = Device(half_width=0.03, verdict=Verdict.CONTENDED)
    builder = _builder(device, rule=BuildRule(rounds=1))
    steps = builder.run()
    for step in steps:
        if step.round_number == 0 and step.done == step.total:
            break
    before = builder.table()
    assert before is not None
    assert {entry.verdict for entry in before.entries} == {Verdict.CONTENDED}
    device.verdict = Verdict.OK
    for _ in steps:
        pass
    after = builder.table()
    assert after is not None
    assert {entry.verdict for entry in after.entries} == {Verdict.OK}
    # A third round that is worse takes nothing away.
    device.verdict = Verdict.CONTENDED
    builder.rule = replace(builder.rule, rounds=3)
    for _ in builder.run():
        pass
    last = builder.table()
    assert last is not None
    assert {entry.verdict for entry in last.entries} == {Verdict.OK}


def test_a_block_that_fails_is_missing_and_told() -> None:
    label = block("b", 8, 16).text
    table = _built(_builder(Device(broken=frozenset({label}))))
    assert table.missing == (label,)
    assert not table.is_finished
    assert f"{label}: crashed: signal 11" in table.notes
    assert table.residual is not None
    # Networks with that block are no part of the residual.
    assert table.residual.networks < 6


def test_without_the_way_nothing_hangs_on_it() -> None:
    label = "the way to 16 channels @8"
    table = _built(_builder(Device(broken=frozenset({label}))))
    assert set(table.missing) == {block(kind, 16, 32).text for kind in "ab"}


def test_without_the_base_there_is_no_table() -> None:
    builder = _builder(Device(broken=frozenset({"base, look 1"})))
    with pytest.raises(BuildFailedError, match="expected a time of the base abab, got crashed"):
        list(builder.run())
    assert builder.table() is None


@pytest.mark.parametrize("writer", [NoCall(), Programmes()])
def test_without_a_call_sums_are_the_same(writer: Programmes) -> None:
    table = _built(_builder(Device(broken=frozenset({"call"})), writer=writer))
    assert table.fixed_s == 0.0
    assert not table.missing
    for one in table.networks:
        assert table.predict_s(one.decomposition) == pytest.approx(one.time_s, rel=1e-6)


@pytest.mark.parametrize("budget_s", [30.0, 60.0, 90.0])
def test_a_budget_is_kept(budget_s: float) -> None:
    device = Device(half_width=0.03)
    builder = _builder(device, rule=BuildRule(budget_s=budget_s))
    table = _built(builder)
    assert builder.is_out_of_time
    assert device.now_s <= budget_s + 3.0
    whole = _builder(Device(half_width=0.03))
    assert device.now_s < 3.0 * len(whole.plan.coarse()) + 3.0
    if budget_s >= 60.0:
        # All blocks come before whole networks.
        assert not table.missing


def test_without_a_budget_nothing_is_given_up() -> None:
    device = Device(half_width=0.0005)
    builder = _builder(device)
    steps = list(builder.run())
    assert not builder.is_out_of_time
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    assert {step.total for step in steps} == {len(steps)}
    assert steps[-1].left_s == 0.0
    assert steps[-1].entries == len(KINDS)
    # The device takes 3 s a look, of one network or two.
    assert steps[len(steps) // 2].left_s == pytest.approx(1.5 * len(steps), rel=0.25)


def test_a_table_can_be_had_at_any_time() -> None:
    builder = _builder(Device())
    assert builder.table() is None
    entries = []
    for _ in builder.run():
        table = builder.table()
        assert table is not None
        entries.append(len(table.entries))
        assert len(table.entries) + len(table.missing) == len(KINDS)
    assert entries == sorted(entries)
    assert (entries[0], entries[-1]) == (0, len(KINDS))


def test_the_empty_chain_is_the_call() -> None:
    assert CALL == ()
    assert chain_s(CALL) == CALL_S


@dataclass(kw_only=True)
class Remembering(Device):
    """Knows what it answered, as a measurer with a store does."""

    known: dict[tuple[str, str], Measurement] = field(default_factory=dict)

    @override
    def measure(self, requests: Sequence[TimeRequest]) -> Iterator[Measurement]:
        for request in requests:
            kept = self.recall([request])
            yield kept[0] if kept else self._measured(request)

    def _measured(self, request: TimeRequest) -> Measurement:
        (measurement,) = super().measure([request])
        self.known[request.job_seed, request.label] = measurement
        return measurement

    def recall(self, requests: Sequence[TimeRequest]) -> tuple[Measurement, ...] | None:
        found = [self.known.get((one.job_seed, one.label)) for one in requests]
        kept = tuple(one for one in found if one is not None)
        return kept if len(kept) == len(found) else None


def test_what_is_known_is_kept_however_small_the_budget() -> None:
    first = Remembering()
    whole = _built(_builder(first))
    rule = BuildRule(budget_s=0.001)
    # Some looks at the end of the first round were not made then: the budget has to leave those.
    known = dict(list(first.known.items())[:-3])
    again = Remembering(known=known)
    builder = _builder(again, rule=rule)
    steps = list(builder.run())
    assert again.asked == []
    assert builder.is_out_of_time
    assert {step.is_new for step in steps} == {False}
    table = builder.table()
    assert table is not None
    blocks = {entry.block for entry in table.entries}
    assert blocks == {entry.block for entry in whole.entries}
    assert len(table.networks) == len(whole.networks)


def test_a_build_that_is_gone_on_with_measures_what_is_left() -> None:
    first = Remembering()
    whole = _built(_builder(first))
    known = {name: one for index, (name, one) in enumerate(first.known.items()) if index % 3}
    known |= dict(list(first.known.items())[:1])
    left = len(first.known) - len(known)
    assert left > 5
    again = Remembering(known=known)
    table = _built(_builder(again))
    assert table == whole
    assert len(again.asked) == left


@dataclass(kw_only=True)
class Faltering(Remembering):
    """Fails at some looks as a full disk makes them fail, until it is put right.

    Args:
        failing: Labels.
    """

    failing: set[str] = field(default_factory=set)

    @override
    def _measurement(self, request: TimeRequest) -> Measurement:
        made = super()._measurement(request)
        if request.label not in self.failing:
            return made
        return replace(made, outcome=Failure(kind=FailureKind.DEVICE_LOST, message="disk full"))


def _labels(device: Device) -> list[str]:
    return [request.label for request in device.asked]


def test_what_failed_by_chance_is_looked_at_once_more() -> None:
    device = Faltering(failing={KINDS[3].text})
    builder = _builder(device, rule=BuildRule(rounds=0))
    for step in builder.run():
        if step.look.name == KINDS[3].text:
            device.failing.clear()
    table = builder.table()
    assert table is not None
    assert table.missing == ()
    assert table.notes == ()
    assert _labels(device).count(KINDS[3].text) == 2
    assert (step.done, step.total) == (len(device.asked), len(device.asked))


def test_going_on_tries_what_failed_anew_and_nothing_else() -> None:
    failing = {KINDS[3].text, "held-out " + OTHERS[5].encoding}
    device = Faltering(failing=set(failing))
    rule = BuildRule(rounds=0)
    first = _built(_builder(device, rule=rule))
    assert first.missing == (KINDS[3].text,)
    assert any("device_lost: disk full" in note for note in first.notes)
    assert [_labels(device).count(label) for label in failing] == [2, 2]
    # Still full: each is tried once more.
    for _ in range(2):
        device.asked.clear()
        assert _built(_builder(device, rule=rule)) == first
        assert sorted(_labels(device)) == sorted(failing)
    device.failing.clear()
    device.asked.clear()
    whole = _built(_builder(device, rule=rule))
    assert sorted(_labels(device)) == sorted(failing)
    assert whole.missing == ()
    assert whole.notes == ()
    device.asked.clear()
    assert _built(_builder(device, rule=rule)) == whole
    assert device.asked == []


def test_what_cannot_be_is_not_tried_again() -> None:
    class Unable(Faltering):
        @override
        def _measurement(self, request: TimeRequest) -> Measurement:
            made = super()._measurement(request)
            if made.failure is None:
                return made
            refused = Failure(kind=FailureKind.UNSUPPORTED, message="no such operator")
            return replace(made, outcome=refused)

    device = Unable(failing={KINDS[3].text})
    for _ in range(2):
        assert _built(_builder(device)).missing == (KINDS[3].text,)
    assert _labels(device).count(KINDS[3].text) == 1


def test_a_base_that_fails_once_does_not_end_the_build() -> None:
    device = Faltering(failing={"base, look 1"})
    with pytest.raises(BuildFailedError, match="disk full"):
        list(_builder(device).run())
    assert _labels(device) == ["base, look 1"] * 2
    device.failing.clear()
    assert _built(_builder(device)).missing == ()


def test_a_closer_look_that_fails_is_no_hole() -> None:
    device = Faltering(half_width=0.2)
    builder = _builder(device, rule=BuildRule(rounds=1))
    for step in builder.run():
        if step.round_number == 0 and step.done == step.total:
            device.failing = {kind.text for kind in KINDS}
    table = builder.table()
    assert table is not None
    assert (table.missing, table.notes) == ((), ())


def test_which_of_two_looks_counts_does_not_go_by_their_values() -> None:
    rng = np.random.default_rng(0)
    look = Plan(Members(base=BASE), KINDS).entries[0]
    kept = []
    for _ in range(2_000):
        answers = [
            Answer(
                look=look,
                ratio=Span(value=value, low=value - half, high=value + half),
                verdict=Verdict.OK,
                count=10,
            )
            for value, half in zip(
                rng.normal(1.05, 0.01, 2), 0.02 * rng.uniform(0.9, 1.1, 2), strict=True
            )
        ]
        first, second = answers
        kept.append((second if second.is_better_than(first) else first).ratio.value - 1)
    assert np.mean(kept) == pytest.approx(0.05, rel=0.02)


class _Fewer:
    """Measures the first blocks of a plan."""

    most = 6

    def next(self, waiting: list[Look], entries: Sequence[TableEntry]) -> list[Look]:
        """Leave the rest out."""
        if len(entries) < self.most:
            return waiting
        return [look for look in waiting if look.kind is not LookKind.ENTRY]

    def fill(
        self,
        blocks: Sequence[BlockKey],
        entries: Sequence[TableEntry],
        sums: Sequence[MeasuredSum] = (),
        *,
        closely: bool = True,
    ) -> Filled:
        """Tell nothing."""
        del blocks, entries, sums, closely
        return Filled()


def test_a_build_that_chooses_takes_what_is_known_however_small_the_budget() -> None:
    def builder(device: Device, budget_s: float | None) -> TableBuilder:
        chosen = Members(base=BASE, calibration=OTHERS[:4], held_out=OTHERS[4:10], repeats=2)
        made = _builder(device, rule=BuildRule(rounds=0, budget_s=budget_s))
        plan = Plan(chosen, KINDS, chooser=_Fewer())
        return TableBuilder(
            plan, Programmes(), device, made._asked, made.rule, clock=lambda: device.now_s
        )

    class Slow(Remembering):
        """Takes a second to find out what it knows."""

        @override
        def recall(self, requests: Sequence[TimeRequest]) -> tuple[Measurement, ...] | None:
            self.now_s += 1.0
            return super().recall(requests)

    device = Slow()
    whole = _built(builder(device, None))
    again = Slow(known=device.known)
    following = builder(again, 2.0)
    steps = list(following.run())
    assert again.asked == []
    assert {step.is_new for step in steps} == {False}
    assert following.table() == whole


def test_a_network_that_cannot_be_written_is_left_out_with_its_reason() -> None:
    large = OTHERS[5]

    class Writer(Programmes):
        @override
        def write(self, chain: Chain) -> ChainFile | None:
            if chain == large.chain:
                raise WrongInputError("expected at most 2 GB of weights, got more")
            return super().write(chain)

    device = Device()
    table = _built(_builder(device, writer=Writer()))
    assert large.encoding not in {one.encoding for one in table.networks}
    assert any("at most 2 GB of weights" in note for note in table.notes)
    assert table.missing == ()


def test_a_base_that_cannot_be_written_ends_the_build() -> None:
    class Writer(Programmes):
        @override
        def write(self, chain: Chain) -> ChainFile | None:
            raise WrongInputError("expected at most 2 GB of weights, got more")

    with pytest.raises(BuildFailedError, match="at most 2 GB of weights"):
        list(_builder(Device(), writer=Writer()).run())


def test_blocks_behind_a_level_that_failed_once_are_no_holes() -> None:
    (level, *_) = [one for one in _builder(Device()).plan.levels() if one.kind is LookKind.LEVEL]
    device = Faltering(failing={level.name})
    builder = _builder(device, rule=BuildRule(rounds=0))
    behind = {one.name for one in builder.plan.entries if one.against == level.chain}
    assert behind
    for step in builder.run():
        if step.look.name in behind:
            device.failing.clear()
    table = builder.table()
    assert table is not None
    assert (table.missing, table.notes) == ((), ())
    # For ever: they are left out, and the build ends.
    broken = Faltering(failing={level.name})
    assert set(_built(_builder(broken, rule=BuildRule(rounds=0))).missing) == behind
