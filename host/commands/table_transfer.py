"""`boardfront table transfer`: a new device's table from another's and a few whole networks."""

from __future__ import annotations

import json
import secrets
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.commands.table_build import (
    BuildArguments,
    asked_of,
    check_same,
    how_to_go_on,
    summary,
)
from boardfront.host.commands.table_where import Where, connected, task_of
from boardfront.latency_models.table import Table, target_text
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from boardfront.host.chain_writer import TableSpace
    from boardfront.host.commands.table_file import TableFile
    from boardfront.host.progress import RunProgress
    from boardfront.latency_models.blocks import BlockKey
    from boardfront.latency_models.table_build import TableBuilder
    from boardfront.latency_models.table_plan import Plan, WholeNetwork
    from boardfront.latency_models.table_rule import BuildRule
    from boardfront.latency_models.table_transfer import Source
    from boardfront.protos.records import DeviceDescription, Task

_POOL = 500
"""Members of the space that the networks are chosen from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferArguments:
    """What the person asked. An empty backend or task, or no batch: the source's."""

    source: Path
    where: Where
    output: Path
    rule: BuildRule
    samples: int = 12
    held_out: int = 8
    repeats: int = 3
    seed: int = 0
    task: str = ""
    batch: int | None = None
    overwrite: bool = False
    force: bool = False
    as_json: bool = False


def run(arguments: TransferArguments) -> int:
    """Measure a few whole networks and transfer the rest; return the exit code."""
    from boardfront.host.progress import make_progress
    from boardfront.latency_models.table_build import TableBuilder

    began_s = time.monotonic()
    job = _prepared(arguments)
    progress = make_progress()
    for line in job.remarks:
        progress.say(f"note: {line}")
    try:
        what = f"table {arguments.output.name}"
        seed = secrets.token_hex(8) if job.before is None else job.before.seed
        with connected(job.asked.where, what, progress.say, seed=seed) as (measurer, description):
            _check_device(description, job.asked.where.backend, job.task)
            asked = asked_of(job.asked, job.space, job.before, description, seed=seed)
            for note in asked.notes:
                progress.say(f"note: {note}")
            job.file.check(asked.seed)
            builder = TableBuilder(job.plan, job.space, measurer, asked, arguments.rule)
            _measure(builder, job, progress)
    except KeyboardInterrupt:
        progress.close()
        sys.stderr.write(f"boardfront: interrupted; {how_to_go_on(job.asked)}\n")
        return 130
    finally:
        progress.close()
    _write(builder, job, time.monotonic() - began_s, as_json=arguments.as_json)
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """What is to be done.

    Args:
        asked: The same as a build that measures no blocks.
        task: What is timed.
        source: The other board's table.
        space: Of both.
        kinds: Its blocks, where they can be listed.
        plan: The looks.
        before: The table that is gone on with.
        file: What is written.
        remarks: What a person has to know before.
    """

    asked: BuildArguments
    task: Task
    source: Source
    space: TableSpace
    kinds: Sequence[BlockKey]
    plan: Plan
    before: Table | None
    file: TableFile
    remarks: tuple[str, ...]


def _prepared(arguments: TransferArguments) -> _Job:
    from boardfront.host.commands.table_file import TableFile
    from boardfront.latency_models.table_finalists import seed_in
    from boardfront.latency_models.table_transfer import Source

    table = Table.load(arguments.source)
    space = _space(table, arguments)
    asked = _asked(arguments, table)
    task = task_of(asked.task, asked.batch, space)
    source = Source(table, arguments.source.name, space.sizes)
    before = _before(asked, task, source)
    plan, remarks = _plan(asked, space, source)
    if (task.kind, task.batch) != (table.task.kind, table.task.batch):
        remarks = (
            f"{source.file} is of {source.origin().task}, the new table of {task.kind.value}, "
            f"batch {task.batch}: a source of another task tells less",
            *remarks,
        )
    if before is not None:
        done = len(before.networks)
        remarks = (f"going on with {asked.output}: {done} networks are measured", *remarks)
    return _Job(
        asked=asked,
        task=task,
        source=source,
        space=space,
        kinds=tuple(space.blocks.block_kinds() or ()),
        plan=plan,
        before=before,
        file=TableFile(path=asked.output, replaces=seed_in(asked.output), before=before),
        remarks=remarks,
    )


