"""Times of blocks that a table has no entry of, where nobody could measure or list all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.blocks import HEAD, STEM
from boardfront.latency_models.predictors import Prediction
from boardfront.latency_models.table_active import FEWEST, Interpolator, usable
from boardfront.latency_models.table_parts import EntryOrigin, TableEntry
from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from boardfront.latency_models.blocks import BlockKey, Decomposition
    from boardfront.latency_models.table import Table

_KNOWN = frozenset({EntryOrigin.MEASURED, EntryOrigin.TRANSFERRED})


class TableInterpolation:
    """Tells blocks that a table lacks from those that were measured, or transferred.

    As `table_active.Interpolator`, which is fitted when the first block is asked for. What whole
    networks say corrects the table's own interpolated entries only. Stems and heads are like
    nothing else: no table tells one from others.

    Args:
        table: Whose entries are learned from.
        sizes: Of a block, e.g. multiply-accumulates, activations, parameters; 0 or above.
    """

    def __init__(self, table: Table, sizes: Callable[[BlockKey], Sequence[float]]) -> None:
        self._entries = usable([one for one in table.entries if one.origin in _KNOWN])
        self._sizes = sizes
        self._interpolator: Interpolator | None = None

    def covers(self, block: BlockKey) -> bool:
        """Return whether a block's time can be told."""
        return len(self._entries) >= FEWEST and block.kind not in {STEM, HEAD}

    def __call__(self, blocks: Sequence[BlockKey]) -> Prediction:
        """Return the times of blocks that are covered, with 95 % intervals, seconds."""
        if self._interpolator is None:
            self._interpolator = Interpolator(self._sizes)
            self._interpolator.fit(self._entries)
        times_s, widths = self._interpolator.predict(blocks)
        return Prediction(
            median_s=times_s, low_s=times_s / (1 + widths), high_s=times_s * (1 + widths)
        )


def with_blocks(
    table: Table, networks: Iterable[Decomposition], interpolation: TableInterpolation | None
) -> Table:
    """Return a table with interpolated entries for what it lacks of some networks."""
    known = table.times_s.keys()
    lacking = {block for one in networks for block in one.blocks if block not in known}
    blocks = [] if interpolation is None else sorted(filter(interpolation.covers, lacking))
    if interpolation is None or not blocks:
        return table
    found = interpolation(blocks)
    times = np.stack([found.median_s, found.low_s, found.high_s], axis=1).tolist()
    return replace(
        table,
        entries=(
            *table.entries,
            *(
                TableEntry(
                    block=block,
                    time_s=time_s,
                    low_s=low_s,
                    high_s=high_s,
                    verdict=Verdict.OK,
                    count=0,
                    origin=EntryOrigin.INTERPOLATED,
                )
                for block, (time_s, low_s, high_s) in zip(blocks, times, strict=True)
            ),
        ),
    )
