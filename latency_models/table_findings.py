"""All that a build found so far: levels, blocks, whole networks, and what is still unsure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from boardfront.latency_models.table_answers import Answer, Span, added_by
from boardfront.latency_models.table_chains import CALL
from boardfront.latency_models.table_looks import NETWORKS, LookKind, MeasuredSum
from boardfront.latency_models.table_parts import NetworkRole, NetworkTime, TableEntry
from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boardfront.latency_models.table_chains import Chain
    from boardfront.latency_models.table_looks import Look
    from boardfront.latency_models.table_plan import Plan
    from boardfront.latency_models.table_rule import BuildRule

_WHOLE_WITHIN = 2.0
"""A whole network is looked at again if its interval is so many times as wide as asked."""

_NEGLIGIBLE = 0.0005
"""A block whose interval is this part of the base, to either side, is known closely enough."""


class Findings:
    """The better answer of each look, in times of the base, and what follows from them.

    Args:
        plan: The looks.
        rule: How closely is looked.

    Attributes:
        alone: The base's own times, seconds, by the looks' names.
        answers: Of all else, by the looks' names.
        repeats: Of whole networks that were measured again.
    """

    def __init__(self, plan: Plan, rule: BuildRule) -> None:
        self.alone: dict[str, Answer] = {}
        self.answers: dict[str, Answer] = {}
        self.repeats: dict[str, Answer] = {}
        self._plan = plan
        self._rule = rule
        # Not that of the answers: a build that was gone on with gives the same table.
        self._places = {look.name: place for place, look in enumerate(plan.coarse())}

    def kept_in(self, look: Look) -> dict[str, Answer]:
        """Return where the answer of a look is kept."""
        if look.kind is LookKind.BASE:
            return self.alone
        return self.repeats if look.kind is LookKind.REPEAT else self.answers

    def base_s(self) -> Span:
        """Return the base's time alone: of its looks that are ok the middle one, seconds.

        The interval is that look's, and holds the others' times.
        """
        good = [one for one in self.alone.values() if one.verdict is Verdict.OK]
        looks = sorted(
            (one.ratio for one in good or self.alone.values()), key=lambda look: look.value
        )
        middle = looks[(len(looks) - 1) // 2]
        return Span(
            value=middle.value,
            low=min(middle.low, looks[0].value),
            high=max(middle.high, looks[-1].value),
        )

    def level(self, chain: Chain | None) -> Span | None:
        """Return a chain's time in times of the base."""
        if chain == self._plan.base.chain:
            return Span(value=1.0, low=1.0, high=1.0)
        return next(
            (
                answer.ratio
                for answer in self.answers.values()
                if answer.look.kind in {LookKind.CALL, LookKind.LEVEL}
                and answer.look.chain == chain
            ),
            None,
        )

    def _entry(self, answer: Answer) -> Span | None:
        """Return a block's time in times of the base."""
        if answer.look.is_whole:
            return answer.ratio
        rest = self.level(answer.look.against)
        return None if rest is None else added_by(answer.ratio, rest, answer.look.copies)

    def table_entries(self, base_s: float) -> Iterator[TableEntry]:
        """Yield the measured blocks; the base takes `base_s`."""
        for look in self._plan.entries:
            answer = self.answers.get(look.name)
            span = self._entry(answer) if answer is not None else None
            if answer is None or span is None or look.block is None:
                continue
            yield TableEntry(
                block=look.block,
                time_s=span.value * base_s,
                low_s=span.low * base_s,
                high_s=span.high * base_s,
                verdict=answer.verdict,
                count=answer.count,
                copies=answer.look.copies,
                share=1.0 if answer.look.is_whole else max(0.0, 1 - 1 / answer.ratio.value),
            )

    def network_times(self, base_s: float) -> Iterator[NetworkTime]:
        """Yield the whole networks; the base takes `base_s`."""
        roles = {
            LookKind.CALIBRATION: NetworkRole.CALIBRATION,
            LookKind.HELD_OUT: NetworkRole.HELD_OUT,
        }
        again: dict[str, list[float]] = {}
        for answer in self.repeats.values():
            again.setdefault(answer.look.encoding, []).append(answer.ratio.value * base_s)
        for answer in sorted(self.answers.values(), key=self._place):
            if answer.look.kind in roles:
                yield NetworkTime(
                    encoding=answer.look.encoding,
                    blocks=tuple(block.text for block in answer.look.chain),
                    role=roles[answer.look.kind],
                    time_s=answer.ratio.value * base_s,
                    low_s=answer.ratio.low * base_s,
                    high_s=answer.ratio.high * base_s,
                    verdict=answer.verdict,
                    repeats_s=tuple(again.get(answer.look.encoding, ())),
                )

    def _place(self, answer: Answer) -> int:
        return self._places.get(answer.look.name, len(self._places))

    def filled(
        self, base_s: float, *, closely: bool
    ) -> tuple[tuple[TableEntry, ...], tuple[str, ...]]:
        """Return the measured entries, and where few of many were, those of the others.

        Args:
            base_s: What the base takes.
            closely: The others as they are known now.
        """
        # In times of the base: its own time moves with each look at it, interpolated ones do not.
        relative = tuple(self.table_entries(1.0))
        entries = tuple(_scaled(entry, base_s) for entry in relative)
        chooser = self._plan.chooser
        if chooser is None:
            return entries, ()
        known = {entry.block for entry in entries}
        blocks = [look.block for look in self._plan.entries if look.block is not None]
        blocks += self._plan.impossible
        found = chooser.fill(
            [block for block in blocks if block not in known],
            relative,
            self._sums(),
            closely=closely,
        )
        said = (
            "of unknown error"
            if found.error is None
            else f"{found.error:.1%} off on measured ones left out"
        )
        notes = (f"{len(found.entries)} of {len(blocks)} blocks are interpolated, {said}",)
        filled = tuple(_scaled(entry, base_s) for entry in found.entries)
        return (*entries, *filled), notes if filled else ()

    def _sums(self) -> list[MeasuredSum]:
        """Return the whole networks to learn from, in times of the base."""
        call = self.level(CALL)
        fixed = call.value if call else 0.0
        return [
            MeasuredSum(
                blocks=one.decomposition.blocks,
                time_s=one.time_s - fixed,
                half_width_s=(one.high_s - one.low_s) / 2,
            )
            for one in self.network_times(1.0)
            if one.role is NetworkRole.CALIBRATION
        ]

    def closer_looks(self) -> list[Look]:
        """Return what is not yet known closely enough, the most important first."""
        found = []
        for look in self._plan.entries:
            answer = self.answers.get(look.name)
            entry = self._entry(answer) if answer is not None else None
            if answer is None or entry is None or look.block is None:
                continue
            half = (entry.high - entry.low) / 2
            enough = max(self._rule.precision * abs(entry.value), _NEGLIGIBLE)
            if answer.verdict is Verdict.OK and half <= enough:
                continue
            rest = self.level(answer.look.against)
            over = entry.value / rest.value if rest else answer.ratio.value - 1
            found.append((-half / enough, self._plan.again(look, time_over_rest=over)))
        found.sort(key=lambda item: item[0])
        levels = [replace(look, is_refined=True) for look in self._plan.levels()]
        unsure = [look for look in levels if self._is_unsure(look)]
        return [*unsure, *(look for _, look in found), *self._doubtful_networks()]

    def _doubtful_networks(self) -> list[Look]:
        """Return the whole networks that say little: a table is judged by them."""
        enough = _WHOLE_WITHIN * self._rule.whole.relative_half_width
        return [
            replace(answer.look, is_refined=True)
            for answer in (*self.answers.values(), *self.repeats.values())
            if answer.look.kind in NETWORKS
            and (answer.verdict is not Verdict.OK or answer.relative_half_width > enough)
        ]

    def _is_unsure(self, look: Look) -> bool:
        answer = self.answers.get(look.name)
        if answer is None:
            return True
        half = answer.ratio.half_width
        enough = max(self._rule.precision / 2 * answer.ratio.value, _NEGLIGIBLE)
        return answer.verdict is not Verdict.OK or half > enough


def _scaled(entry: TableEntry, factor: float) -> TableEntry:
    return replace(
        entry,
        time_s=entry.time_s * factor,
        low_s=entry.low_s * factor,
        high_s=entry.high_s * factor,
    )
