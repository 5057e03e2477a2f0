"""Blocks that a table lacks are told from those that it has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.latency_models import table_samples

from boardfront.latency_models.blocks import HEAD, STEM, BlockKey, Decomposition
from boardfront.latency_models.table import EntryOrigin, Table
from boardfront.latency_models.table_interpolation import TableInterpolation, with_blocks
from boardfront.latency_models.table_models import predictor_of
from boardfront.protos.records import Verdict

SIDES = (4, 8, 16, 32)
WIDTHS = (8, 16, 24, 32, 48)


def _block(width: int, side: int) -> BlockKey:
    return BlockKey(kind="conv", in_channels=width, out_channels=width, stride=1, resolution=side)


def _macs(block: BlockKey) -> float:
    return float(block.in_channels * block.out_channels * block.resolution**2)


def _table(*, measured: int = 14) -> Table:
    """A table of which some blocks are measured, one interpolated, others unknown."""
    made = table_samples.table()
    blocks = [_block(width, side) for width in WIDTHS for side in SIDES]
    chosen = np.random.default_rng(0).permutation(len(blocks))[: measured + 1].tolist()
    entries = []
    for index in chosen:
        time_s = 1e-4 + 1e-8 * _macs(blocks[index])
        one = replace(
            made.entries[0],
            block=blocks[index],
            time_s=time_s,
            low_s=0.98 * time_s,
            high_s=1.02 * time_s,
            verdict=Verdict.OK,
            origin=EntryOrigin.MEASURED,
        )
        entries.append(one)
    entries[-1] = replace(entries[-1], origin=EntryOrigin.INTERPOLATED, count=0)
    return replace(made, entries=tuple(entries), networks=(), calibration=None, residual=None)


def _lacking(table: Table) -> list[BlockKey]:
    known = {entry.block for entry in table.entries}
    blocks = [_block(width, side) for width in WIDTHS for side in SIDES]
    return [block for block in blocks if block not in known]


def _interpolation(table: Table) -> TableInterpolation:
    return TableInterpolation(table, lambda block: (_macs(block),))


def test_a_network_of_unknown_blocks_is_predicted_with_a_wider_interval() -> None:
    table = _table()
    unknown = Decomposition(blocks=tuple(_lacking(table)))
    known = Decomposition(blocks=tuple(entry.block for entry in table.entries))
    model = predictor_of(table, None, _interpolation(table)).model
    found = model.predict([unknown, known])
    truth_s = table.fixed_s + sum(1e-4 + 1e-8 * _macs(block) for block in unknown.blocks)
    assert found.low_s[0] < truth_s < found.high_s[0]
    assert found.median_s[0] == pytest.approx(truth_s, rel=0.2)
    widths = (found.high_s - found.low_s) / found.median_s
    assert widths[0] > widths[1]


def test_a_table_is_completed_for_some_networks() -> None:
    table = _table()
    network = Decomposition(blocks=tuple(_lacking(table)[:3]))
    assert not table.covers(network)
    more = with_blocks(table, [network], _interpolation(table))
    assert more.covers(network)
    added = more.entries[len(table.entries) :]
    assert {one.origin for one in added} == {EntryOrigin.INTERPOLATED}
    assert all(0 < one.low_s < one.time_s < one.high_s for one in added)
    assert with_blocks(table, [network], None) is table


def test_stems_and_heads_and_what_few_blocks_say_are_not_told() -> None:
    table = _table()
    block = _lacking(table)[0]
    told = _interpolation(table)
    assert told.covers(block)
    assert not any(told.covers(replace(block, kind=kind)) for kind in (STEM, HEAD))
    assert not _interpolation(_table(measured=11)).covers(block)
