"""Sizes of a table's blocks, for the models that learn what the sum of blocks leaves over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.latency_models.table import EntryOrigin
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from boardfront.latency_models.predictors import NetworkFeatures
    from boardfront.latency_models.table import Table

_FEW = 100
"""Blocks of a table whose networks are alike enough for a sum."""

_NAMES = ("multiply-accumulates", "activations", "parameters", "blocks")


def features_of(table: Table) -> NetworkFeatures | None:
    """Return what to learn a residual from; None where there is no use in it.

    Of few blocks, all measured, the sum leaves little over, and comparing the models takes
    seconds. Of a space that is not in the catalogue nobody knows the sizes.
    """
    is_measured = all(entry.origin is not EntryOrigin.INTERPOLATED for entry in table.entries)
    if is_measured and len(table.entries) <= _FEW:
        return None
    from boardfront.host.chain_writer import TableSpace
    from boardfront.latency_models.predictors.base import BlockFeatures

    try:
        space = TableSpace(table.space, table.space_settings)
    except WrongInputError:
        return None
    blocks = [entry.block for entry in table.entries]
    sizes = [space.sizes(block) for block in blocks]
    if not all(sizes):
        return None
    return BlockFeatures(blocks, [(*size, 1.0) for size in sizes], _NAMES)