def _asked(arguments: TransferArguments, table: Table) -> BuildArguments:
    where = arguments.where
    return BuildArguments(
        space=table.space,
        settings=table.space_settings,
        task=arguments.task or table.task.kind.value,
        batch=arguments.batch or table.task.batch,
        where=replace(where, backend=where.backend or table.target.backend),
        output=arguments.output,
        rule=arguments.rule,
        base=table.base,
        calibration=arguments.samples,
        held_out=arguments.held_out,
        repeats=arguments.repeats,
        seed=arguments.seed,
        overwrite=arguments.overwrite,
        force=arguments.force,
    )


def _space(table: Table, arguments: TransferArguments) -> TableSpace:
    """Return the source's space as the catalogue has it now.

    Raises:
        WrongInputError: There is none, or its networks are other ones by now.
    """
    from boardfront.host.chain_writer import TableSpace

    file = arguments.source
    if arguments.output.exists() and arguments.output.samefile(file):
        raise WrongInputError(f"-o {arguments.output}: expected a new file, got the source itself")
    try:
        space = TableSpace(table.space, table.space_settings)
        changed = [
            one.encoding
            for one in table.networks
            if space.blocks.decompose(one.encoding) != one.decomposition
        ]
    except WrongInputError as problem:
        raise WrongInputError(
            f"{file}: expected a table of a space as the catalogue has it: {problem}"
        ) from problem
    if changed:
        raise WrongInputError(
            f"{file}: expected a table of a space as the catalogue has it, got networks that are "
            f"made of other blocks by now, e.g. {changed[0]}: build it anew"
        )
    return space


def _before(asked: BuildArguments, task: Task, source: Source) -> Table | None:
    """Return the table that is gone on with; None where there is none.

    Raises:
        WrongInputError: The file is another table, or damaged.
    """
    path = asked.output
    if not path.parent.is_dir():
        raise WrongInputError(f"{path}: expected a folder {path.parent}: make it, or choose -o")
    if asked.overwrite or not path.exists():
        return None
    table = Table.load(path)
    if table.transfer is None:
        raise WrongInputError(
            f"{path}: expected a transferred table to go on with, got one that was measured: "
            "choose another -o, or replace it by --overwrite"
        )
    if table.transfer.digest != source.table.content_digest:
        raise WrongInputError(
            f"{path}: expected a table transferred from {source.file} as it is now, got one from "
            f"{table.transfer.file} with the digest {table.transfer.digest[:12]}: choose another "
            "-o, or replace it by --overwrite"
        )
    check_same(table, asked, task)
    return table


def _plan(
    asked: BuildArguments, space: TableSpace, source: Source
) -> tuple[Plan, tuple[str, ...]]:
    """Return the networks to measure, and what to say of them."""
    import numpy as np

    from boardfront.latency_models.blocks import Decomposition
    from boardfront.latency_models.table_plan import Members, Plan

    rng = np.random.default_rng(asked.seed)
    base = asked.base or space.middle(np.random.default_rng(0))
    pool, remarks = _pool(asked, space, source, rng, base=base)
    chains = [Decomposition(blocks=one.chain) for one in pool]
    drawn = source.draw(chains, asked.calibration, asked.held_out, rng)
    members = Members(
        base=space.member(base),
        calibration=[pool[index] for index in drawn.samples],
        held_out=[pool[index] for index in drawn.held_out],
        repeats=asked.repeats,
    )
    # What a call costs is part of what is fitted.
    return Plan(members, (), has_call=False), remarks


