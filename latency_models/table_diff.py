"""Two latency tables, block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from boardfront.latency_models.accuracy import spearman
from boardfront.latency_models.table import EntryOrigin

if TYPE_CHECKING:
    from boardfront.latency_models.blocks import BlockKey
    from boardfront.latency_models.table import Table, TableEntry

_NOT_KNOWN = "not known"


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockDiff:
    """One block in both tables.

    Args:
        block: Which.
        a_s: Its time in the first, seconds.
        b_s: Its time in the second, seconds.
        apart: Whether the two intervals, each with its table's level, have nothing in common;
            None where one of the times was imported and has no interval.
    """

    block: BlockKey
    a_s: float
    b_s: float
    apart: bool | None

    @property
    def ratio(self) -> float | None:
        """The second over the first; None where one of them is not above 0."""
        return self.b_s / self.a_s if self.a_s > 0 and self.b_s > 0 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseDiff:
    """The network whose level all times of both tables have.

    Args:
        encoding: Which.
        a_s: Its time in the first, seconds.
        b_s: Its time in the second, seconds.
        low: Of the 95 % interval of the second over the first.
        high: Of that interval.
    """

    encoding: str
    a_s: float
    b_s: float
    low: float
    high: float

    @property
    def ratio(self) -> float:
        """The second over the first."""
        return self.b_s / self.a_s


@dataclass(frozen=True, kw_only=True, slots=True)
class TableDiff:
    """Two tables.

    Args:
        base: The base; None where the tables do not have the same one, or were imported.
        blocks: Those that both have, the most different first.
        only_a: Blocks of the first alone, as text.
        only_b: Blocks of the second alone, as text.
        differences: In what they are tables of, one sentence each.
        ratio: Median of the second over the first; None where no block has one.
        spearman: Rank correlation of the common blocks; None where the ranks do not tell.
    """

    base: BaseDiff | None
    blocks: tuple[BlockDiff, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    differences: tuple[str, ...]
    ratio: float | None
    spearman: float | None

    @property
    def apart(self) -> int:
        """How many blocks have intervals with nothing in common."""
        return sum(one.apart is True for one in self.blocks)

    @property
    def judged(self) -> int:
        """How many blocks have intervals in both tables."""
        return sum(one.apart is not None for one in self.blocks)


def diff(a: Table, b: Table) -> TableDiff:
    """Compare two tables.

    An entry is measured in times of the base, so its interval does not hold how well the base's
    own time is known. Both are independent of each other, and count here as one interval.
    """
    first = {entry.block: entry for entry in a.entries}
    second = {entry.block: entry for entry in b.entries}
    common = [block for block in first if block in second]
    blocks = [_diff((first[block], a), (second[block], b)) for block in common]
    ratios = [one.ratio for one in blocks if one.ratio is not None]
    middle = median(ratios) if ratios else None
    blocks.sort(key=lambda one: -_strangeness(one, middle))
    return TableDiff(
        base=_base(a, b),
        blocks=tuple(blocks),
        only_a=tuple(block.text for block in first if block not in second),
        only_b=tuple(block.text for block in second if block not in first),
        differences=_differences(a, b),
        ratio=middle,
        spearman=spearman([d.a_s for d in blocks], [d.b_s for d in blocks]) if blocks else None,
    )


def _base(a: Table, b: Table) -> BaseDiff | None:
    if not a.base or a.base != b.base:
        return None
    # On a scale of logarithms a quotient's interval is that of a difference.
    below = math.hypot(math.log(b.base_s / b.base_low_s), math.log(a.base_high_s / a.base_s))
    above = math.hypot(math.log(b.base_high_s / b.base_s), math.log(a.base_s / a.base_low_s))
    ratio = b.base_s / a.base_s
    return BaseDiff(
        encoding=a.base,
        a_s=a.base_s,
        b_s=b.base_s,
        low=ratio * math.exp(-below),
        high=ratio * math.exp(above),
    )


def _diff(a: tuple[TableEntry, Table], b: tuple[TableEntry, Table]) -> BlockDiff:
    first, second = a[0], b[0]
    apart: bool | None = None
    if EntryOrigin.IMPORTED not in {first.origin, second.origin}:
        (a_low_s, a_high_s), (b_low_s, b_high_s) = _interval_s(*a), _interval_s(*b)
        apart = a_high_s < b_low_s or b_high_s < a_low_s
    return BlockDiff(block=first.block, a_s=first.time_s, b_s=second.time_s, apart=apart)


def _interval_s(entry: TableEntry, table: Table) -> tuple[float, float]:
    """Return the ends of an entry's 95 % interval, its table's level included, seconds."""
    below = 1 - table.base_low_s / table.base_s
    above = table.base_high_s / table.base_s - 1
    return (
        entry.time_s - math.hypot(entry.time_s - entry.low_s, entry.time_s * below),
        entry.time_s + math.hypot(entry.high_s - entry.time_s, entry.time_s * above),
    )


def _strangeness(one: BlockDiff, middle: float | None) -> float:
    """Return how far a block's ratio is from the others'."""
    if one.ratio is None or middle is None:
        return math.inf
    return abs(math.log(one.ratio / middle))


def _differences(a: Table, b: Table) -> tuple[str, ...]:
    pairs: dict[str, tuple[object, object]] = {
        "space": (a.space, b.space),
        "settings": (dict(a.space_settings), dict(b.space_settings)),
        "task": (a.task.kind.value, b.task.kind.value),
        "batch": (a.task.batch, b.task.batch),
        "resolution": (a.task.resolution, b.task.resolution),
        "fingerprint": (a.target.fingerprint, b.target.fingerprint),
        "backend": (a.target.backend, b.target.backend),
        "backend version": (a.target.backend_version, b.target.backend_version),
        **_options(a, b),
        "cpus": (a.target.cpus, b.target.cpus),
        "measurement protocol": (_protocol(a), _protocol(b)),
        "base": (a.base or _NOT_KNOWN, b.base or _NOT_KNOWN),
    }
    return tuple(f"{name}: {x} and {y}" for name, (x, y) in pairs.items() if x != y)


def _options(a: Table, b: Table) -> dict[str, tuple[object, object]]:
    """Return the values of each option; "-" for none."""
    first, second = a.target.options, b.target.options
    return {
        f"option {name}": (first.get(name) or "-", second.get(name) or "-")
        for name in sorted({*first, *second})
    }


def _protocol(table: Table) -> object:
    """Return by which rules a table was timed; nobody knows that of an imported one."""
    return table.measurement_protocol_version if table.base else _NOT_KNOWN
