"""Tables of boards that are nowhere, to transfer from and to judge by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from boardfront.host.chain_writer import TableSpace
from boardfront.latency_models.table import NetworkRole, NetworkTime, Table, TableEntry
from boardfront.protos.records import Origin, Target, Task, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.latency_models.table_chains import Chain

# Two places with four choices each.
SETTINGS: Mapping[str, object] = {
    "resolution": 8,
    "classes": 10,
    "in_channels": 1,
    "stem_channels": 8,
    "stem_stride": 1,
    "stages": [[16, 2]],
    "last_channels": 32,
}
# Four places, 256 networks.
DEEPER: Mapping[str, object] = {**SETTINGS, "stages": [[16, 2], [32, 2]]}


def other_board(settings: Mapping[str, object] = SETTINGS) -> Table:
    """Return a whole table of another board: its blocks cost something, and by their weights."""
    space = TableSpace("spos", settings)
    times_s = {
        block: (8e-6 if block.kind == "x" else 4e-6) + 1e-9 * space.sizes(block)[2]
        for block in space.blocks.block_kinds() or ()
    }
    members = [space.member(one) for one in space.sample(31, np.random.default_rng(5))]

    def time_s(chain: Chain) -> float:
        return 2e-5 + sum(times_s[block] for block in chain)

    return Table(
        space="spos",
        space_settings=settings,
        task=Task(batch=1, resolution=8, classes=10),
        target=Target(fingerprint="0" * 16, backend="fake", backend_version="0", options={}),
        origin=Origin.PROGRAMMED,
        device_id="0" * 16,
        device_name="old board",
        agent_version="0",
        built_unix_s=1_700_000_000.0,
        measurement_protocol_version=2,
        base=members[0].encoding,
        base_s=time_s(members[0].chain),
        base_low_s=time_s(members[0].chain),
        base_high_s=time_s(members[0].chain),
        fixed_s=2e-5,
        fixed_low_s=2e-5,
        fixed_high_s=2e-5,
        entries=tuple(
            TableEntry(
                block=block,
                time_s=time_s,
                low_s=0.98 * time_s,
                high_s=1.02 * time_s,
                verdict=Verdict.OK,
                count=100,
            )
            for block, time_s in times_s.items()
        ),
        networks=tuple(
            NetworkTime(
                encoding=one.encoding,
                blocks=tuple(block.text for block in one.chain),
                role=NetworkRole.HELD_OUT,
                time_s=time_s(one.chain),
                low_s=0.99 * time_s(one.chain),
                high_s=1.01 * time_s(one.chain),
                verdict=Verdict.OK,
            )
            for one in members[1:]
        ),
    )


def slower(table: Table) -> Table:
    """Return the same networks' table on a board where blocks without a big kernel take longer."""
    times_s = {
        entry.block.text: entry.time_s * (2.4 if entry.block.kind in {"3", "x"} else 2.0)
        for entry in table.entries
    }
    return replace(
        table,
        fixed_s=2 * table.fixed_s,
        entries=tuple(
            replace(
                entry,
                time_s=times_s[entry.block.text],
                low_s=0.98 * times_s[entry.block.text],
                high_s=1.02 * times_s[entry.block.text],
            )
            for entry in table.entries
        ),
        networks=tuple(
            replace(
                one,
                time_s=(time_s := 2 * table.fixed_s + sum(times_s[text] for text in one.blocks)),
                low_s=0.99 * time_s,
                high_s=1.01 * time_s,
            )
            for one in table.networks
        ),
    )
