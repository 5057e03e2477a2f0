"""`boardfront table build`: measure a space's blocks on a device, and whole networks to judge."""

from __future__ import annotations

import json
import secrets
import shlex
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.commands.table_where import Where, connected, said_options, same_cpus, task_of
from boardfront.latency_models.table import EntryOrigin, Table
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boardfront.host.build_news import NewsFile
    from boardfront.host.chain_writer import TableSpace
    from boardfront.host.commands.table_file import TableFile
    from boardfront.host.progress import RunProgress
    from boardfront.latency_models.table_build import Step, TableBuilder
    from boardfront.latency_models.table_rule import BuildRule, TableTask
    from boardfront.protos.records import DeviceDescription, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildArguments:
    """What the person asked."""

    space: str
    settings: Mapping[str, object]
    task: str
    batch: int
    where: Where
    output: Path
    rule: BuildRule
    base: str = ""
    calibration: int = 12
    held_out: int = 20
    repeats: int = 5
    seed: int = 0
    most_blocks: int = 300
    target_error: float = 0.15
    overwrite: bool = False
    force: bool = False
    as_json: bool = False


def run(arguments: BuildArguments) -> int:
    """Build, or go on with a build; return the exit code."""
    from boardfront.host.build_news import NewsFile
    from boardfront.host.chain_writer import TableSpace
    from boardfront.host.commands.table_file import TableFile
    from boardfront.host.commands.table_plans import plan_of
    from boardfront.latency_models.table_build import TableBuilder
    from boardfront.latency_models.table_finalists import seed_in

    space = TableSpace(arguments.space, arguments.settings)
    before = _before(arguments, space)
    file = TableFile(path=arguments.output, replaces=seed_in(arguments.output), before=before)
    plan = plan_of(arguments, space, before)
    seed = secrets.token_hex(8) if before is None else before.seed
    progress = _progress()
    if before is not None:
        known = sum(entry.origin is EntryOrigin.MEASURED for entry in before.entries)
        progress.say(f"going on with {arguments.output}: {known} blocks are measured")
    try:
        what = f"table {arguments.output.name}"
        with (
            NewsFile(arguments.output, budget_s=arguments.rule.budget_s) as news,
            connected(arguments.where, what, progress.say, seed=seed) as (measurer, description),
        ):
            asked = asked_of(arguments, space, before, description, seed=seed)
            for note in asked.notes:
                progress.say(f"note: {note}")
            file.check(asked.seed)
            builder = TableBuilder(plan, space, measurer, asked, arguments.rule)
            _measure(builder, arguments, progress, _Out(file=file, news=news))
    except KeyboardInterrupt:
        progress.close()
        sys.stderr.write(f"boardfront: interrupted; {how_to_go_on(arguments)}\n")
        return 130
    finally:
        progress.close()
    table = Table.load(arguments.output)
    if arguments.as_json:
        sys.stdout.write(json.dumps(summary(table, arguments.output), indent=2) + "\n")
    else:
        from boardfront.host.commands.table_show import write_summary

        write_summary(table)
        if builder.is_out_of_time:
            sys.stdout.write(f"the budget is used up: {how_to_go_on(arguments)}\n")
        sys.stdout.write(f"table in {arguments.output}\n")
    return 0


def summary(table: Table, path: Path) -> dict[str, object]:
    """Return what a build came to, as JSON, seconds throughout."""
    from boardfront.host.commands.table_show import model_json
    from boardfront.latency_models import strict_json

    return {
        "file": str(path),
        "space": table.space,
        "entries": len(table.entries),
        "missing": list(table.missing),
        "finished": table.is_finished,
        "base": table.base,
        "base_s": table.base_s,
        "fixed_s": table.fixed_s,
        "residual": strict_json.encode(table.residual),
        "calibration": strict_json.encode(table.calibration),
        "model": model_json(table),
        "notes": list(table.notes),
    }


def _before(arguments: BuildArguments, space: TableSpace) -> Table | None:
    """Return the table that is gone on with; None where there is none.

    Raises:
        WrongInputError: The file is another table, or damaged.
    """
    task = task_of(arguments.task, arguments.batch, space)
    path = arguments.output
    if not path.parent.is_dir():
        raise WrongInputError(f"{path}: expected a folder {path.parent}: make it, or choose -o")
    if arguments.overwrite or not path.exists():
        return None
    table = Table.load(path)
    if table.transfer is not None:
        raise WrongInputError(
            f"{path}: expected a table that is measured block by block, got one transferred from "
            f"{table.transfer.file}: choose another -o, replace it by --overwrite, or go on with "
            "`boardfront table transfer`"
        )
    check_same(table, arguments, task)
    return table


def check_same(table: Table, arguments: BuildArguments, task: Task) -> None:
    """Make sure that a table can be gone on with.

    Raises:
        WrongInputError: It is of something else than what is asked for.
    """
    wanted = {
        "space": (table.space, arguments.space),
        "settings": (_plain(table.space_settings), _plain(arguments.settings)),
        "task": (table.task, task),
        "backend": (table.target.backend, arguments.where.backend),
        "cpus": (table.target.cpus, same_cpus(arguments.where.cpus) or table.target.cpus),
        "base": (table.base, arguments.base or table.base),
    }
    for name, value in arguments.where.options.items():
        wanted[f"option {name}"] = (table.target.options.get(name), value)
    for name, (has, asked) in wanted.items():
        if has != asked:
            raise WrongInputError(
                f"{arguments.output}: expected a table to go on with, got one whose {name} is "
                f"{has}, not {asked}: choose another -o, or replace it by --overwrite"
            )


