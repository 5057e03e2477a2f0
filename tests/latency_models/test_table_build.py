"""The build of a table over a scripted device: what is asked, kept, given up and told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.latency_models.scripted_device import (
    BASE,
    Device,
    NoCall,
    Turner,
    builder_of,
    built,
)
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
)

from boardfront.latency_models.base import (
    Measurer,
    TogetherMeasurer,
)
from boardfront.latency_models.table_build import BuildFailedError
from boardfront.latency_models.table_chains import CALL
from boardfront.latency_models.table_looks import LookKind
from boardfront.latency_models.table_rule import BuildRule
from boardfront.protos.records import (
    Verdict,
)


def test_the_device_of_these_tests_is_a_measurer() -> None:
    assert isinstance(Device(), Measurer)


def test_blocks_come_out_as_they_were_programmed() -> None:
    table = built(builder_of(Device()))
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
    table = built(builder_of(Device(drift=1.01)))
    still = built(builder_of(Device()))
    # Seconds are at the level of the base's middle look; between blocks nothing has changed.
    for moved, was in zip(table.entries, still.entries, strict=True):
        assert moved.time_s / table.base_s == pytest.approx(was.time_s / still.base_s, rel=1e-6)
    assert table.residual is not None
    assert table.residual.mape == pytest.approx(0.0, abs=1e-6)
    assert table.base_high_s / table.base_low_s > 1.1


def test_the_base_is_the_reference_of_what_is_inserted_into_it() -> None:
    device = Device()
    writer = Programmes()
    builder = builder_of(device, writer=writer)
    built(builder)
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
    built(builder_of(first))
    built(builder_of(second))
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
    steps = list(builder_of(turner, rule=rule).run())
    list(builder_of(alone, rule=rule).run())
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
        builder = builder_of(device, rule=BuildRule(rounds=0, budget_s=budget_s))
        list(builder.run())
        return [(one.label, one.job_seed) for one in device.asked], len(device.jobs)

    (few, few_jobs), (many, many_jobs) = jobs(60.0), jobs(None)
    assert 0 < few_jobs < many_jobs
    assert set(few) < set(many)


def test_what_is_wide_is_looked_at_again_and_closer() -> None:
    device = Device(half_width=0.03)
    builder = builder_of(device, rule=BuildRule(precision=0.05, rounds=1))
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
    narrow = builder_of(Device(half_width=0.0005), rule=BuildRule(precision=0.05, rounds=2))
    assert {step.round_number for step in narrow.run()} == {0}


def test_of_two_looks_the_better_counts_not_the_faster() -> None:
    device = Device(half_width=0.03, verdict=Verdict.CONTENDED)
    builder = builder_of(device, rule=BuildRule(rounds=1))
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
    table = built(builder_of(Device(broken=frozenset({label}))))
    assert table.missing == (label,)
    assert not table.is_finished
    assert f"{label}: crashed: signal 11" in table.notes
    assert table.residual is not None
    # Networks with that block are no part of the residual.
    assert table.residual.networks < 6


def test_without_the_way_nothing_hangs_on_it() -> None:
    label = "the way to 16 channels @8"
    table = built(builder_of(Device(broken=frozenset({label}))))
    assert set(table.missing) == {block(kind, 16, 32).text for kind in "ab"}


def test_without_the_base_there_is_no_table() -> None:
    builder = builder_of(Device(broken=frozenset({"base, look 1"})))
    with pytest.raises(BuildFailedError, match="expected a time of the base abab, got crashed"):
        list(builder.run())
    assert builder.table() is None


@pytest.mark.parametrize("writer", [NoCall(), Programmes()])
def test_without_a_call_sums_are_the_same(writer: Programmes) -> None:
    table = built(builder_of(Device(broken=frozenset({"call"})), writer=writer))
    assert table.fixed_s == 0.0
    assert not table.missing
    for one in table.networks:
        assert table.predict_s(one.decomposition) == pytest.approx(one.time_s, rel=1e-6)


@pytest.mark.parametrize("budget_s", [30.0, 60.0, 90.0])
def test_a_budget_is_kept(budget_s: float) -> None:
    device = Device(half_width=0.03)
    builder = builder_of(device, rule=BuildRule(budget_s=budget_s))
    table = built(builder)
    assert builder.is_out_of_time
    assert device.now_s <= budget_s + 3.0
    whole = builder_of(Device(half_width=0.03))
    assert device.now_s < 3.0 * len(whole.plan.coarse()) + 3.0
    if budget_s >= 60.0:
        # All blocks come before whole networks.
        assert not table.missing


def test_without_a_budget_nothing_is_given_up() -> None:
    device = Device(half_width=0.0005)
    builder = builder_of(device)
    steps = list(builder.run())
    assert not builder.is_out_of_time
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    assert {step.total for step in steps} == {len(steps)}
    assert steps[-1].left_s == 0.0
    assert steps[-1].entries == len(KINDS)
    # The device takes 3 s a look, of one network or two.
    assert steps[len(steps) // 2].left_s == pytest.approx(1.5 * len(steps), rel=0.25)


def test_a_table_can_be_had_at_any_time() -> None:
    builder = builder_of(Device())
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
