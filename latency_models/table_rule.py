"""What a latency table is built of, how closely, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

from boardfront.latency_models.table_looks import NETWORKS, LookKind
from boardfront.protos.records import Deadlines, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.latency_models.table_looks import Look
    from boardfront.protos.records import Task

_STARTS_S = 2.0
"""Guess of what starting and warming up one network takes, before any was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildRule:
    """How closely and how long is looked.

    Args:
        precision: Asked of a block: half of the interval's width over its time.
        coarse: Of the first round's ratios.
        whole: Of whole networks' ratios.
        alone: Of the base alone.
        refined_min_s: Shortest spread of the windows of a closer look, seconds.
        refined_max_s: Longest device time of a closer look, seconds.
        rounds: Of closer looks, at most.
        together: Networks of one job at most, the one that they are compared with not counted: a
            job of several starts and runs that one once. Each keeps a worker in memory.
        budget_s: Stop after so many seconds; None: when all is done.
        deadlines: How long each phase of a job may take.
    """

    precision: float = 0.05
    coarse: Precision = field(
        default_factory=lambda: Precision(
            relative_half_width=0.02, min_duration_s=0.6, max_duration_s=1.5
        )
    )
    whole: Precision = field(
        default_factory=lambda: Precision(
            relative_half_width=0.01, min_duration_s=1.0, max_duration_s=3.0
        )
    )
    alone: Precision = field(
        default_factory=lambda: Precision(
            relative_half_width=0.01, min_duration_s=2.0, max_duration_s=6.0
        )
    )
    refined_min_s: float = 2.0
    refined_max_s: float = 6.0
    rounds: int = 2
    together: int = 4
    budget_s: float | None = None
    deadlines: Deadlines = field(default_factory=lambda: Deadlines(run_s=120.0))


def quick(rule: BuildRule, duration_s: float) -> BuildRule:
    """Return a rule whose looks are as short as asked: for trying things out.

    Args:
        rule: How closely is looked otherwise.
        duration_s: Shortest spread of the windows of a closer look, seconds.
    """
    factor = duration_s / rule.refined_min_s
    if factor == 1:
        return rule
    return replace(
        rule,
        coarse=replace(
            rule.coarse,
            min_duration_s=rule.coarse.min_duration_s * factor,
            max_duration_s=rule.coarse.max_duration_s * factor,
        ),
        whole=replace(
            rule.whole,
            min_duration_s=rule.whole.min_duration_s * factor,
            max_duration_s=rule.whole.max_duration_s * factor,
        ),
        alone=replace(
            rule.alone,
            min_duration_s=rule.alone.min_duration_s * factor,
            max_duration_s=rule.alone.max_duration_s * factor,
        ),
        refined_min_s=duration_s,
        refined_max_s=rule.refined_max_s * factor,
        deadlines=Deadlines(run_s=max(60.0, 30 * duration_s)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TableTask:
    """What a table is of.

    Args:
        space: Name of the space.
        space_settings: As they were given.
        task: What is timed.
        backend: What executes it.
        options: Of the backend.
        cpus: Cores to run on; empty takes the device's default.
        start_below_c: Wait until the device is no hotter.
        seed: Names the build, so that one that is gone on with meets its own jobs.
        built_unix_s: When the build was begun.
        notes: What a reader of the table has to know.
    """

    space: str
    space_settings: Mapping[str, object]
    task: Task
    backend: str
    options: Mapping[str, str] = field(default_factory=dict)
    cpus: str = ""
    start_below_c: float | None = None
    seed: str
    built_unix_s: float
    notes: tuple[str, ...] = ()


class Costs:
    """How long looks take, learned from those that were made."""

    def __init__(self, rule: BuildRule) -> None:
        self._rule = rule
        self._overheads_s: list[float] = []
        self._overhead_s = _STARTS_S
        self._is_first = True

    def of(self, look: Look) -> float:
        """Return what a look is expected to take, seconds."""
        return self._spans_s(look) + self._overhead_s * self._subjects(look)

    def note(self, look: Look, took_s: float) -> None:
        """Learn from a look, but not from the first: it may have waited for the device."""
        if self._is_first:
            self._is_first = False
            return
        rest_s = max(0.0, took_s - self._spans_s(look))
        self._overheads_s.append(rest_s / self._subjects(look))
        # The median: some meet a busy device.
        self._overhead_s = median(self._overheads_s)

    def _spans_s(self, look: Look) -> float:
        rule = self._rule
        if look.is_refined and look.kind not in NETWORKS:
            return rule.refined_min_s * self._subjects(look)
        shortest = rule.coarse
        if look.kind is LookKind.BASE:
            shortest = rule.alone
        elif look.kind in NETWORKS:
            shortest = rule.whole
        return shortest.min_duration_s * self._subjects(look)

    @staticmethod
    def _subjects(look: Look) -> int:
        return 1 if look.against is None else 2
