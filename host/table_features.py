"""Sizes of a table's blocks, for the models that learn what the sum of blocks leaves over."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from boardfront.latency_models.table import EntryOrigin
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from boardfront.host.chain_writer import TableSpace
    from boardfront.latency_models.predictors import NetworkFeatures
    from boardfront.latency_models.table import Table
    from boardfront.latency_models.table_interpolation import TableInterpolation

_FEW = 100
"""Blocks of a table whose networks are alike enough for a sum."""

_FROM_OTHERS = frozenset({EntryOrigin.INTERPOLATED, EntryOrigin.TRANSFERRED})

_NAMES = ("multiply-accumulates", "activations", "parameters", "blocks")


def features_of(table: Table) -> NetworkFeatures | None:
    """Return what to learn a residual from; None where there is no use in it.

    Of few blocks, all measured, the sum leaves little over, and comparing the models takes
    seconds. Of a space that is not in the catalogue nobody knows the sizes.
    """
    is_measured = all(entry.origin is not EntryOrigin.INTERPOLATED for entry in table.entries)
    if is_measured and len(table.entries) <= _FEW:
        return None
    from boardfront.latency_models.predictors.base import CountedFeatures

    space = _space(table)
    if space is None or not all(space.sizes(entry.block) for entry in table.entries):
        return None
    sizes = space.sizes
    return CountedFeatures(functools.cache(lambda block: (*sizes(block), 1.0)), _NAMES)


def interpolation_of(table: Table) -> TableInterpolation | None:
    """Return what tells blocks that a table lacks from the others; None where it lacks none.

    That is the table of a space with more blocks than were measured or can be listed, some of its
    own told from others. Where all of few blocks are measured, one that is missing is measured by
    going on.
    """
    from boardfront.latency_models.table_interpolation import TableInterpolation

    space = _space(table)
    if space is None or not any(one.origin in _FROM_OTHERS for one in table.entries):
        return None
    return TableInterpolation(table, space.sizes)


def _space(table: Table) -> TableSpace | None:
    """Return the table's space, or None where the catalogue has it no more."""
    from boardfront.host.chain_writer import TableSpace

    try:
        return TableSpace(table.space, table.space_settings)
    except WrongInputError:
        return None
