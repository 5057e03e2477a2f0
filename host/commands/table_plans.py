"""Which blocks and networks a build of a table measures."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.table_active import ActiveChooser, ActiveRule, Interpolator
from boardfront.latency_models.table_plan import Members, Plan, WholeNetwork

if TYPE_CHECKING:
    from boardfront.host.chain_writer import TableSpace
    from boardfront.host.commands.table_build import BuildArguments
    from boardfront.latency_models.table import Table

_GUIDES = 500
"""Members whose blocks may lead to where a block fits, for spaces with many shapes."""

_POOL = 100
"""Members whose blocks a table of a space with too many blocks is of."""


def plan_of(arguments: BuildArguments, space: TableSpace, before: Table | None) -> Plan:
    """Return the looks of a build.

    Args:
        arguments: What the person asked.
        space: Whose blocks.
        before: The table that is gone on with, with its base; None: none.
    """
    base = before.base if before is not None else arguments.base
    base = base or space.middle(np.random.default_rng(0))
    space.space.validate(base)
    held_out, calibration = _drawn(arguments, space, base)
    kinds = space.blocks.block_kinds()
    is_large = kinds is None or len(kinds) > arguments.most_blocks
    rng = np.random.default_rng([arguments.seed, 2])
    guides = space.sample(_GUIDES, rng) if kinds is None or len(kinds) > _GUIDES // 5 else []
    chosen = Members(
        base=space.member(base),
        calibration=calibration,
        held_out=held_out,
        repeats=arguments.repeats,
        guides=[space.member(encoding).chain for encoding in guides],
    )
    if is_large:
        return _active_plan(arguments, space, chosen)
    return Plan(chosen, kinds or (), has_call=space.has_call, params_of=space.params)


def _drawn(
    arguments: BuildArguments, space: TableSpace, base: str
) -> tuple[list[WholeNetwork], list[WholeNetwork]]:
    """Return networks to judge by and networks to calibrate on.

    Each kind has a generator of its own: more of one are the same ones and some besides, and a
    build that is gone on with measures those alone. Where the space has few members, the
    held-out ones come first.
    """
    seed, few, many = arguments.seed, arguments.held_out, arguments.calibration
    held_out = space.sample(few, np.random.default_rng([seed, 0]), without=base)
    others = space.sample(few + many, np.random.default_rng([seed, 1]), without=base)
    taken = set(held_out)
    calibration = [encoding for encoding in others if encoding not in taken][:many]
    return [space.member(one) for one in held_out], [space.member(one) for one in calibration]


def _active_plan(arguments: BuildArguments, space: TableSpace, members: Members) -> Plan:
    """Return a plan that measures some of a space's blocks, those that matter and say most.

    Of all its blocks where they can be listed, else of those that sampled networks have. How
    often a block matters is told by networks that the table is not judged by.
    """
    listed = space.blocks.block_kinds()
    calibration = [one.chain for one in members.calibration]
    weights = [members.base.chain, *calibration, *members.guides[:_POOL]]
    # Else the table would not cover what it is judged by.
    covered = [*weights, *(one.chain for one in members.held_out)]
    # What comes first is measured first, before there is anything to choose by. In an order by
    # chance that stays as it is where networks bring more blocks.
    kinds = sorted(
        listed or {block for chain in covered for block in chain},
        key=lambda block: hashlib.sha256(f"{arguments.seed} {block.text}".encode()).digest(),
    )
    rule = ActiveRule(target=arguments.target_error, most=arguments.most_blocks)
    return Plan(
        members,
        kinds,
        has_call=space.has_call,
        params_of=space.params,
        chooser=ActiveChooser(Interpolator(space.sizes), weights, rule),
    )