def _begin_anew(
    arguments: BuildArguments, before: Table | None, description: DeviceDescription
) -> tuple[str, ...]:
    """Return why nothing of a table can be gone on with, for its successor's notes; else nothing.

    Raises:
        WrongInputError: The device is not what it was, and nothing is forced.
    """
    changes = before.changes(description) if before is not None else ()
    if changes and not arguments.force:
        raise WrongInputError(
            f"{arguments.output}: expected the target that the table was measured on, got "
            f"another: {'; '.join(changes)}: choose another -o, or measure all of it anew by "
            "--force"
        )
    return tuple(f"measured anew, as the target had changed: {one}" for one in changes)


def asked_of(
    arguments: BuildArguments,
    space: TableSpace,
    before: Table | None,
    description: DeviceDescription,
    *,
    seed: str,
) -> TableTask:
    """Return what a table is of.

    One that is gone on with is of what it was, also where no option says so now or the device's
    default cores have changed.

    Raises:
        WrongInputError: The device is not what it was, and nothing is forced.
    """
    from boardfront.latency_models.table_rule import TableTask

    why_anew = _begin_anew(arguments, before, description)
    kept = None if why_anew else before

    return TableTask(
        space=arguments.space,
        space_settings=arguments.settings,
        task=task_of(arguments.task, arguments.batch, space),
        backend=arguments.where.backend,
        options=said_options(arguments.where, before, description),
        cpus=same_cpus(arguments.where.cpus)
        or (before.target.cpus if before is not None else description.default_cpus),
        start_below_c=arguments.where.start_below_c,
        seed=secrets.token_hex(8) if why_anew else seed,
        built_unix_s=time.time() if kept is None else kept.built_unix_s,
        notes=why_anew,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Out:
    """Where a build tells what it finds."""

    file: TableFile
    news: NewsFile


def _measure(
    builder: TableBuilder, arguments: BuildArguments, progress: RunProgress, out: _Out
) -> None:
    """Measure; the file holds after each look what is known by then."""
    pace = _Pace(blocks=len(builder.plan.entries), news=out.news)
    number, total, is_known = -1, 0, False
    for step in builder.run():
        if not step.is_new:
            # Of an earlier part of this build.
            pace.skip(step)
            if not is_known:
                is_known = True
                progress.phase("known", step.total)
            progress.step(step.done, f"{step.entries} blocks; {step.look.name}")
            continue
        if number < 0 and not is_known:
            out.file.check_recalled(builder.asked.seed, arguments.where.store)
        save(builder, out.file, closely=False)
        is_round = step.round_number != number
        if is_round or step.done > total:
            # Where few of many blocks are measured, what they are compared with adds looks.
            number, total = step.round_number, step.total
            progress.phase("coarse" if number == 0 else "refining", total, step.done - 1)
            if is_round and arguments.rule.budget_s is not None:
                looks = f"{step.total} looks, about {text.format_duration(step.left_s)} more"
                budget = text.format_duration(arguments.rule.budget_s)
                progress.say(f"planned for a budget of {budget}: {looks}")
        progress.step(step.done, pace.words(step))
    save(builder, out.file)
    for block in builder.plan.impossible:
        progress.say(f"note: {block.text}: no sampled network has a place for it")


def save(builder: TableBuilder, file: TableFile, *, closely: bool = True) -> None:
    """Write what is known by now."""
    table = builder.table(closely=closely)
    if table is not None:
        file.save(table)


class _Pace:
    """How fast blocks get their times, told to who waits and to who looks on.

    Args:
        blocks: To be measured in all.
        news: Is told, for who looks on.
    """

    def __init__(self, *, blocks: int, news: NewsFile) -> None:
        self._blocks = blocks
        self._news = news
        self._began_s = time.monotonic()
        self._before = 0

    def skip(self, step: Step) -> None:
        """Leave out what was known before."""
        self._before = step.entries
        self._began_s = time.monotonic()

    def words(self, step: Step) -> str:
        """Say where the build stands, and tell the news."""
        minutes = (time.monotonic() - self._began_s) / 60
        rate = (step.entries - self._before) / minutes if minutes > 0 else 0.0
        left = text.format_duration(step.left_s)
        self._news.tell(
            blocks=self._blocks,
            entries=step.entries,
            before=self._before,
            round_number=step.round_number,
            done=step.done,
            total=step.total,
            left_s=step.left_s,
            note=f"{step.look.name}: {step.note}",
        )
        return (
            f"{step.entries}/{self._blocks} blocks, {rate:.0f}/min, about {left} of this round "
            f"left; {step.look.name}: {step.note}"
        )


def _progress() -> RunProgress:
    from boardfront.host.progress import make_progress

    return make_progress()


def how_to_go_on(arguments: BuildArguments) -> str:
    """Say what the file holds, and with which command the build goes on."""
    if not arguments.output.exists():
        return "nothing was measured yet; call it again"
    words = [word for word in sys.argv[1:] if word not in {"--overwrite", "--debug"}]
    command = shlex.join(["boardfront", *words]) if words[:1] == ["table"] else "the same command"
    return f"{arguments.output} holds what was measured; go on with: {command}"


def _plain(settings: Mapping[str, object]) -> object:
    return json.loads(json.dumps(settings))
