"""How much of a build's time is left, and which looks it is enough for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from boardfront.latency_models.table_looks import NETWORKS, LookKind, fitted
from boardfront.latency_models.table_rule import Costs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.latency_models.table_looks import Look
    from boardfront.latency_models.table_rule import BuildRule

_RESERVE = 2.0
"""Time that is kept for the blocks which are left, over what they are expected to take."""


class Budget:
    """Time of a build. What was measured before takes nothing from it.

    Args:
        rule: How long, and how closely is looked.
        clock: Seconds, monotonic.

    Attributes:
        is_begun: Whether anything was measured: the first look is made however small the budget.
    """

    def __init__(self, rule: BuildRule, clock: Callable[[], float]) -> None:
        self._rule = rule
        self._clock = clock
        self._began_s = clock()
        self._free_s = 0.0
        self._costs = Costs(rule)
        self.is_begun = False

    def free(self, took_s: float) -> None:
        """Leave out time that was spent on what is known."""
        self._free_s += took_s

    def spend(self, looks: Sequence[Look], took_s: float) -> None:
        """Learn from the looks of a job how long looks take."""
        for look in looks:
            self._costs.note(look, took_s / len(looks))

    @property
    def left_s(self) -> float:
        """Seconds; infinite where there is no limit."""
        if self._rule.budget_s is None:
            return math.inf
        return self._began_s + self._rule.budget_s + self._free_s - self._clock()

    def cost_s(self, looks: Sequence[Look]) -> float:
        """Return what looks are expected to take, seconds."""
        return sum(map(self._costs.of, looks))

    def has_room(self, looks: Sequence[Look]) -> bool:
        """Return whether looks can be made in the time that is left."""
        return not self.is_begun or self.cost_s(looks) <= self.left_s

    def fitted(self, waiting: list[Look], *, most_entries: int | None) -> list[Look]:
        """Return what the budget still allows, as far as can be told now.

        Args:
            waiting: In the order of measuring.
            most_entries: Of many blocks few are measured, and which is not known before: those
                are ended by the clock. None: all are.
        """
        left_s = self.left_s
        if math.isinf(left_s):
            return waiting
        is_known = most_entries is None
        kept = fitted(waiting, left_s, self._costs.of) if is_known else waiting
        if not kept or (self.is_begun and left_s < self._costs.of(kept[0])):
            return []
        if not is_known:
            return kept
        # Where time gets short, what looks take is not known well enough to leave blocks to the
        # end: without one of them the table predicts nothing.
        blocks = [look for look in kept if look.kind not in NETWORKS]
        if left_s > _RESERVE * self.cost_s(blocks):
            return kept
        return [*blocks, *(look for look in kept if look.kind in NETWORKS)]

    def expected(self, waiting: list[Look], *, most_entries: int | None) -> list[Look]:
        """Return the looks that will be made, as far as can be told.

        Args:
            waiting: In the order of measuring.
            most_entries: Blocks that are still measured at most; None: all.
        """
        kept = self.fitted(waiting, most_entries=most_entries)
        if most_entries is None:
            return kept
        entries = [look for look in kept if look.kind is LookKind.ENTRY]
        others = [look for look in kept if look.kind is not LookKind.ENTRY]
        return [*others, *entries[: max(0, most_entries)]]
