"""Which tables' sums something is learned beside, and from which sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from tests.latency_models import table_samples

from boardfront.host.table_features import features_of, interpolation_of
from boardfront.latency_models.table import EntryOrigin
from boardfront.search.spaces import catalog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.latency_models.table import Table

SETTINGS = {"resolution": 8, "classes": 10, "stem_channels": 8, "stages": [[16, 2], [32, 2]]}


def _table(origin: EntryOrigin, settings: Mapping[str, object] = SETTINGS) -> Table:
    space = catalog.load("spos", settings)
    kinds = space.block_kinds()  # type: ignore[attr-defined]
    made = table_samples.table()
    entry = replace(made.entries[0], origin=EntryOrigin.MEASURED)
    entries = [replace(entry, block=kind) for kind in kinds]
    entries[-1] = replace(entries[-1], origin=origin)
    return replace(made, space="spos", space_settings=settings, entries=tuple(entries))


def test_sizes_are_those_of_the_space() -> None:
    table = _table(EntryOrigin.INTERPOLATED)
    features = features_of(table)
    assert features is not None
    space = catalog.load("spos", SETTINGS)
    encoding = space.sample(np.random.default_rng(0))
    counts = space.count(encoding)  # type: ignore[attr-defined]
    (row,) = features.sums([space.decompose(encoding)])  # type: ignore[attr-defined]
    named = dict(zip(features.names, row.tolist(), strict=True))
    assert named["multiply-accumulates"] == counts.macs
    assert named["parameters"] == counts.params


def test_where_nothing_is_interpolated_nothing_is_learned() -> None:
    assert features_of(_table(EntryOrigin.MEASURED)) is None


def test_of_many_blocks_something_is_learned_though_all_were_measured() -> None:
    settings = {**SETTINGS, "stages": [[8 * (2 + index), 1] for index in range(30)]}
    table = _table(EntryOrigin.MEASURED, settings)
    assert len(table.entries) > 100
    features = features_of(table)
    assert features is not None
    assert "parameters" in features.names


def test_of_a_space_that_is_not_here_nobody_knows_the_sizes() -> None:
    table = _table(EntryOrigin.INTERPOLATED)
    assert features_of(replace(table, space="elsewhere")) is None


def test_blocks_are_told_from_others_where_some_of_the_table_are() -> None:
    assert interpolation_of(_table(EntryOrigin.MEASURED)) is None
    told = interpolation_of(_table(EntryOrigin.INTERPOLATED))
    assert told is not None
    other = catalog.load("spos", {**SETTINGS, "stages": [[24, 2]]})
    kinds = other.block_kinds()  # type: ignore[attr-defined]
    assert any(told.covers(kind) for kind in kinds)
