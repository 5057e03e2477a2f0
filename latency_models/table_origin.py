"""Where a table came from that was not measured block by block."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Rival:
    """What a way to know a new board's times is worth on networks that it was not fitted on.

    Args:
        name: Which way.
        mape: Mean of |predicted - measured| / measured.
        within_5: Share of networks whose error is at most 5 %.
        within_10: The same for 10 %.
        bias: Mean of predicted over measured less 1.
        spearman: Rank correlation; None where the ranks do not tell.
    """

    name: str
    mape: float
    within_5: float
    within_10: float
    bias: float
    spearman: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferOrigin:
    """Another board's table, and how its blocks' times became this board's.

    Args:
        file: Name of that table's file, without its folder.
        device_name: That device's name for people.
        target: That table's target in a few words.
        digest: `Table.content_digest` of that table.
        task: What that table's times are of, e.g. "inference, batch 1".
        mape: Of that table's own residual; None where it has none.
        networks: Of the new board, which the transfer was fitted on; 0: too few were measured
            yet, and the table has no entries.
        rivals: On the held-out networks: this transfer first, then simpler ways. Empty where
            none was held out.
    """

    file: str
    device_name: str
    target: str
    digest: str
    task: str
    mape: float | None = None
    networks: int = 0
    rivals: tuple[Rival, ...] = ()
