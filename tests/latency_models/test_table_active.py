"""Blocks of which few are measured: where, when it is enough, and what is said of the others."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from boardfront.latency_models.blocks import BlockKey
from boardfront.latency_models.table_active import (
    FEWEST,
    ActiveChooser,
    ActiveRule,
    Guess,
    Interpolator,
    learn_from_sums,
)
from boardfront.latency_models.table_looks import Chooser, Filled, Look, LookKind, MeasuredSum
from boardfront.latency_models.table_parts import EntryOrigin, TableEntry
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Verdict

BLOCKS = [
    BlockKey(kind=kind, in_channels=width, out_channels=width, stride=1, resolution=side)
    for kind, width, side in itertools.product("13", (16, 32, 64, 128), (7, 14, 28, 56))
]


def _macs(block: BlockKey) -> tuple[float, ...]:
    kernel = int(block.kind)
    return (float((kernel * block.in_channels * block.resolution) ** 2),)


def _time_s(block: BlockKey) -> float:
    return 5e-6 + 1e-10 * float(_macs(block)[0] ** 0.95)


def _entry(block: BlockKey) -> TableEntry:
    time_s = _time_s(block)
    return TableEntry(
        block=block,
        time_s=time_s,
        low_s=time_s * 0.98,
        high_s=time_s * 1.02,
        verdict=Verdict.OK,
        count=10,
    )


def _look(block: BlockKey) -> Look:
    return Look(kind=LookKind.ENTRY, name=block.text, chain=(block,), against=None, block=block)


def _measured(chooser: ActiveChooser) -> list[TableEntry]:
    waiting = [_look(block) for block in BLOCKS]
    entries: list[TableEntry] = []
    while waiting:
        waiting = chooser.next(waiting, entries)
        if waiting:
            block = waiting.pop(0).block
            assert block is not None
            entries.append(_entry(block))
    return entries


def test_other_blocks_follow_from_measured_ones() -> None:
    made = Interpolator(_macs)
    made.fit([_entry(block) for block in BLOCKS[::2]])
    others = BLOCKS[1::2]
    times, widths = made.predict(others)
    truth = np.array([_time_s(block) for block in others])
    assert np.mean(np.abs(times / truth - 1)) < 0.15
    assert np.mean(np.abs(np.log(times / truth)) <= np.log1p(widths)) >= 0.8
    with pytest.raises(WrongInputError, match=f"at least {FEWEST} measured blocks"):
        made.fit([_entry(block) for block in BLOCKS[: FEWEST - 1]])


def test_what_a_measured_block_may_be_off_is_in_the_unit_of_its_time() -> None:
    rng = np.random.default_rng(0)
    off = rng.normal(0.0, 0.1, len(BLOCKS))

    def told(power: float) -> tuple[np.ndarray, np.ndarray]:
        """Learn times and what they may be off, both raised to a power; tell the logarithms."""
        entries = []
        for block, error in zip(BLOCKS[::2], off, strict=False):
            time_s, half = (_time_s(block) * np.exp(error)) ** power, 0.196 * power
            low_s, high_s = time_s * (1 - half), time_s * (1 + half)
            entries.append(replace(_entry(block), time_s=time_s, low_s=low_s, high_s=high_s))
        made = Interpolator(_macs)
        made.fit(entries)
        times, widths = made.predict(BLOCKS[1::2])
        return np.log(times), np.log1p(widths)

    (logs, widths), (twice, wider) = told(1.0), told(2.0)
    assert twice == pytest.approx(2 * logs, rel=1e-4)
    assert wider == pytest.approx(2 * widths, rel=1e-3)


def test_it_stops_when_it_is_sure_enough() -> None:
    rule = ActiveRule(first=12, batch=4, target=0.3)
    chooser = ActiveChooser(Interpolator(_macs), [tuple(BLOCKS)], rule)
    assert isinstance(chooser, ActiveChooser)
    some: Chooser = chooser
    entries = _measured(chooser)
    assert 12 <= len(entries) < len(BLOCKS)
    left = [block for block in BLOCKS if block not in {entry.block for entry in entries}]
    filled = some.fill(left, entries).entries
    assert [entry.block for entry in filled] == left
    assert {entry.origin for entry in filled} == {EntryOrigin.INTERPOLATED}
    assert {entry.count for entry in filled} == {0}
    off = [abs(entry.time_s / _time_s(entry.block) - 1) for entry in filled]
    assert np.median(off) < 0.3
    # Again the same.
    again = _measured(ActiveChooser(Interpolator(_macs), [tuple(BLOCKS)], rule))
    assert again == entries


def test_it_measures_at_most_so_many() -> None:
    rule = ActiveRule(first=12, batch=4, target=0.0, most=17)
    assert len(_measured(ActiveChooser(Interpolator(_macs), [], rule))) == 17


def test_it_looks_first_where_it_is_least_sure() -> None:
    known = [_entry(block) for block in BLOCKS if block.resolution < 56][:14]
    waiting = [_look(block) for block in BLOCKS if block not in {e.block for e in known}]
    network = replace(waiting[0], kind=LookKind.HELD_OUT, name="network", block=None)
    chooser = ActiveChooser(Interpolator(_macs), [], ActiveRule(first=12, target=0.0))
    ranked = chooser.next([waiting[0], network, *waiting[1:]], known)
    # Whole networks stay where they are.
    assert ranked[1] == network
    assert {look.name for look in ranked} == {look.name for look in [*waiting, network]}
    first = ranked[0].block
    assert first is not None
    assert _time_s(first) == max(_time_s(look.block) for look in waiting if look.block)


def test_few_blocks_tell_nothing_of_others() -> None:
    chooser = ActiveChooser(Interpolator(_macs), [], ActiveRule())
    few = [_entry(block) for block in BLOCKS[:5]]
    assert chooser.fill(BLOCKS[5:], few) == Filled()
    known = [_entry(block) for block in BLOCKS]
    found = chooser.fill(BLOCKS[-4:], known[:-4])
    assert found.error is not None
    assert 0 < found.error < 0.3


def test_a_hasty_answer_is_that_of_a_few_blocks_ago() -> None:
    chooser = ActiveChooser(Interpolator(_macs), [], ActiveRule(batch=1))
    known = [_entry(block) for block in BLOCKS]
    others = BLOCKS[20:]
    first = chooser.fill(others, known[:16], closely=False)
    assert chooser.fill(others, known[:19], closely=False) == first
    assert chooser.fill(others, known[:20], closely=False) != first
    close = chooser.fill(others, known[:19])
    assert close == ActiveChooser(Interpolator(_macs), [], ActiveRule()).fill(others, known[:19])


def test_networks_correct_what_was_guessed() -> None:
    one, other, measured = BLOCKS[:3]
    guess = Guess(
        blocks=(one, other),
        times=np.array([1.0, 1.0]),
        covariance=np.diag([0.2**2, 0.02**2]),
    )
    entry = replace(_entry(measured), time_s=5.0, low_s=5.0, high_s=5.0)
    sums = [
        MeasuredSum(blocks=(one, one, other, measured), time_s=8.4, half_width_s=0.01),
        MeasuredSum(blocks=(one, BLOCKS[3]), time_s=100.0, half_width_s=0.01),
    ]
    times, covariance = learn_from_sums(guess, [entry], sums)
    # The one of which less was known takes nearly all of it; what nobody knows says nothing.
    assert times == pytest.approx([1.2, 1.0], abs=0.03)
    assert 1.0 < times[1] < times[0]
    assert covariance[0, 0] < 0.08**2
    assert covariance[0, 1] < 0
    assert np.linalg.eigvalsh(covariance).min() > 0
    same, _ = learn_from_sums(guess, [entry], ())
    assert same == pytest.approx(guess.times)
    far = replace(sums[0], time_s=1000.0)
    assert learn_from_sums(guess, [entry], [far])[0].max() <= 3.0


def test_interpolated_blocks_are_better_for_networks() -> None:
    known = [_entry(block) for block in BLOCKS if block.resolution < 56][:14]
    left = [block for block in BLOCKS if block not in {entry.block for entry in known}]
    rng = np.random.default_rng(1)
    sums = []
    for _ in range(30):
        blocks = tuple(BLOCKS[index] for index in rng.integers(len(BLOCKS), size=8))
        time_s = sum(_time_s(block) for block in blocks)
        sums.append(MeasuredSum(blocks=blocks, time_s=time_s, half_width_s=0.01 * time_s))

    def off(given: list[MeasuredSum]) -> float:
        chooser = ActiveChooser(Interpolator(_macs), [], ActiveRule())
        entries = chooser.fill(left, known, given).entries
        return float(np.mean([abs(one.time_s / _time_s(one.block) - 1) for one in entries]))

    assert off(sums) < 0.8 * off([])