def _pool(
    asked: BuildArguments,
    space: TableSpace,
    source: Source,
    rng: np.random.Generator,
    *,
    base: str,
) -> tuple[list[WholeNetwork], tuple[str, ...]]:
    """Return networks all of whose blocks the source has."""
    known = set(source.blocks)
    drawn = [space.member(encoding) for encoding in space.sample(_POOL, rng, without=base)]
    pool = [one for one in drawn if known.issuperset(one.chain)]
    if len(pool) == len(drawn):
        return pool, ()
    remark = (
        f"{len(drawn) - len(pool)} of {len(drawn)} networks drawn have blocks that {source.file} "
        "lacks: the new table will not cover them, and is judged on the others"
    )
    if len(pool) < asked.calibration + asked.held_out:
        # Those that it was judged by are covered, where few others are.
        mine = [space.member(one.encoding) for one in source.table.networks]
        taken = {base, *(one.encoding for one in pool)}
        pool += [one for one in mine if one.encoding not in taken and known.issuperset(one.chain)]
    return pool, (remark,)


def _check_device(description: DeviceDescription, backend: str, task: Task) -> None:
    info = description.backend(backend)
    known = [one.name for one in description.backends if one.available]
    if info is None or not info.available:
        why = "none of that name" if info is None else info.reason or "one that cannot run"
        raise WrongInputError(
            f"{description.name}: expected the backend {backend!r}, got {why}: choose one of "
            f"{', '.join(known)} by --backend, or install it there"
        )
    if task.kind not in info.tasks:
        raise WrongInputError(
            f"{description.name}: expected a backend for {task.kind.value}, got {backend!r}, "
            f"which does {', '.join(one.value for one in info.tasks)}: choose another --backend "
            "or --task"
        )


def _measure(builder: TableBuilder, job: _Job, progress: RunProgress) -> None:
    """Measure; the file holds after each look what is known by then."""
    number, total, is_known = -1, 0, False
    for step in builder.run():
        if not step.is_new:
            # Of an earlier part of this transfer.
            is_known = True
            continue
        if number < 0 and not is_known:
            job.file.check_recalled(builder.asked.seed, job.asked.where.store)
        _save(builder, job)
        if step.round_number != number or step.done > total:
            number, total = step.round_number, step.total
            progress.phase("networks" if number == 0 else "closer", total, step.done - 1)
        left = text.format_duration(step.left_s)
        progress.step(step.done, f"about {left} of this round left; {step.look.name}: {step.note}")
    _save(builder, job)


def _save(builder: TableBuilder, job: _Job) -> None:
    """Write what is known by now."""
    from boardfront.latency_models.table_transfer import transferred

    measured = builder.table(closely=False)
    if measured is not None:
        job.file.save(transferred(measured, job.source, job.kinds))


def _write(builder: TableBuilder, job: _Job, took_s: float, *, as_json: bool) -> None:
    """Print what came of it.

    Raises:
        BoardfrontError: Too few networks were measured.
    """
    from boardfront.latency_models import strict_json
    from boardfront.latency_models.table_transfer import FEWEST

    output = job.asked.output
    table = Table.load(output)
    if not table.entries:
        why = "; ".join(builder.failures.values()) or "the budget is used up"
        raise BoardfrontError(
            f"{output}: expected at least {FEWEST} networks to transfer from, got fewer ({why}): "
            f"{how_to_go_on(job.asked)}"
        )
    if as_json:
        content = {
            **summary(table, output),
            "transfer": strict_json.encode(table.transfer),
            "took_s": took_s,
        }
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return
    from boardfront.host.commands.table_show import write_summary

    write_summary(table)
    if builder.is_out_of_time:
        sys.stdout.write(f"the budget is used up: {how_to_go_on(job.asked)}\n")
    sys.stdout.write(
        f"{target_text(table)}: a table of {len(table.entries)} blocks after "
        f"{text.format_duration(took_s)}, in {output}\n"
    )
