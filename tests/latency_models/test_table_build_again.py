"""Builds that are gone on with, and what they make of looks that failed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.latency_models.scripted_device import (
    BASE,
    OTHERS,
    Device,
    Remembering,
    builder_of,
    built,
)
from tests.latency_models.table_samples import (
    KINDS,
    Programmes,
)
from typing_extensions import override

from boardfront.latency_models.table_answers import Answer, Span
from boardfront.latency_models.table_build import BuildFailedError, TableBuilder
from boardfront.latency_models.table_looks import Filled, Look, LookKind, MeasuredSum
from boardfront.latency_models.table_plan import Members, Plan
from boardfront.latency_models.table_rule import BuildRule
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import (
    Failure,
    FailureKind,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.latency_models.base import (
        Measurement,
        TimeRequest,
    )
    from boardfront.latency_models.blocks import BlockKey
    from boardfront.latency_models.table import TableEntry
    from boardfront.latency_models.table_chains import Chain, ChainFile


def test_what_is_known_is_kept_however_small_the_budget() -> None:
    first = Remembering()
    whole = built(builder_of(first))
    rule = BuildRule(budget_s=0.001)
    # Some looks at the end of the first round were not made then: the budget has to leave those.
    known = dict(list(first.known.items())[:-3])
    again = Remembering(known=known)
    builder = builder_of(again, rule=rule)
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
    whole = built(builder_of(first))
    known = {name: one for index, (name, one) in enumerate(first.known.items()) if index % 3}
    known |= dict(list(first.known.items())[:1])
    left = len(first.known) - len(known)
    assert left > 5
    again = Remembering(known=known)
    table = built(builder_of(again))
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
    builder = builder_of(device, rule=BuildRule(rounds=0))
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
    first = built(builder_of(device, rule=rule))
    assert first.missing == (KINDS[3].text,)
    assert any("device_lost: disk full" in note for note in first.notes)
    assert [_labels(device).count(label) for label in failing] == [2, 2]
    # Still full: each is tried once more.
    for _ in range(2):
        device.asked.clear()
        assert built(builder_of(device, rule=rule)) == first
        assert sorted(_labels(device)) == sorted(failing)
    device.failing.clear()
    device.asked.clear()
    whole = built(builder_of(device, rule=rule))
    assert sorted(_labels(device)) == sorted(failing)
    assert whole.missing == ()
    assert whole.notes == ()
    device.asked.clear()
    assert built(builder_of(device, rule=rule)) == whole
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
        assert built(builder_of(device)).missing == (KINDS[3].text,)
    assert _labels(device).count(KINDS[3].text) == 1


def test_a_base_that_fails_once_does_not_end_the_build() -> None:
    device = Faltering(failing={"base, look 1"})
    with pytest.raises(BuildFailedError, match="disk full"):
        list(builder_of(device).run())
    assert _labels(device) == ["base, look 1"] * 2
    device.failing.clear()
    assert built(builder_of(device)).missing == ()


def test_a_closer_look_that_fails_is_no_hole() -> None:
    device = Faltering(half_width=0.2)
    builder = builder_of(device, rule=BuildRule(rounds=1))
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
        made = builder_of(device, rule=BuildRule(rounds=0, budget_s=budget_s))
        plan = Plan(chosen, KINDS, chooser=_Fewer())
        return TableBuilder(
            plan, Programmes(), device, made.asked, made.rule, clock=lambda: device.now_s
        )

    class Slow(Remembering):
        """Takes a second to find out what it knows."""

        @override
        def recall(self, requests: Sequence[TimeRequest]) -> tuple[Measurement, ...] | None:
            self.now_s += 1.0
            return super().recall(requests)

    device = Slow()
    whole = built(builder(device, None))
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
    table = built(builder_of(device, writer=Writer()))
    assert large.encoding not in {one.encoding for one in table.networks}
    assert any("at most 2 GB of weights" in note for note in table.notes)
    assert table.missing == ()


def test_a_base_that_cannot_be_written_ends_the_build() -> None:
    class Writer(Programmes):
        @override
        def write(self, chain: Chain) -> ChainFile | None:
            raise WrongInputError("expected at most 2 GB of weights, got more")

    with pytest.raises(BuildFailedError, match="at most 2 GB of weights"):
        list(builder_of(Device(), writer=Writer()).run())


def test_blocks_behind_a_level_that_failed_once_are_no_holes() -> None:
    (level, *_) = [one for one in builder_of(Device()).plan.levels() if one.kind is LookKind.LEVEL]
    device = Faltering(failing={level.name})
    builder = builder_of(device, rule=BuildRule(rounds=0))
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
    assert set(built(builder_of(broken, rule=BuildRule(rounds=0))).missing) == behind
