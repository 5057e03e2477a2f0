"""Whether a latency table still holds: a share of it measured again, and whole networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.latency_models.table import NetworkRole
from boardfront.latency_models.table_residual import residual_of

if TYPE_CHECKING:
    from boardfront.latency_models.blocks import BlockKey
    from boardfront.latency_models.table import NetworkTime, Residual, Table, TableEntry

_AGREES_WITHIN = 0.10
_AGREEING_SHARE = 0.8
_LEVEL_WITHIN = 0.10
_MAPE_FLOOR = 0.05
_MAPE_FACTOR = 1.5
_NOISE_FACTOR = 2.0
_NEGLIGIBLE = 0.001
"""Of the base: a block that moved by less moved no network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryCheck:
    """A block that was measured again.

    Args:
        block: Which.
        was_s: Its time in the table, seconds.
        is_s: Its time now, at the table's level: divided by how the base's time changed.
        agrees: Whether the two intervals touch, or the times are within 10 %.
    """

    block: BlockKey
    was_s: float
    is_s: float
    agrees: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What measuring again says of a table.

    Args:
        entries: Blocks.
        residual: Of whole networks now, at the table's level; None where none was measured.
        residual_before: As the table has it.
        level: The base's time now over the one in the table.
        reasons: Why the table does not hold any more; empty where it does.
        notes: What else a person should know.
    """

    entries: tuple[EntryCheck, ...]
    residual: Residual | None
    residual_before: Residual | None
    level: float
    reasons: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the table can be used on."""
        return not self.reasons


def verify(old: Table, new: Table) -> Verification:
    """Judge a table by what was measured now.

    Args:
        old: The table.
        new: What was measured now, with the same base: some entries and whole networks.
    """
    level = new.base_s / old.base_s
    by_block = {entry.block: entry for entry in old.entries}
    entries = tuple(
        _check(by_block[entry.block], entry, level, old.base_s)
        for entry in new.entries
        if entry.block in by_block
    )
    residual = _residual(old, new, level)
    reasons, notes = _judge(old, entries, residual)
    if residual is None and new.networks:
        notes.append("the table lacks blocks of all whole networks that were measured")
    elif residual is None:
        notes.append("no whole network was measured: the sums were not checked")
    if old.transfer is not None:
        notes.append(
            f"its blocks come from {old.transfer.file}, none was measured: whole networks are "
            "what it answers for"
        )
    if abs(level - 1) > _LEVEL_WITHIN:
        notes.append(
            f"the base takes {level:.2f} times as long as it did: the blocks are compared at "
            "the table's level, its seconds are off by that factor"
        )
    return Verification(
        entries=entries,
        residual=residual,
        residual_before=old.residual,
        level=level,
        reasons=tuple(reasons),
        notes=tuple(notes),
    )


def _check(was: TableEntry, found: TableEntry, level: float, base_s: float) -> EntryCheck:
    is_s, low_s, high_s = found.time_s / level, found.low_s / level, found.high_s / level
    allowed_s = max(_AGREES_WITHIN * abs(was.time_s), _NEGLIGIBLE * base_s)
    touch = low_s <= was.high_s and was.low_s <= high_s
    return EntryCheck(
        block=was.block,
        was_s=was.time_s,
        is_s=is_s,
        agrees=touch or abs(is_s - was.time_s) <= allowed_s,
    )


def _residual(old: Table, new: Table, level: float) -> Residual | None:
    networks: list[NetworkTime] = [
        one
        for one in new.networks
        if one.role is NetworkRole.HELD_OUT and old.covers(one.decomposition)
    ]
    if not networks:
        return None
    decompositions = [one.decomposition for one in networks]
    return residual_of(
        networks,
        [old.predict_s(one) * level for one in decompositions],
        [one.time_s for one in networks],
        [old.sum_s(one) * level for one in decompositions],
    )


def _judge(
    old: Table, entries: tuple[EntryCheck, ...], residual: Residual | None
) -> tuple[list[str], list[str]]:
    reasons: list[str] = []
    notes: list[str] = []
    agreeing = sum(one.agrees for one in entries)
    if entries and agreeing < _AGREEING_SHARE * len(entries):
        reasons.append(
            f"only {agreeing} of {len(entries)} blocks agree with the table: expected "
            f"{_AGREEING_SHARE:.0%}"
        )
    if residual is None:
        return reasons, notes
    allowed = max(
        _MAPE_FLOOR,
        _MAPE_FACTOR * old.residual.mape if old.residual else 0.0,
        _NOISE_FACTOR * residual.noise_floor if residual.noise_floor is not None else 0.0,
    )
    if residual.mape > allowed:
        reasons.append(
            f"whole networks are off by {residual.mape:.1%} on average: expected at most "
            f"{allowed:.1%}"
        )
    return reasons, notes
