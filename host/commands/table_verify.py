"""`boardfront table verify`: does a table still hold on the device?"""

from __future__ import annotations

import json
import math
import secrets
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.commands.table_where import Where, connected, said_options, task_of
from boardfront.latency_models.table import EntryOrigin, Table
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from boardfront.host.chain_writer import TableSpace
    from boardfront.host.progress import RunProgress
    from boardfront.latency_models.table import NetworkTime
    from boardfront.latency_models.table_build import TableBuilder
    from boardfront.latency_models.table_plan import Plan
    from boardfront.latency_models.table_rule import BuildRule, TableTask
    from boardfront.latency_models.table_verify import Verification
    from boardfront.protos.records import DeviceDescription


_GUIDES = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyArguments:
    """What the person asked.

    `where` names no backend, options or cores of its own: they are the table's.
    """

    file: Path
    where: Where
    rule: BuildRule
    share: float = 0.1
    networks: int = 6
    seed: int = 0
    force: bool = False
    as_json: bool = False


def run(arguments: VerifyArguments) -> int:
    """Measure some of a table again; return 0 if it holds, 1 if it does not."""
    from boardfront.host.chain_writer import TableSpace
    from boardfront.host.progress import make_progress
    from boardfront.host.table_features import interpolation_of
    from boardfront.latency_models.table_build import TableBuilder
    from boardfront.latency_models.table_interpolation import with_blocks
    from boardfront.latency_models.table_verify import verify

    old = Table.load(arguments.file)
    if not old.base:
        raise WrongInputError(
            f"{arguments.file}: expected a table that was measured here, got one that was "
            "imported: nothing says what executed it; build one"
        )
    space = TableSpace(old.space, old.space_settings)
    task_of(old.task.kind.value, old.task.batch, space)
    plan = _plan(arguments, old, space)
    progress = make_progress()
    try:
        with connected(arguments.where, f"verify {arguments.file.name}", progress.say) as (
            measurer,
            description,
        ):
            marks = old.check_target(description, force=arguments.force)
            builder = TableBuilder(
                plan, space, measurer, _asked(arguments, old, description), arguments.rule
            )
            _measure(builder, progress)
    except KeyboardInterrupt:
        progress.close()
        sys.stderr.write("boardfront: interrupted; the table is as it was\n")
        return 130
    finally:
        progress.close()
    new = builder.table()
    if new is None or not (new.entries or new.networks):
        raise BoardfrontError(
            f"{arguments.file}: expected blocks and networks to be measured again, got none: "
            f"{'; '.join(builder.failures.values()) or 'nothing was asked for'}"
        )
    networks = [one.decomposition for one in new.networks]
    found = verify(with_blocks(old, networks, interpolation_of(old)), new)
    if arguments.as_json:
        sys.stdout.write(json.dumps(_to_json(found, marks), indent=2) + "\n")
    else:
        _write(found, marks, networks=new.networks)
    return 0 if found.holds else 1


def _plan(arguments: VerifyArguments, old: Table, space: TableSpace) -> Plan:
    """Draw blocks and whole networks that were not there before."""
    import numpy as np

    from boardfront.latency_models.table_plan import Members, Plan

    rng = np.random.default_rng([arguments.seed, int(time.time())])
    measured = [one.block for one in old.entries if one.origin is EntryOrigin.MEASURED]
    count = min(len(measured), max(1, math.ceil(arguments.share * len(measured))))
    drawn = sorted(rng.choice(len(measured), size=count, replace=False).tolist())
    kinds = [measured[index] for index in drawn]
    known = {one.encoding for one in old.networks}
    fresh = space.sample(4 * arguments.networks, rng, without=old.base)
    fresh.sort(key=lambda encoding: encoding in known)
    # Ways to shapes that the base does not have.
    guides = [space.member(one).chain for one in space.sample(_GUIDES, np.random.default_rng(0))]
    chosen = Members(
        base=space.member(old.base),
        held_out=[space.member(encoding) for encoding in fresh[: arguments.networks]],
        repeats=min(2, arguments.networks),
        guides=[one.decomposition.blocks for one in old.networks] + guides,
    )
    return Plan(chosen, kinds, has_call=space.has_call, params_of=space.params)


def _asked(arguments: VerifyArguments, old: Table, description: DeviceDescription) -> TableTask:
    from boardfront.latency_models.table_rule import TableTask

    return TableTask(
        space=old.space,
        space_settings=old.space_settings,
        task=old.task,
        backend=old.target.backend,
        options=said_options(arguments.where, old, description),
        cpus=old.target.cpus,
        start_below_c=arguments.where.start_below_c,
        seed=secrets.token_hex(8),
        built_unix_s=time.time(),
    )


def _measure(builder: TableBuilder, progress: RunProgress) -> None:
    number = -1
    for step in builder.run():
        if step.round_number != number:
            number = step.round_number
            progress.phase("coarse" if number == 0 else "refining", step.total)
        left = text.format_duration(step.left_s)
        progress.step(step.done, f"about {left} of this round left; {step.look.name}: {step.note}")


def _to_json(found: Verification, marks: tuple[str, ...]) -> dict[str, object]:
    from boardfront.latency_models import strict_json

    return {
        "holds": found.holds,
        "forced": list(marks),
        "reasons": list(found.reasons),
        "notes": list(found.notes),
        "level": found.level,
        "residual": strict_json.encode(found.residual),
        "residual_before": strict_json.encode(found.residual_before),
        "entries": [
            {
                "block": one.block.text,
                "was_s": one.was_s,
                "is_s": one.is_s,
                "agrees": one.agrees,
            }
            for one in found.entries
        ],
    }


def _write(
    found: Verification, marks: tuple[str, ...], *, networks: Sequence[NetworkTime]
) -> None:
    from boardfront.host.commands.table_show import residual_lines
    from boardfront.host.table import print_pairs, print_table

    print_table(
        ("block", "was ms", "is ms", "agrees"),
        [
            (
                one.block.text,
                f"{one.was_s * 1e3:.4f}",
                f"{one.is_s * 1e3:.4f}",
                "yes" if one.agrees else "NO",
            )
            for one in found.entries
        ],
        right={"was ms", "is ms"},
    )
    lines = [("level", f"the base takes {found.level:.3f} times what it did")]
    if found.residual is not None:
        lines += residual_lines(found.residual, networks)
    if found.residual_before is not None:
        lines.append(("before", f"MAPE {found.residual_before.mape:.2%}"))
    lines += [("forced", mark) for mark in marks]
    lines += [("note", note) for note in found.notes]
    lines += [("reason", reason) for reason in found.reasons]
    print_pairs(lines)
    sys.stdout.write("the table holds\n" if found.holds else "the table holds no more\n")
