"""The plan of a build: which chains, how many copies, how closely, and what a budget allows."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from tests.latency_models.table_samples import (
    HEAD_BLOCK,
    KINDS,
    MEMBERS,
    STEM_BLOCK,
    block,
    chain_s,
    member,
)

from boardfront.latency_models.blocks import HEAD, STEM, BlockKey
from boardfront.latency_models.table_answers import Span, added_by
from boardfront.latency_models.table_chains import (
    CALL,
    MOST_COPIES,
    Chain,
    Ways,
    better_copies,
    closed,
    copies_for,
    insert,
    ratio_precision,
    shortened,
)
from boardfront.latency_models.table_looks import Look, LookKind, fitted, spread
from boardfront.latency_models.table_plan import Members, Plan

BASE = member("abab")


def _plan(*, has_call: bool = True, repeats: int = 2) -> Plan:
    others = [one for one in MEMBERS if one != BASE]
    chosen = Members(base=BASE, calibration=others[:4], held_out=others[4:10], repeats=repeats)
    return Plan(chosen, KINDS, has_call=has_call)


def _fits(chain: Chain) -> bool:
    return all(
        (before.out_channels, before.out_resolution) == (after.in_channels, after.resolution)
        for before, after in itertools.pairwise(chain)
    )


def test_a_block_is_inserted_where_it_fits() -> None:
    key = block("b", 16, 16)
    chain = insert(BASE.chain, key, 3)
    assert chain == (*BASE.chain[:3], key, key, key, *BASE.chain[3:])
    assert _fits(chain)
    assert insert(BASE.chain, replace(key, in_channels=17, out_channels=17), 3) is None


def test_a_chain_is_cut_to_what_leads_somewhere() -> None:
    assert shortened(BASE.chain) == (*BASE.chain[:2], *BASE.chain[3:4], HEAD_BLOCK)
    way = Ways([BASE.chain]).to(block("b", 16, 32))
    assert way == BASE.chain[:2]
    cut = closed(way, HEAD_BLOCK)
    assert _fits(cut)
    assert (cut[-1].kind, cut[-1].out_channels) == (HEAD, 8)
    # A thin head is never a member's own, however few classes that has.
    assert closed(way, replace(HEAD_BLOCK, out_channels=8))[-1].out_channels == 4
    assert Ways([BASE.chain]).to(replace(block("b", 16, 32), resolution=9)) is None


def test_all_chains_fit_together_and_each_block_has_its_difference() -> None:
    plan = _plan()
    assert not plan.impossible
    assert {look.block for look in plan.entries} == set(KINDS)
    for look in plan.entries:
        assert look.block is not None
        assert look.against is not None
        assert _fits(look.chain)
        more = list(look.chain)
        for key in look.against:
            if key.kind != HEAD:
                more.remove(key)
        inner = [key for key in more if key.kind != HEAD]
        expected = [] if look.block.kind == HEAD else [look.block] * look.copies
        assert inner == expected


def test_the_difference_gives_the_block_back() -> None:
    for look in _plan().entries:
        assert look.block is not None
        assert look.against is not None
        ratio = chain_s(look.chain) / chain_s(look.against)
        span = Span(value=ratio, low=ratio, high=ratio)
        rest = chain_s(look.against)
        found = added_by(span, Span(value=rest, low=rest, high=rest), look.copies)
        # A way's head is thin, so a head's own time is what it has more than that.
        alone = chain_s((look.block,)) - chain_s(CALL)
        thin = 3e-6 * 8 if look.block in {HEAD_BLOCK, STEM_BLOCK} else 0.0
        alone += thin if look.block == STEM_BLOCK else -thin
        assert found.value == pytest.approx(alone, rel=1e-9)


def test_the_interval_of_a_difference_holds_both_errors() -> None:
    ratio = Span(value=2.0, low=1.98, high=2.04)
    exact = Span(value=1.0, low=1.0, high=1.0)
    found = added_by(ratio, exact, 4)
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.245, 0.26))
    loose = added_by(ratio, Span(value=1.0, low=0.9, high=1.1), 4)
    assert loose.value == 0.25
    assert loose.low == pytest.approx(0.25 - (0.02**2 + 0.1**2) ** 0.5 / 4)
    assert loose.high == pytest.approx(0.25 + (0.04**2 + 0.1**2) ** 0.5 / 4)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    # A ratio r that is known to e leaves its block at e r / (r - 1).
    [(2.0, 0.02), (1.25, 0.008), (3.0, 0.08 / 3), (1.0001, 0.001), (0.5, 0.04), (50.0, 0.0392)],
)
def test_a_block_s_precision_becomes_the_ratio_s(ratio: float, expected: float) -> None:
    assert ratio_precision(0.04, ratio) == pytest.approx(expected)


def test_copies_take_half_of_the_time() -> None:
    assert [copies_for(share) for share in (2.0, 1.0, 0.5, 0.3, 0.1)] == [1, 1, 2, 4, 10]
    assert copies_for(0.0) == copies_for(-1.0) == copies_for(1e-9) == 64
    # 10 copies of 0.1 are half of it all: they stay; of 0.01 they are not.
    assert better_copies(10, 0.1) == 10
    assert better_copies(10, 0.01) == 64
    assert better_copies(3, 0.1) == 10


def test_a_closer_look_has_the_copies_and_the_ratio_that_it_needs() -> None:
    plan = _plan()
    look = next(one for one in plan.entries if one.block == block("a", 16, 16))
    closer = plan.again(look, time_over_rest=0.02)
    assert closer.copies == 50
    assert closer.chain.count(block("a", 16, 16)) == 50 + BASE.chain.count(block("a", 16, 16))
    assert closer.is_refined
    assert closer.ratio == pytest.approx(2.0)
    widening = next(one for one in plan.entries if one.block == block("b", 8, 16))
    assert plan.again(widening, time_over_rest=0.02).copies == 1


def test_copies_have_no_more_weights_than_the_base() -> None:
    # A block of 16 channels has 100 parameters, one of 32 has 400.
    def params(one: BlockKey) -> float:
        return 400.0 if one.out_channels > 16 else 100.0

    base = sum(params(one) for one in BASE.chain)
    free = {look.block: look for look in _plan().entries}
    bound = {
        look.block: look for look in Plan(Members(base=BASE), KINDS, params_of=params).entries
    }
    stacked = [one for one in KINDS if one.is_stackable]
    assert stacked
    for key in stacked:
        assert bound[key].copies == max(2, min(free[key].copies, int(base / params(key))))
    # Nor does a closer look take more, however little the block takes.
    plan = Plan(Members(base=BASE), KINDS, params_of=params)
    for look in plan.entries:
        if look.block is not None and look.block.is_stackable:
            closer = plan.again(look, time_over_rest=0.001)
            assert closer.copies == max(look.copies, int(base / params(look.block)))
            assert _plan().again(look, time_over_rest=0.001).copies == MOST_COPIES


def test_levels_come_before_what_is_compared_with_them() -> None:
    looks = _plan().coarse()
    assert looks[0].kind is LookKind.BASE
    known = {BASE.chain}
    for look in looks:
        assert look.against is None or look.against in known
        if look.kind in {LookKind.LEVEL, LookKind.CALL}:
            known.add(look.chain)
    assert CALL in known
    names = [look.name for look in looks]
    assert len(set(names)) == len(names)


def test_what_every_network_has_comes_first() -> None:
    plan = _plan()
    blocks = [look.block for look in plan.coarse() if look.block is not None]
    ends = [one for one in blocks if one.kind in {STEM, HEAD}]
    assert blocks[: len(ends)] == ends
    assert {one.kind for one in ends} == {STEM, HEAD}
    assert set(blocks) == set(KINDS)


def test_whole_networks_are_spread_over_the_build() -> None:
    looks = _plan().coarse()
    kinds = [look.kind for look in looks]
    entries = [index for index, kind in enumerate(kinds) if kind is LookKind.ENTRY]
    for kind, count in ((LookKind.CALIBRATION, 4), (LookKind.HELD_OUT, 6), (LookKind.REPEAT, 2)):
        places = [index for index, one in enumerate(kinds) if one is kind]
        assert len(places) == count
    held_out = [index for index, one in enumerate(kinds) if one is LookKind.HELD_OUT]
    middle = (entries[0] + entries[-1]) / 2
    assert min(held_out) < middle < max(held_out)
    calibration = [index for index, one in enumerate(kinds) if one is LookKind.CALIBRATION]
    assert min(calibration) < max(held_out)
    assert min(held_out) < max(calibration)
    # A repeat comes after what it repeats, and not at once.
    repeated = {look.encoding: index for index, look in enumerate(looks) if look.encoding}
    first = {
        look.encoding: index for index, look in enumerate(looks) if look.kind is LookKind.HELD_OUT
    }
    again = [one for one in looks if one.kind is LookKind.REPEAT]
    assert all(repeated[one.encoding] > first[one.encoding] + 1 for one in again)


def test_without_a_call_the_stem_has_all_that_comes_before_the_blocks() -> None:
    plan = _plan(has_call=False)
    (stem,) = [look for look in plan.entries if look.block == STEM_BLOCK]
    assert (stem.is_whole, stem.against) == (True, BASE.chain)
    assert LookKind.CALL not in {look.kind for look in plan.coarse()}
    assert all(look.against != CALL for look in plan.coarse())


def test_a_block_without_a_place_is_told() -> None:
    stray = BlockKey(kind="a", in_channels=99, out_channels=99, stride=1, resolution=7)
    plan = Plan(Members(base=BASE), [*KINDS, stray])
    assert plan.impossible == [stray]
    guided = Plan(
        Members(base=BASE, guides=[(STEM_BLOCK, replace(stray, in_channels=8), HEAD_BLOCK)]),
        [*KINDS, replace(stray, stride=1)],
    )
    # A guide's block leads there.
    assert guided.impossible == []


def _looks(**counts: int) -> list[Look]:
    return [
        Look(kind=LookKind[name], name=f"{name} {index}", chain=BASE.chain, against=BASE.chain)
        for name, count in counts.items()
        for index in range(count)
    ]


def test_a_budget_takes_whole_networks_before_blocks() -> None:
    looks = _looks(ENTRY=10, CALIBRATION=8, HELD_OUT=10, REPEAT=7)

    def kinds(left_s: float) -> dict[LookKind, int]:
        kept = fitted(looks, left_s, lambda _look: 1.0)
        return {kind: sum(look.kind is kind for look in kept) for kind in LookKind}

    assert sum(kinds(100.0).values()) == 35
    some = kinds(30.0)
    assert (some[LookKind.ENTRY], sum(some.values())) == (10, 30)
    assert (some[LookKind.HELD_OUT], some[LookKind.CALIBRATION]) == (8, 6)
    few = kinds(12.0)
    assert (few[LookKind.ENTRY], few[LookKind.HELD_OUT], few[LookKind.REPEAT]) == (10, 2, 0)
    # Blocks are never given up: what the time does not allow, the caller does not begin.
    assert kinds(3.0)[LookKind.ENTRY] == 10
    assert [look.name for look in fitted(looks, 12.0, lambda _look: 1.0)][:10] == [
        look.name for look in looks[:10]
    ]


def test_two_rows_are_mixed_evenly() -> None:
    mixed = spread(_looks(ENTRY=6), _looks(REPEAT=2))
    assert [look.kind is LookKind.REPEAT for look in mixed].count(True) == 2
    assert [look.kind for look in mixed].index(LookKind.REPEAT) in {1, 2}
    assert spread([], _looks(REPEAT=2)) == _looks(REPEAT=2)
