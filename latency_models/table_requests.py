"""What a build asks of a device for its looks, and under which names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.latency_models.base import ReferenceModel, TimeRequest
from boardfront.latency_models.table_answers import Span
from boardfront.latency_models.table_chains import ratio_precision
from boardfront.latency_models.table_looks import NETWORKS, LookKind
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Precision

if TYPE_CHECKING:
    from boardfront.latency_models.table_chains import Chain, ChainFile, ChainWriter
    from boardfront.latency_models.table_findings import Findings
    from boardfront.latency_models.table_looks import Look
    from boardfront.latency_models.table_rule import BuildRule, TableTask


class LookRequests:
    """Turns looks into requests. The same looks make the same requests, of the same jobs.

    Args:
        writer: Of the networks.
        asked: What the table is of.
        rule: How closely is looked.
        found: Levels that are known by now.
    """

    def __init__(
        self, writer: ChainWriter, asked: TableTask, rule: BuildRule, found: Findings
    ) -> None:
        self._writer = writer
        self._asked = asked
        self._rule = rule
        self._found = found
        self._files: dict[Chain, ChainFile | None] = {}
        self._problems: dict[Chain, str] = {}

    def seed(self, group: tuple[Look, ...], number: int, attempt: int = 0) -> str:
        """Return the name of the job of some looks.

        Args:
            group: That share it.
            number: Of the round.
            attempt: 0 is the first one.
        """
        names = " + ".join(f"{look.kind.value} {look.name}" for look in group)
        return f"{self._asked.seed} {number} {names}" + (f" again {attempt}" if attempt else "")

    def of(self, look: Look, job_seed: str) -> TimeRequest | None:
        """Return what to ask for; None where it cannot be written or compared."""
        file = self._file(look.chain)
        beside = None if look.against is None else self._file(look.against)
        level = Span(value=1.0, low=1.0, high=1.0)
        if look.against is not None:
            known = self._found.level(look.against)
            if known is None or beside is None:
                return None
            level = known
        if file is None:
            return None
        asked = self._asked
        reference = None
        if beside is not None:
            quiet_s = level.value * self._found.base_s().value
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
            deadlines=self._rule.deadlines,
            label=look.name,
            # What others measured is no part of a build: its looks are spread over its time, and
            # a repeat must not be answered by what it repeats. Its own jobs it meets by name.
            fresh=True,
            reference=reference,
            start_below_c=asked.start_below_c,
            job_seed=job_seed,
        )

    def why_not(self, look: Look) -> str:
        """Return why `of` gave nothing."""
        problem = self._problems.get(look.chain) or self._problems.get(look.against or ())
        return f"left out: {problem or 'what it is compared with has no time'}"

    def _precision(self, look: Look) -> Precision:
        rule = self._rule
        if look.kind is LookKind.BASE:
            return rule.alone
        if look.kind in NETWORKS:
            return rule.whole
        if not look.is_refined:
            return rule.coarse
        width = rule.coarse.relative_half_width / 4
        if look.ratio is not None:
            width = ratio_precision(rule.precision, look.ratio)
        return Precision(
            relative_half_width=width,
            min_duration_s=rule.refined_min_s,
            max_duration_s=rule.refined_max_s,
        )

    def _file(self, chain: Chain) -> ChainFile | None:
        if chain not in self._files:
            try:
                self._files[chain] = self._writer.write(chain)
            except WrongInputError as problem:
                # A member with more weights than a file may hold must not end the build.
                self._files[chain] = None
                self._problems[chain] = str(problem)
        return self._files[chain]
