"""Which looks of a build share a job, and which have to wait for another one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from boardfront.latency_models.table_chains import CALL
from boardfront.latency_models.table_looks import NETWORKS, LookKind, groups, may_share

if TYPE_CHECKING:
    from collections.abc import Collection

    from boardfront.latency_models.table_findings import Findings
    from boardfront.latency_models.table_looks import Look
    from boardfront.latency_models.table_plan import Plan

_NEAR = 4
"""Blocks that share a job are among the next ones, so many times as many as there is room for."""


class LookGroups:
    """The jobs of a round. The same answers give the same jobs.

    Args:
        plan: The looks.
        found: Levels that are known by now.
        failures: Names of looks that gave nothing.
        most: Looks of one job.
    """

    def __init__(
        self, plan: Plan, found: Findings, failures: Collection[str], *, most: int
    ) -> None:
        self._plan = plan
        self._found = found
        self._failures = failures
        self._most = most
        self._fixed: dict[str, tuple[Look, ...]] = {}
        self._is_first_round = True

    def begin(self, looks: list[Look], number: int) -> None:
        """Say which round comes: in the first one looks share jobs.

        Which ones follows from the plan alone: a build that is gone on with meets its own jobs,
        also where its budget is another one.
        """
        self._fixed = {}
        self._is_first_round = number == 0
        if not self._is_first_round or self._most == 1:
            return
        # Which of many blocks are measured is known only when their turn comes.
        is_chosen = self._plan.chooser is not None
        fixed = [one for one in looks if one.kind in NETWORKS or not is_chosen]
        self._fixed = {look.name: group for group in groups(fixed, self._most) for look in group}

    def fixed(self, look: Look) -> tuple[Look, ...]:
        """Return the job of a look, as far as the plan alone tells."""
        return self._fixed.get(look.name) or (look,)

    def of(self, one: Look, waiting: list[Look]) -> tuple[Look, ...]:
        """Return the job of a look, or the look that it has to wait for."""
        look = self._possible(one)
        if self._needs_level(look):
            return (self._plan.level(look.against or CALL),)
        return self._fixed.get(look.name) or self._beside(look, waiting)

    def _beside(self, look: Look, waiting: list[Look]) -> tuple[Look, ...]:
        """Return a chosen block with those that were chosen next and share its job."""
        shares = self._is_first_round and may_share(look) and self._plan.chooser is not None
        if not shares or self._most == 1:
            return (look,)
        blocks = [one for one in waiting if one.kind is LookKind.ENTRY]
        near = blocks[: self._most * _NEAR]
        alike = [one for one in near if one.against == look.against and one.name != look.name]
        return (look, *alike[: self._most - 1])

    def _needs_level(self, look: Look) -> bool:
        """Return whether what a look is compared with was not looked at yet."""
        if not look.against or self._found.level(look.against) is not None:
            return False
        return self._plan.level(look.against).name not in self._failures

    def _possible(self, look: Look) -> Look:
        """Return the look, or where a call alone could not be timed a stem's that holds it."""
        if look.against == CALL and self._found.level(CALL) is None:
            return replace(look, against=self._plan.base.chain, is_whole=True, ratio=None)
        return look
