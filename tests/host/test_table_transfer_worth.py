"""What a transfer is worth: between two real agents, and as the benchmark tells it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.device_agent.harness import serving
from tests.host.transfer_tables import DEEPER, other_board, slower
from tests.latency_models.table_samples import CALL_S, KINDS, MEMBERS, block_s

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.latency_models.blocks import HEAD, STEM, BlockKey, Decomposition
from boardfront.latency_models.store import MeasurementStore
from boardfront.latency_models.table_build import TableBuilder
from boardfront.latency_models.table_chains import ChainFile
from boardfront.latency_models.table_models import predictor_of
from boardfront.latency_models.table_plan import Members, Plan
from boardfront.latency_models.table_rule import BuildRule, TableTask
from boardfront.latency_models.table_transfer import Source, transferred
from boardfront.protos.records import Precision, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.latency_models.table import Table
    from boardfront.latency_models.table_chains import Chain

pytestmark = pytest.mark.timeout(180)

_LOOK = Precision(relative_half_width=0.01, min_duration_s=0.05)
_RULE = BuildRule(coarse=_LOOK, whole=_LOOK, alone=_LOOK, rounds=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """Writes chains as programmes of the fake backend; a board is how fast each kind is there.

    Args:
        call_s: Seconds a run without any block.
        speeds: Factors on the blocks' times, by kind.
    """

    call_s: float
    speeds: Mapping[str, float]

    def block_s(self, block: BlockKey) -> float:
        """Return a block's programmed time, seconds."""
        return self.speeds[block.kind] * block_s(block)

    def chain_s(self, chain: Chain) -> float:
        """Return a chain's programmed time, seconds."""
        return self.call_s + sum(self.block_s(block) for block in chain)

    def write(self, chain: Chain) -> ChainFile | None:
        """Write a chain."""
        content = json.dumps({"time_s": f"{self.chain_s(chain):.12f}", "noise": 0.002}).encode()
        name = hashlib.sha256(repr((self.call_s, chain)).encode()).hexdigest()
        return ChainFile(content=content, structure_hash=name)


@pytest.mark.slow
def test_of_two_agents_one_s_table_becomes_the_other_s(tmp_path: Path) -> None:
    """The boards differ by 2.2 in the middle, and by 20 % between kinds of blocks."""
    first = Board(call_s=CALL_S, speeds={"a": 1.0, "b": 1.0, STEM: 1.0, HEAD: 1.0})
    second = Board(call_s=1.5 * CALL_S, speeds={"a": 2.0, "b": 2.4, STEM: 2.2, HEAD: 2.2})
    with serving(tmp_path / "first") as (_, wire):
        members = Members(base=MEMBERS[0], calibration=MEMBERS[1:4])
        table = _built(Plan(members, KINDS), first, wire.address, tmp_path)
    with serving(tmp_path / "second") as (_, wire):
        members = Members(base=MEMBERS[0], calibration=MEMBERS[1:7], held_out=MEMBERS[7:])
        networks = Plan(members, (), has_call=False)
        measured = _built(networks, second, wire.address, tmp_path)
    made = transferred(measured, Source(table, "first.json", lambda _block: ()), KINDS)
    truth_s = np.array([second.chain_s(one.chain) for one in MEMBERS])
    networks_of = [Decomposition(blocks=one.chain) for one in MEMBERS]
    said_s = predictor_of(made).model.predict(networks_of).median_s
    assert np.abs(said_s / truth_s - 1).mean() < 0.03
    assert made.transfer is not None
    mine, factor, alone = made.transfer.rivals
    assert alone.name == "without the source"
    assert mine.mape < factor.mape
    assert made.residual is not None
    assert made.residual.networks == len(MEMBERS) - 7


def _built(plan: Plan, board: Board, address: str, folder: Path) -> Table:
    asked = TableTask(
        space="toy",
        space_settings={},
        task=Task(batch=1, resolution=32, classes=10),
        backend="fake",
        # Both agents are on one machine: a job of the other's name would be its own.
        seed=f"build on {board.call_s}",
        built_unix_s=1_700_000_000.0,
    )
    with (
        MeasurementStore(folder / "store.db") as store,
        closing(AgentClient(RemoteAddress(address))) as client,
    ):
        builder = TableBuilder(plan, board, DeviceMeasurer(client, store), asked, _RULE)
        for _ in builder.run():
            pass
    table = builder.table()
    assert table is not None
    return table


_SCRIPT = Path(__file__).parents[2] / "benchmarks" / "table_transfer.py"


@pytest.mark.skipif(not _SCRIPT.exists(), reason="benchmarks are not in a source distribution")
@pytest.mark.parametrize("spread", [(), ("--spread",)])
def test_the_benchmark_compares_the_ways(tmp_path: Path, spread: tuple[str, ...]) -> None:
    first = other_board(DEEPER)
    first.save(tmp_path / "a.json")
    slower(first).save(tmp_path / "b.json")
    done = subprocess.run(
        [
            *(sys.executable, str(_SCRIPT), str(tmp_path / "a.json"), str(tmp_path / "b.json")),
            *("--samples", "10", "--draws", "3", "--json", *spread),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    rows = {row["method"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["transfer"]["mape_mean"] < rows["source x one factor"]["mape_mean"]
    assert rows["source x one factor"]["mape_mean"] < rows["multiply-accumulates"]["mape_mean"]
    assert rows["own table"]["mape_mean"] < 0.01
    judged = {row["judged"] for row in rows.values()}
    assert judged == {(30 - 10) // 2 if spread else 30 - 10}
