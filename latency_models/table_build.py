"""Builds a latency table by measuring: each block in a network, by the difference that it makes.

Everything is told in times of the base while it is built, so that a level of the device which
moves during the build moves nothing; the base's own time in seconds comes last.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from boardfront.latency_models.base import RecallingMeasurer, TogetherMeasurer
from boardfront.latency_models.table import Table, missing_of
from boardfront.latency_models.table_answers import Span, answer_of, words_of
from boardfront.latency_models.table_budget import Budget
from boardfront.latency_models.table_chains import CALL
from boardfront.latency_models.table_findings import Findings
from boardfront.latency_models.table_groups import LookGroups
from boardfront.latency_models.table_looks import NETWORKS, LookKind
from boardfront.latency_models.table_requests import LookRequests
from boardfront.latency_models.table_residual import calibrate, judge_networks
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import FailureKind, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from boardfront.latency_models.base import Measurement, Measurer, TimeRequest
    from boardfront.latency_models.table_chains import ChainWriter
    from boardfront.latency_models.table_looks import Look
    from boardfront.latency_models.table_plan import Plan
    from boardfront.latency_models.table_rule import BuildRule, TableTask

_ENOUGH_MISSING = 3
"""Jobs of whole networks in a row that are not known: nor will those behind them be. Writing a
network to look for it takes half a second where it is a training step's; one that is known after
all is taken when its turn comes."""

_PASSING = frozenset(
    {
        FailureKind.TIMEOUT,
        FailureKind.CRASHED,
        FailureKind.OUT_OF_MEMORY,
        FailureKind.UNSTABLE,
        FailureKind.DEVICE_LOST,
    }
)
"""Failures that may not come again: what failed so is looked at once more, alone."""

_MOST_AGAIN = 30
"""Looks of a round that are made again: where more fail, it is no accident."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Where a build stands after a look.

    Args:
        look: What was done last.
        done: Looks of this round.
        total: Looks of this round, of those that the budget allows.
        round_number: 0 is the coarse one.
        entries: Blocks that have a time.
        is_new: Whether it was measured now; what the store answered took no time.
        left_s: What the rest of the round is expected to take, seconds.
        note: What came of it, for people.
    """

    look: Look
    done: int
    total: int
    round_number: int
    entries: int
    is_new: bool
    left_s: float
    note: str


class BuildFailedError(BoardfrontError):
    """The base cannot be measured, so nothing can."""


class TableBuilder:
    """Measures what a plan asks for.

    Every answer is in the measurer's store before it is used, under a job whose name follows from
    the seed and the look: a build that is begun again asks the same and measures nothing twice.

    Args:
        plan: The looks.
        writer: Of the networks.
        measurer: Of the target's device.
        asked: What the table is of.
        rule: How closely is looked.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        plan: Plan,
        writer: ChainWriter,
        measurer: Measurer,
        asked: TableTask,
        rule: BuildRule,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        self.rule = rule
        self.failures: dict[str, str] = {}
        self.is_out_of_time = False
        self._measurer = measurer
        self.asked = asked
        self._clock = clock
        self._budget = Budget(rule, clock)
        self.found = Findings(plan, rule)
        self._requests = LookRequests(writer, asked, rule, self.found)
        most = rule.together if isinstance(measurer, TogetherMeasurer) else 1
        self._groups = LookGroups(plan, self.found, self.failures.keys(), most=most)
        self._first: Measurement | None = None
        self._done = 0
        self._failed: dict[str, Look] = {}
        self._attempts: Counter[tuple[int, str]] = Counter()

    def run(self) -> Iterator[Step]:
        """Look, and tell after each look where it stands; `table` may be asked at any time.

        Raises:
            BuildFailedError: The base cannot be measured.
        """
        yield from self._round(0, self.plan.coarse())
        for number in range(1, self.rule.rounds + 1):
            looks = [] if self.is_out_of_time else self.found.closer_looks()
            if not looks:
                return
            yield from self._round(number, looks)

    def table(self, *, closely: bool = True) -> Table | None:
        """Return the table as it is known by now; None while the base is not.

        Args:
            closely: Interpolate from all that is known, which takes a while.
        """
        first = self._first
        if first is None or not self.found.alone:
            return None
        result = first.outcome
        assert isinstance(result, Result)  # noqa: S101 - failures are not kept
        base = self.found.base_s()
        call = self.found.level(CALL)
        fixed = call or Span(value=0.0, low=0.0, high=0.0)
        entries, notes = self.found.filled(base.value, closely=closely)
        networks = tuple(self.found.network_times(base.value))
        kinds = [look.block for look in self.plan.entries if look.block is not None]
        missing = missing_of((*kinds, *self.plan.impossible), entries)
        asked = self.asked
        table = Table(
            space=asked.space,
            space_settings=asked.space_settings,
            task=asked.task,
            target=result.target,
            origin=result.origin,
            device_id=first.device_id,
            device_name=first.device_name,
            agent_version=first.agent_version,
            built_unix_s=asked.built_unix_s,
            measurement_protocol_version=first.key.measurement_protocol_version,
            base=self.plan.base.encoding,
            base_s=base.value,
            base_low_s=base.low,
            base_high_s=base.high,
            fixed_s=fixed.value * base.value,
            fixed_low_s=fixed.low * base.value,
            fixed_high_s=fixed.high * base.value,
            entries=entries,
            missing=missing,
            networks=networks,
            precision=self.rule.precision,
            seed=asked.seed,
            notes=(
                *asked.notes,
                *notes,
                *(f"{name}: {why}" for name, why in self.failures.items()),
            ),
        )
        table = replace(table, calibration=calibrate(table))
        return replace(table, residual=judge_networks(table))

    def _round(self, number: int, looks: list[Look]) -> Iterator[Step]:
        self._groups.begin(looks, number)
        waiting = looks
        self._failed = {}
        if self.plan.chooser is None:
            waiting = yield from self._recall(looks, number)
        self._done = len(looks) - len(waiting)
        yield from self._looks(waiting, number)
        yield from self._again(list(self._failed.values())[:_MOST_AGAIN], number)

    def _looks(self, waiting: list[Look], number: int) -> Iterator[Step]:
        """Look at what waits, in an order that what is learned on the way may change."""
        while waiting:
            if number == 0 and self.plan.chooser is not None:
                waiting = self.plan.chooser.next(waiting, list(self.found.table_entries(1.0)))
            # What does not fit now may do so later: how long looks take is learned on the way.
            group = self._next_group(waiting, number)
            if not group:
                self.is_out_of_time = self.is_out_of_time or bool(waiting)
                return
            taken = {one.name for one in group}
            waiting = [one for one in waiting if one.name not in taken]
            notes, is_new = self._take(group, number)
            expected = self._budget.expected(waiting, most_entries=self._most_entries)
            for one, note in zip(group, notes, strict=True):
                self._done += 1
                yield self._step(one, number, note, is_new=is_new, expected=expected)
            if group[0].kind is LookKind.BASE and not self.found.alone:
                yield from self._again([one for one in group if one.name in self._failed], number)
                self._check_base(group[0])

    def _next_group(self, waiting: list[Look], number: int) -> tuple[Look, ...]:
        """Return what is looked at next, in one job; nothing where the budget allows no more."""
        for look in self._budget.fitted(waiting, most_entries=self._most_entries):
            group = self._groups.of(look, waiting)
            # Blocks are needed: of these one that fits is enough to begin.
            if look.kind not in NETWORKS or self._budget.has_room(group):
                return group
        if self.plan.chooser is None:
            return ()
        # What is known takes nothing from the budget. All other builds have taken it before.
        groups_next = (self._groups.of(look, waiting) for look in waiting)
        for group in islice(groups_next, _ENOUGH_MISSING):
            if self._is_known(group, number):
                return group
        return ()

    def _again(self, looks: list[Look], number: int) -> Iterator[Step]:
        """Look once more, alone, at what failed as it might not again.

        A build that is gone on with takes what came of that before, and tries anew what failed
        each time: a full disk or a lost device must not leave a hole for ever.
        """
        for place, look in enumerate(looks):
            note, is_new = "", False
            while look.name in self._failed and not is_new:
                self._attempts[number, look.name] += 1
                if not self._budget.has_room([look]) and not self._is_known((look,), number):
                    self.is_out_of_time = True
                    return
                (note,), is_new = self._take((look,), number)
                if self._requests.of(look, "") is None:
                    break
            self._done += 1
            yield self._step(look, number, note, is_new=is_new, expected=looks[place + 1 :])

    def _step(
        self, look: Look, number: int, note: str, *, is_new: bool, expected: list[Look]
    ) -> Step:
        return Step(
            look=look,
            done=self._done,
            total=self._done + len(expected),
            round_number=number,
            entries=self._entries_found(),
            is_new=is_new,
            left_s=self._budget.cost_s(expected),
            note=note,
        )

    def _recall(self, looks: list[Look], number: int) -> Generator[Step, None, list[Look]]:
        """Take what an earlier part of this build measured; return what is left to be done.

        Before anything is measured, so that no budget is too small to keep what is known.
        """
        left: list[Look] = []
        seen: set[str] = set()
        missing = 0
        for look in looks:
            if look.name in seen:
                continue
            if not self.found.alone and look.kind is not LookKind.BASE:
                # A new build: there is nothing yet that this could be told in.
                return looks
            group = self._groups.fixed(look)
            seen.update(one.name for one in group)
            is_network = look.kind in NETWORKS
            if is_network and missing >= _ENOUGH_MISSING:
                left.extend(group)
                continue
            began_s = self._clock()
            asked = [one for one in self._asks(group, number) if one is not None]
            known = self._recalled(asked) if len(asked) == len(group) else None
            self._budget.free(self._clock() - began_s)
            if known is None:
                left.extend(group)
                missing += is_network
                continue
            missing = 0 if is_network else missing
            for one, measurement in zip(group, known, strict=True):
                note = self._note(one, measurement)
                yield Step(
                    look=one,
                    done=len(seen) - len(left),
                    total=len(looks),
                    round_number=number,
                    entries=self._entries_found(),
                    is_new=False,
                    left_s=0.0,
                    note=note,
                )
        order = {look.name: place for place, look in enumerate(looks)}
        return sorted(left, key=lambda look: order[look.name])

    def _entries_found(self) -> int:
        return sum(one.look.block is not None for one in self.found.answers.values())

    def _take(self, group: tuple[Look, ...], number: int) -> tuple[list[str], bool]:
        """Look at what shares a job.

        Returns:
            What came of each, in a few words, and whether it was measured now.
        """
        began_s = self._clock()
        requests = self._asks(group, number)
        asked = [request for request in requests if request is not None]
        known = self._recalled(asked) if asked else ()
        answers: Iterator[Measurement]
        if known is not None:
            answers = iter(known)
        elif len(asked) > 1 and isinstance(self._measurer, TogetherMeasurer):
            answers = iter(self._measurer.measure_together(asked))
        else:
            answers = self._measurer.measure(asked)
        notes = [
            self._left_out(look) if request is None else self._note(look, next(answers))
            for look, request in zip(group, requests, strict=True)
        ]
        took_s = self._clock() - began_s
        if known is None:
            self._budget.spend(group, took_s)
        else:
            self._budget.free(took_s)
        return notes, known is None

    def _asks(self, group: tuple[Look, ...], number: int) -> list[TimeRequest | None]:
        """Return what to ask for of looks that share a job; None where nothing can be."""
        attempt = self._attempts[number, group[0].name] if len(group) == 1 else 0
        seed = self._requests.seed(group, number, attempt)
        return [self._requests.of(look, seed) for look in group]

    def _recalled(self, asked: list[TimeRequest]) -> tuple[Measurement, ...] | None:
        """Return what was answered before, where the measurer can tell."""
        if not isinstance(self._measurer, RecallingMeasurer):
            return None
        return self._measurer.recall(asked)

    def _is_known(self, group: tuple[Look, ...], number: int) -> bool:
        began_s = self._clock()
        asked = [one for one in self._asks(group, number) if one is not None]
        is_known = bool(asked) and self._recalled(asked) is not None
        self._budget.free(self._clock() - began_s)
        return is_known

    @property
    def _most_entries(self) -> int | None:
        """How many more blocks are measured, where it is not all of them."""
        chooser = self.plan.chooser
        return None if chooser is None else max(0, chooser.most - self._entries_found())

    def _note(self, look: Look, measurement: Measurement) -> str:
        """Keep what was measured; return it in a few words."""
        result, failure = measurement.result, measurement.failure
        why = "" if failure is None else f"{failure.kind.value}: {failure.message}"
        if result is not None and look.against is not None and result.normalised is None:
            why = "the network that it was compared with failed"
        kept = self.found.kept_in(look)
        before = kept.get(look.name)
        if result is None or why:
            if before is None:
                self.failures[look.name] = why
                if failure is None or failure.kind in _PASSING:
                    self._failed[look.name] = look
            return why
        self._first = self._first or measurement
        self._budget.is_begun = True
        answer = answer_of(look, result)
        if before is None or answer.is_better_than(before):
            kept[look.name] = answer
        self.failures.pop(look.name, None)
        self._failed.pop(look.name, None)
        return words_of(answer)

    def _left_out(self, look: Look) -> str:
        why = self._requests.why_not(look)
        if look.name not in self.found.kept_in(look):
            self.failures[look.name] = why
            if look.against and self.plan.level(look.against).name in self._failed:
                self._failed[look.name] = look
        return why

    def _check_base(self, look: Look) -> None:
        if not self.found.alone:
            raise BuildFailedError(
                f"expected a time of the base {self.plan.base.encoding}, got "
                f"{self.failures[look.name]}: see `boardfront device doctor`, or build with "
                "another --base"
            )
