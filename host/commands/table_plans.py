"""Which blocks and networks a build of a table measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.table_active import ActiveChooser, ActiveRule, Interpolator
from boardfront.latency_models.table_plan import Members, Plan

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
    rng = np.random.default_rng(arguments.seed)
    base = before.base if before is not None else arguments.base
    base = base or space.middle(np.random.default_rng(0))
    space.space.validate(base)
    whole = space.sample(arguments.calibration + arguments.held_out, rng, without=base)
    members = [space.member(encoding) for encoding in whole]
    kinds = space.blocks.block_kinds()
    is_large = kinds is None or len(kinds) > arguments.most_blocks
    guides = space.sample(_GUIDES, rng) if kinds is None or len(kinds) > _GUIDES // 5 else []
    chosen = Members(
        base=space.member(base),
        # Where the space has few members, the held-out ones come first.
        calibration=members[arguments.held_out :],
        held_out=members[: arguments.held_out],
        repeats=arguments.repeats,
        guides=[space.member(encoding).chain for encoding in guides],
    )
    if is_large:
        return _active_plan(arguments, space, chosen, rng)
    return Plan(chosen, kinds or (), has_call=space.has_call, params_of=space.params)


def _active_plan(
    arguments: BuildArguments, space: TableSpace, members: Members, rng: np.random.Generator
) -> Plan:
    """Return a plan that measures some of a space's blocks, those that matter and say most.

    Of all its blocks where they can be listed, else of those that sampled networks have. How
    often a block matters is told by networks that the table is not judged by.
    """
    listed = space.blocks.block_kinds()
    calibration = [one.chain for one in members.calibration]
    weights = [members.base.chain, *calibration, *members.guides[:_POOL]]
    # Else the table would not cover what it is judged by.
    covered = [*weights, *(one.chain for one in members.held_out)]
    kinds = sorted(listed or {block for chain in covered for block in chain})
    # What comes first is measured first, before there is anything to choose by.
    order = rng.permutation(len(kinds))
    rule = ActiveRule(target=arguments.target_error, most=arguments.most_blocks)
    return Plan(
        members,
        [kinds[index] for index in order],
        has_call=space.has_call,
        params_of=space.params,
        chooser=ActiveChooser(Interpolator(space.sizes), weights, rule),
    )
