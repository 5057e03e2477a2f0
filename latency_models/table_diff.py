"""Two latency tables, block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from boardfront.latency_models.accuracy import spearman

if TYPE_CHECKING:
    from boardfront.latency_models.blocks import BlockKey
    from boardfront.latency_models.table import Table, TableEntry


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockDiff:
    """One block in both tables.

    Args:
        block: Which.
        a_s: Its time in the first, seconds.
        b_s: Its time in the second, seconds.
        apart: Whether the two intervals have nothing in common.
    """

    block: BlockKey
    a_s: float
    b_s: float
    apart: bool

    @property
    def ratio(self) -> float | None:
        """The second over the first; None where one of them is not above 0."""
        return self.b_s / self.a_s if self.a_s > 0 and self.b_s > 0 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class TableDiff:
    """Two tables.

    Args:
        blocks: Those that both have, the most different first.
        only_a: Blocks of the first alone, as text.
        only_b: Blocks of the second alone, as text.
        differences: In what they are tables of, one sentence each.
        ratio: Median of the second over the first; None where no block has one.
        spearman: Rank correlation of the common blocks; None where the ranks do not tell.
    """

    blocks: tuple[BlockDiff, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    differences: tuple[str, ...]
    ratio: float | None
    spearman: float | None

    @property
    def apart(self) -> int:
        """How many blocks have intervals with nothing in common."""
        return sum(one.apart for one in self.blocks)


def diff(a: Table, b: Table) -> TableDiff:
    """Compare two tables."""
    first = {entry.block: entry for entry in a.entries}
    second = {entry.block: entry for entry in b.entries}
    common = [block for block in first if block in second]
    blocks = [_diff(first[block], second[block]) for block in common]
    ratios = [one.ratio for one in blocks if one.ratio is not None]
    middle = median(ratios) if ratios else None
    blocks.sort(key=lambda one: -_strangeness(one, middle))
    return TableDiff(
        blocks=tuple(blocks),
        only_a=tuple(block.text for block in first if block not in second),
        only_b=tuple(block.text for block in second if block not in first),
        differences=_differences(a, b),
        ratio=middle,
        spearman=spearman([d.a_s for d in blocks], [d.b_s for d in blocks]) if blocks else None,
    )


def _diff(a: TableEntry, b: TableEntry) -> BlockDiff:
    return BlockDiff(
        block=a.block,
        a_s=a.time_s,
        b_s=b.time_s,
        apart=a.high_s < b.low_s or b.high_s < a.low_s,
    )


def _strangeness(one: BlockDiff, middle: float | None) -> float:
    """Return how far a block's ratio is from the others'."""
    if one.ratio is None or middle is None:
        return math.inf
    return abs(math.log(one.ratio / middle))


def _differences(a: Table, b: Table) -> tuple[str, ...]:
    pairs = {
        "space": (a.space, b.space),
        "settings": (dict(a.space_settings), dict(b.space_settings)),
        "task": (a.task.kind.value, b.task.kind.value),
        "batch": (a.task.batch, b.task.batch),
        "resolution": (a.task.resolution, b.task.resolution),
        "fingerprint": (a.target.fingerprint, b.target.fingerprint),
        "backend": (a.target.backend, b.target.backend),
        "backend version": (a.target.backend_version, b.target.backend_version),
        "options": (dict(a.target.options), dict(b.target.options)),
        "cpus": (a.target.cpus, b.target.cpus),
        "measurement protocol": (a.measurement_protocol_version, b.measurement_protocol_version),
    }
    return tuple(f"{name}: {x} and {y}" for name, (x, y) in pairs.items() if x != y)
