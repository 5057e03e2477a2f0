"""Builds a latency table by measuring: each block in a network, by the difference that it makes.

Everything is told in times of the base while it is built, so that a level of the device which
moves during the build moves nothing; the base's own time in seconds comes last.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boardfront.latency_models.base import (
    RecallingMeasurer,
    ReferenceModel,
    TimeRequest,
    TogetherMeasurer,
)
from boardfront.latency_models.table import (
    Table,
    missing_of,
)
from boardfront.latency_models.table_answers import Span, answer_of, words_of
from boardfront.latency_models.table_chains import CALL, ratio_precision
from boardfront.latency_models.table_findings import Findings
from boardfront.latency_models.table_looks import NETWORKS, LookKind, fitted, groups, may_share
from boardfront.latency_models.table_residual import calibrate, judge_networks
from boardfront.latency_models.table_rule import BuildRule, Costs, TableTask
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import Precision, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from boardfront.latency_models.base import Measurement, Measurer
    from boardfront.latency_models.table_chains import Chain, ChainFile, ChainWriter
    from boardfront.latency_models.table_looks import Look
    from boardfront.latency_models.table_plan import Plan

_NEAR = 4
"""Blocks that share a job are among the next ones, so many times as many as there is room for."""

_RESERVE = 2.0
"""Time that is kept for the blocks which are left, over what they are expected to take."""

_ENOUGH_MISSING = 3
"""Jobs of whole networks in a row that are not known: nor will those behind them be. Writing a
network to look for it takes half a second where it is a training step's; one that is known after
all is taken when its turn comes."""

_FROM_STORE_S = 0.05
"""What was answered so fast was not measured: it says nothing of how long measuring takes."""


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
        self._writer = writer
        self._measurer = measurer
        self._asked = asked
        self._clock = clock
        self._began_s = clock()
        self._costs = Costs(rule)
        self._files: dict[Chain, ChainFile | None] = {}
        self.found = Findings(plan, rule)
        self._first: Measurement | None = None

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
        asked = self._asked
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
            notes=(*notes, *(f"{name}: {why}" for name, why in self.failures.items())),
        )
        table = replace(table, calibration=calibrate(table))
        return replace(table, residual=judge_networks(table))

    def _round(self, number: int, looks: list[Look]) -> Iterator[Step]:
        together = self._together(looks, number)
        waiting = looks
        if self.plan.chooser is None:
            waiting = yield from self._recall(looks, together, number)
        done = len(looks) - len(waiting)
        while waiting:
            if number == 0 and self.plan.chooser is not None:
                waiting = self.plan.chooser.next(waiting, list(self.found.table_entries(1.0)))
            # What does not fit now may do so later: how long looks take is learned on the way.
            fits = self._fitted(waiting)
            if not fits:
                self.is_out_of_time = self.is_out_of_time or bool(waiting)
                return
            look = self._possible(fits[0])
            if self._needs_level(look):
                group: tuple[Look, ...] = (self.plan.level(look.against or CALL),)
            else:
                group = together.get(look.name) or self._beside(look, waiting, number)
                taken = {one.name for one in group}
                waiting = [one for one in waiting if one.name not in taken]
            began_s = self._clock()
            notes = self._take(group, number)
            took_s = (self._clock() - began_s) / len(group)
            is_new = took_s > _FROM_STORE_S
            expected = self._expected(self._fitted(waiting))
            for one, note in zip(group, notes, strict=True):
                if is_new:
                    self._costs.note(one, took_s)
                done += 1
                yield Step(
                    look=one,
                    done=done,
                    total=done + len(expected),
                    round_number=number,
                    entries=self._entries_found(),
                    is_new=is_new,
                    left_s=sum(self._costs.of(later) for later in expected),
                    note=note,
                )

    def _recall(
        self, looks: list[Look], together: dict[str, tuple[Look, ...]], number: int
    ) -> Generator[Step, None, list[Look]]:
        """Take what an earlier part of this build measured; return what is left to be done.

        Before anything is measured, so that no budget is too small to keep what is known.
        """
        if not isinstance(self._measurer, RecallingMeasurer):
            return looks
        left: list[Look] = []
        seen: set[str] = set()
        missing = 0
        for look in looks:
            if look.name in seen:
                continue
            if not self.found.alone and look.kind is not LookKind.BASE:
                # A new build: there is nothing yet that this could be told in.
                return looks
            group = together.get(look.name) or (look,)
            seen.update(one.name for one in group)
            is_network = look.kind in NETWORKS
            if is_network and missing >= _ENOUGH_MISSING:
                left.extend(group)
                continue
            requests = [self._request(one, self._seed(group, number)) for one in group]
            asked = [one for one in requests if one is not None]
            known = self._measurer.recall(asked) if len(asked) == len(group) else None
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

    def _together(self, looks: list[Look], number: int) -> dict[str, tuple[Look, ...]]:
        """Return which looks share a job, by the name of each.

        It follows from the plan alone: a build that is gone on with meets its own jobs, also
        where its budget is another one.
        """
        if number > 0 or not isinstance(self._measurer, TogetherMeasurer):
            return {}
        # Which of many blocks are measured is known only when their turn comes.
        fixed = [one for one in looks if one.kind in NETWORKS or self.plan.chooser is None]
        return {look.name: group for group in groups(fixed, self.rule.together) for look in group}

    def _beside(self, look: Look, waiting: list[Look], number: int) -> tuple[Look, ...]:
        """Return a chosen block with those that were chosen next and share its job.

        The same answers give the same choices and so the same jobs.
        """
        shares = number == 0 and isinstance(self._measurer, TogetherMeasurer) and may_share(look)
        if not shares or self.plan.chooser is None:
            return (look,)
        blocks = [one for one in waiting if one.kind is LookKind.ENTRY]
        near = blocks[: self.rule.together * _NEAR]
        alike = [one for one in near if one.against == look.against and one.name != look.name]
        return (look, *alike[: self.rule.together - 1])

    def _entries_found(self) -> int:
        return sum(one.look.block is not None for one in self.found.answers.values())

    def _fitted(self, waiting: list[Look]) -> list[Look]:
        """Return what the budget still allows, as far as can be told now."""
        if self.rule.budget_s is None:
            return waiting
        left_s = self._began_s + self.rule.budget_s - self._clock()
        # Which of many blocks are measured is not known before: those are ended by the clock.
        is_known = self.plan.chooser is None
        kept = fitted(waiting, left_s, self._costs.of) if is_known else waiting
        if not kept or (self._first is not None and left_s < self._costs.of(kept[0])):
            return []
        if not is_known:
            return kept
        # Where time gets short, what looks take is not known well enough to leave blocks to the
        # end: without one of them the table predicts nothing.
        blocks = [look for look in kept if look.kind not in NETWORKS]
        if left_s > _RESERVE * sum(self._costs.of(look) for look in blocks):
            return kept
        return [*blocks, *(look for look in kept if look.kind in NETWORKS)]

    def _expected(self, waiting: list[Look]) -> list[Look]:
        """Return the looks that will be made, as far as can be told."""
        chooser = self.plan.chooser
        if chooser is None:
            return waiting
        known = self._entries_found()
        entries = [look for look in waiting if look.kind is LookKind.ENTRY]
        others = [look for look in waiting if look.kind is not LookKind.ENTRY]
        return [*others, *entries[: max(0, chooser.most - known)]]

    def _needs_level(self, look: Look) -> bool:
        """Return whether what a look is compared with was not looked at yet."""
        if not look.against or self.found.level(look.against) is not None:
            return False
        return self.plan.level(look.against).name not in self.failures

    def _possible(self, look: Look) -> Look:
        """Return the look, or where a call alone could not be timed a stem's that holds it."""
        if look.against == CALL and self.found.level(CALL) is None:
            return replace(look, against=self.plan.base.chain, is_whole=True, ratio=None)
        return look

    def _take(self, group: tuple[Look, ...], number: int) -> list[str]:
        """Look at what shares a job; return what came of each, in a few words."""
        seed = self._seed(group, number)
        requests = [self._request(look, seed) for look in group]
        asked = [request for request in requests if request is not None]
        if len(asked) > 1 and isinstance(self._measurer, TogetherMeasurer):
            answers = iter(self._measurer.measure_together(asked))
        else:
            answers = self._measurer.measure(asked)
        return [
            "left out: what it is compared with has no time"
            if request is None
            else self._note(look, next(answers))
            for look, request in zip(group, requests, strict=True)
        ]

    def _seed(self, group: tuple[Look, ...], number: int) -> str:
        """Return the name of the job of some looks."""
        return f"{self._asked.seed} {number} {' + '.join(_job_name(look) for look in group)}"

    def _request(self, look: Look, job_seed: str) -> TimeRequest | None:
        """Return what to ask for; None where it cannot be written or compared."""
        file = self._file(look.chain)
        beside = None if look.against is None else self._file(look.against)
        level = Span(value=1.0, low=1.0, high=1.0)
        if look.against is not None:
            known = self.found.level(look.against)
            if known is None or beside is None:
                return None
            level = known
        if file is None:
            return None
        asked = self._asked
        reference = None
        if beside is not None:
            quiet_s = level.value * self.found.base_s().value
            reference = ReferenceModel(
                model=beside.content,
                structure_hash=beside.structure_hash,
                quiet_s=quiet_s,
                label="what it is compared with",
            )
        return TimeRequest(
            model=file.content,
            structure_hash=file.structure_hash,
            task=asked.task,
            backend=asked.backend,
            options=asked.options,
            cpus=asked.cpus,
            precision=self._precision(look),
            deadlines=self.rule.deadlines,
            label=look.name,
            # What others measured is no part of a build: its looks are spread over its time, and
            # a repeat must not be answered by what it repeats. Its own jobs it meets by name.
            fresh=True,
            reference=reference,
            start_below_c=asked.start_below_c,
            job_seed=job_seed,
        )

    def _precision(self, look: Look) -> Precision:
        if look.kind is LookKind.BASE:
            return self.rule.alone
        if look.kind in NETWORKS:
            return self.rule.whole
        if not look.is_refined:
            return self.rule.coarse
        width = self.rule.coarse.relative_half_width / 4
        if look.ratio is not None:
            width = ratio_precision(self.rule.precision, look.ratio)
        return Precision(
            relative_half_width=width,
            min_duration_s=self.rule.refined_min_s,
            max_duration_s=self.rule.refined_max_s,
        )

    def _note(self, look: Look, measurement: Measurement) -> str:
        """Keep what was measured; return it in a few words."""
        result, failure = measurement.result, measurement.failure
        why = "" if failure is None else f"{failure.kind.value}: {failure.message}"
        if result is not None and look.against is not None and result.normalised is None:
            why = "the network that it was compared with failed"
        if result is None or why:
            self.failures[look.name] = why
            if look.kind is LookKind.BASE and not self.found.alone:
                raise BuildFailedError(
                    f"expected a time of the base {look.encoding or self.plan.base.encoding}, "
                    f"got {why}: choose another by --base, or see `boardfront device doctor`"
                )
            return why
        self._first = self._first or measurement
        answer = answer_of(look, result)
        kept = self.found.kept_in(look)
        before = kept.get(look.name)
        if before is None or answer.is_better_than(before):
            kept[look.name] = answer
        self.failures.pop(look.name, None)
        return words_of(answer)

    def _file(self, chain: Chain) -> ChainFile | None:
        if chain not in self._files:
            self._files[chain] = self._writer.write(chain)
        return self._files[chain]


def _job_name(look: Look) -> str:
    return f"{look.kind.value} {look.name}"
