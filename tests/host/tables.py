"""A latency table of the tests' small space, made up: nothing is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.table import NetworkRole, NetworkTime, Table, TableEntry
from boardfront.protos.records import Origin, Target, Task, Verdict
from boardfront.search.spaces import catalog

if TYPE_CHECKING:
    from boardfront.latency_models.blocks import BlockKey

SETTINGS: dict[str, object] = {
    "resolution": 8,
    "classes": 10,
    "in_channels": 1,
    "stem_channels": 8,
    "stem_stride": 1,
    "stages": [[16, 2], [32, 2]],
    "last_channels": 32,
}
"""Of the space in `searching.EXPERIMENT`."""


def made_up(*, networks: int = 12, without: str = "") -> Table:
    """Return a table whose blocks take a microsecond for each output channel and kernel pixel.

    Args:
        networks: Whole ones, which take what their blocks say.
        without: A kind of block that is missing.
    """
    space = catalog.load("spos", SETTINGS)
    kinds: list[BlockKey] = [
        block
        for block in space.block_kinds()  # type: ignore[attr-defined]
        if not without or block.kind != without
    ]
    rng = np.random.default_rng(0)
    times_s = {block: _time_s(block) for block in kinds}
    base = "33-33"
    return Table(
        space="spos",
        space_settings=SETTINGS,
        task=Task(batch=1, resolution=8, classes=10),
        target=Target(
            fingerprint="f" * 16,
            backend="fake",
            backend_version="1",
            options={"noise": "0.001", "time_s": ""},
            cpus="0-1",
        ),
        origin=Origin.PROGRAMMED,
        device_id="d" * 16,
        device_name="board",
        agent_version="0.1.0",
        built_unix_s=1_700_000_000.0,
        measurement_protocol_version=2,
        base=base,
        base_s=1e-4,
        base_low_s=0.99e-4,
        base_high_s=1.01e-4,
        fixed_s=1e-5,
        fixed_low_s=0.9e-5,
        fixed_high_s=1.1e-5,
        entries=tuple(
            TableEntry(
                block=block,
                time_s=time_s,
                low_s=0.97 * time_s,
                high_s=1.03 * time_s,
                verdict=Verdict.OK,
                count=50,
            )
            for block, time_s in times_s.items()
        ),
        missing=(f"{without} 16->16 /1 @4",) if without else (),
        networks=tuple(
            _network(space.sample(rng), space, times_s) for _ in range(0 if without else networks)
        ),
    )


def _time_s(block: BlockKey) -> float:
    kernel = int(block.kind) if block.kind.isdigit() else 4
    return 1e-7 * block.out_channels * kernel


def _network(encoding: str, space: object, times_s: dict[BlockKey, float]) -> NetworkTime:
    blocks = space.decompose(encoding).blocks  # type: ignore[attr-defined]
    time_s = 1e-5 + sum(times_s[block] for block in blocks)
    return NetworkTime(
        encoding=encoding,
        blocks=tuple(block.text for block in blocks),
        role=NetworkRole.HELD_OUT,
        time_s=time_s,
        low_s=0.99 * time_s,
        high_s=1.01 * time_s,
        verdict=Verdict.OK,
    )
