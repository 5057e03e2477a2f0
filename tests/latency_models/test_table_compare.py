"""Two tables beside each other, and a table beside what was measured now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.latency_models.table_samples import table

from boardfront.latency_models.table import EntryOrigin
from boardfront.latency_models.table_diff import diff
from boardfront.latency_models.table_verify import verify

if TYPE_CHECKING:
    from boardfront.latency_models.table import Table


def _changed(made: Table, index: int, factor: float) -> Table:
    entries = list(made.entries)
    entry = entries[index]
    entries[index] = replace(
        entry,
        time_s=entry.time_s * factor,
        low_s=entry.low_s * factor,
        high_s=entry.high_s * factor,
    )
    return replace(made, entries=tuple(entries))


def _at_level(factor: float, *, base: float, blocks: float) -> Table:
    """Return the same board's table at another level.

    Args:
        factor: On all times.
        base: How far to either side the base's interval reaches, relative.
        blocks: The same of each block.
    """
    made = table(factor=factor)
    entries = tuple(
        replace(entry, low_s=entry.time_s * (1 - blocks), high_s=entry.time_s * (1 + blocks))
        for entry in made.entries
    )
    return replace(
        made,
        base_low_s=made.base_s * (1 - base),
        base_high_s=made.base_s * (1 + base),
        entries=entries,
    )


def _imported(factor: float) -> Table:
    made = table()
    entries = tuple(
        replace(
            entry,
            time_s=entry.time_s * factor,
            low_s=entry.time_s * factor,
            high_s=entry.time_s * factor,
            origin=EntryOrigin.IMPORTED,
        )
        for entry in made.entries
    )
    return replace(
        made, base="", base_s=1.0, base_low_s=1.0, base_high_s=1.0, entries=entries, networks=()
    )


def test_equal_tables_do_not_differ() -> None:
    found = diff(table(), table())
    assert (found.ratio, found.apart, found.differences) == (1.0, 0, ())
    assert found.spearman == pytest.approx(1.0)
    assert (found.only_a, found.only_b) == ((), ())


def test_the_most_different_block_comes_first() -> None:
    twice = table(factor=2.0)
    other = _changed(twice, 3, 1.5)
    found = diff(table(), replace(other, entries=other.entries[:-1]))
    assert found.ratio == pytest.approx(2.0)
    assert found.blocks[0].block == other.entries[3].block
    assert found.blocks[0].ratio == pytest.approx(3.0)
    assert found.apart == len(other.entries) - 1
    assert found.only_a == (other.entries[-1].block.text,)


def test_a_level_that_may_well_be_the_same_sets_no_block_apart() -> None:
    # The base is known to 5 %, so a level that moved by 3 % says nothing.
    found = diff(_at_level(1.0, base=0.05, blocks=0.01), _at_level(1.03, base=0.05, blocks=0.01))
    assert (found.apart, found.judged) == (0, len(found.blocks))
    assert found.base is not None
    assert found.base.encoding == table().base
    assert found.base.ratio == pytest.approx(1.03)
    # 5 % of each, in quadrature; to first order.
    assert found.base.low == pytest.approx(1.03 * (1 - 0.05 * 2**0.5), rel=0.005)
    assert found.base.high == pytest.approx(1.03 * (1 + 0.05 * 2**0.5), rel=0.005)


def test_a_level_that_is_known_closely_sets_all_blocks_apart() -> None:
    found = diff(_at_level(1.0, base=0.001, blocks=0.01), _at_level(1.03, base=0.001, blocks=0.01))
    assert found.apart == len(found.blocks)


def test_a_block_s_interval_and_the_level_s_are_independent() -> None:
    # Both ends: 3 % and 4 % together are 5 %, so 0.95 x 1.09 is under 1.05, 0.95 x 1.12 over it.
    first = _at_level(1.0, base=0.03, blocks=0.04)
    near = diff(first, _at_level(1.09, base=0.03, blocks=0.04))
    far = diff(first, _at_level(1.12, base=0.03, blocks=0.04))
    assert (near.apart, far.apart) == (0, len(far.blocks))


def test_tables_of_different_bases_have_no_level_to_compare() -> None:
    found = diff(table(), replace(table(), base="bbbb"))
    assert found.base is None
    assert found.differences == ("base: aaaa and bbbb",)


def test_no_verdict_on_what_has_no_interval() -> None:
    found = diff(_imported(1.0), _imported(1.001))
    assert {one.apart for one in found.blocks} == {None}
    assert (found.apart, found.judged, found.base) == (0, 0, None)
    assert found.ratio == pytest.approx(1.001)
    # A measured table beside it does not help.
    beside = diff(table(), _imported(2.0))
    assert beside.judged == 0
    assert "measurement protocol: 2 and not known" in beside.differences


def test_what_the_tables_are_of_is_compared() -> None:
    made = table()
    options = {"noise": "0.002", "fault": "none"}
    other = replace(
        made,
        target=replace(made.target, fingerprint="0" * 16, cpus="4-7", options=options),
    )
    assert diff(made, other).differences == (
        f"fingerprint: {'f' * 16} and {'0' * 16}",
        "option fault: - and none",
        "option noise: 0.001 and 0.002",
        "cpus: 0-1 and 4-7",
    )


def test_a_block_without_a_time_has_no_ratio() -> None:
    made = table()
    entry = replace(made.entries[0], time_s=0.0, low_s=-1e-6)
    other = replace(made, entries=(entry, *made.entries[1:]))
    found = diff(made, other)
    assert found.blocks[0].ratio is None
    assert found.ratio == pytest.approx(1.0)


def test_a_table_holds_that_is_measured_as_it_was() -> None:
    found = verify(table(), table())
    assert found.holds
    assert found.level == 1.0
    assert all(one.agrees for one in found.entries)
    assert found.residual is not None
    assert found.residual.mape == pytest.approx(0.0, abs=1e-9)


def test_another_level_is_told_and_changes_no_block() -> None:
    found = verify(table(), table(factor=1.3))
    assert found.holds
    assert found.level == pytest.approx(1.3)
    assert any("1.30 times as long" in note for note in found.notes)
    for one in found.entries:
        assert one.is_s == pytest.approx(one.was_s)


def test_blocks_that_moved_are_named() -> None:
    now = table()
    for index in range(4):
        now = _changed(now, index, 1.5)
    found = verify(table(), now)
    assert not found.holds
    assert [one.agrees for one in found.entries[:5]] == [False] * 4 + [True]
    (reason,) = found.reasons
    assert f"only {len(now.entries) - 4} of {len(now.entries)} blocks agree" in reason


def test_one_block_in_ten_may_move() -> None:
    assert verify(table(), _changed(table(), 2, 1.5)).holds


def test_whole_networks_that_moved_are_a_reason() -> None:
    found = verify(table(), table(skew=1.2))
    assert not found.holds
    (reason,) = found.reasons
    assert "whole networks are off by 16.7%" in reason
    # Of a table that was no better when it was new, no more is expected.
    assert verify(table(skew=1.2), table(skew=1.2)).residual is not None
    assert verify(table(skew=1.2), table(skew=1.2)).holds


def test_without_whole_networks_the_sums_are_not_checked() -> None:
    found = verify(table(), replace(table(), networks=()))
    assert found.holds
    assert found.residual is None
    assert any("were not checked" in note for note in found.notes)
