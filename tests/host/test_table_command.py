"""`boardfront table`: built on a real agent, gone on with after a kill, shown, verified, moved."""

from __future__ import annotations

import csv
import json
import signal
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tests.device_agent.harness import serving, until
from tests.host.searching import WITHIN_S, Place
from tests.latency_models.table_samples import (
    KINDS,
    MEMBERS,
    Programmes,
    block_s,
    chain_s,
)

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.latency_models.blocks import HEAD, STEM, Decomposition
from boardfront.latency_models.store import MeasurementStore
from boardfront.latency_models.table import Table
from boardfront.latency_models.table_build import TableBuilder
from boardfront.latency_models.table_plan import Members, Plan
from boardfront.latency_models.table_rule import BuildRule, TableTask
from boardfront.protos.records import Precision, Task, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from boardfront.protos.records import JobEvent

    Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(180)

# Two places with four choices each.
SPACE = (
    *("--space", "spos", "--set", "resolution=8", "--set", "classes=10"),
    *("--set", "in_channels=1", "--set", "stem_channels=8", "--set", "stem_stride=1"),
    *("--set", "stages=[[16, 2]]", "--set", "last_channels=32"),
)
QUICK = ("--backend", "fake", "--duration", "0.05", "--rounds", "0")
FEW = ("--calibration", "0", "--held-out", "2", "--repeats", "1")
BUILD = ("table", "build", *SPACE, *QUICK, *FEW)

_LOOK = Precision(relative_half_width=0.01, min_duration_s=0.05)
RULE = BuildRule(coarse=_LOOK, whole=_LOOK, alone=_LOOK, rounds=0)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running agent."""
    with serving(tmp_path_factory.mktemp("agent")) as (_, wire):
        yield wire.address


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """A table that was built by the command in two parts: the first one was killed.

    Args:
        place: Where toy.json is.
        before: The table that the first part left.
        known: What the store held by then, and how often.
        stderr: What the second part said.
        table: The whole table.
    """

    place: Place
    before: Table
    known: Counter[str]
    stderr: str
    table: Table


@pytest.fixture(scope="module")
def built(device: str, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A small space's table, killed on the way and gone on with."""
    place = Place(tmp_path_factory.mktemp("built"))
    path = place.folder / "toy.json"
    arguments = (*BUILD, "--device", device, "-o", "toy.json")

    def some_blocks() -> bool:
        return path.exists() and len(Table.load(path).entries) >= 3

    with place.start(*arguments) as running:
        until(some_blocks, within_s=WITHIN_S)
        running.signal(signal.SIGKILL)
    before, known = Table.load(path), _journal(place)
    done = place.call(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert (content["finished"], content["missing"]) == (True, [])
    return Built(
        place=place, before=before, known=known, stderr=done.stderr, table=Table.load(path)
    )


def _journal(place: Place) -> Counter[str]:
    """Return how often each subject of each job is in the store."""
    with MeasurementStore(place.store) as store:
        (first,) = store.get([1])
        jobs = [(one.job_id, one.subject_id) for one in store.recent(device_id=first.device_id)]
    return Counter(f"{job} {subject}" for job, subject in jobs)


def test_a_real_agent_s_differences_are_the_blocks(device: str, tmp_path: Path) -> None:
    """Its times are additive by block, with noise: what comes out is what was programmed."""
    timed: list[str] = []
    kinds = [key for key in KINDS if key.kind != "b"]

    def listen(label: str, _event: JobEvent) -> None:
        timed.append(label)

    def build(store: MeasurementStore) -> Table:
        with closing(AgentClient(RemoteAddress(device))) as client:
            builder = TableBuilder(
                Plan(Members(base=MEMBERS[0]), kinds),
                Programmes(),
                DeviceMeasurer(client, store, listener=listen),
                TableTask(
                    space="toy",
                    space_settings={},
                    task=Task(batch=1, resolution=32, classes=10),
                    backend="fake",
                    seed="one build",
                    built_unix_s=1_700_000_000.0,
                ),
                RULE,
            )
            for _ in builder.run():
                pass
        table = builder.table()
        assert table is not None
        return table

    with MeasurementStore(tmp_path / "store.db") as store:
        table = build(store)
        assert timed
        assert table.notes == ()
        assert [entry.block for entry in table.entries] == kinds
        chain = MEMBERS[0].chain
        assert table.sum_s(Decomposition(blocks=chain)) == pytest.approx(chain_s(chain), rel=0.02)
        for entry in table.entries:
            if entry.block.kind == "a":
                assert entry.time_s == pytest.approx(block_s(entry.block), rel=0.1)
        timed.clear()
        # Begun again under the same name nothing is measured.
        assert build(store) == table
        assert timed == []


def test_a_table_of_a_space_adds_up(built: Built) -> None:
    table = built.table
    assert len(table.entries) == 1 + 2 * 4 + 1
    assert {entry.verdict for entry in table.entries} == {Verdict.OK}
    assert table.residual is not None
    assert table.residual.networks == 2
    # By the fake's formula a network's time is a sum over its nodes and weights.
    assert table.residual.mape < 0.01
    assert table.target.backend == "fake"
    assert table.target.fingerprint
    widths = {e.block.kind: e.time_s for e in table.entries if e.block.stride == 2}
    assert widths["3"] < widths["5"] < widths["7"] < widths["x"]


def test_a_killed_build_goes_on_and_measures_nothing_twice(built: Built) -> None:
    before, table = built.before, built.table
    assert not before.is_finished
    assert f"{len(before.entries)} blocks are measured" in built.stderr
    assert table.is_finished
    assert (table.seed, table.built_unix_s) == (before.seed, before.built_unix_s)
    times = {entry.block: entry.time_s / before.base_s for entry in before.entries}
    for entry in table.entries:
        if entry.block in times:
            assert entry.time_s / table.base_s == pytest.approx(times[entry.block], rel=1e-9)
    after = _journal(built.place)
    assert set(after.values()) == {1}
    assert set(built.known) <= set(after)
    # Looks: three at the base alone; the call, two ways and a repeat, each beside something else;
    # ten blocks in four jobs and two networks in one, each beside one network.
    assert len(after) == 3 + 2 * (1 + 2 + 1) + (10 + 4) + (2 + 1)


def test_ctrl_c_keeps_what_was_measured_and_says_how_to_go_on(device: str, place: Place) -> None:
    path = place.folder / "toy.json"
    arguments = (*BUILD, "--device", device, "-o", "toy.json")
    with place.start(*arguments) as running:
        until(path.exists, within_s=WITHIN_S)
        assert running.signal(signal.SIGINT) == 130
        last = running.stderr.strip().splitlines()[-1]
    assert last.startswith("boardfront: interrupted; toy.json holds what was measured")
    assert "go on with: boardfront table build --space spos" in last
    assert Table.load(path).base_s > 0


def test_a_budget_ends_a_build_in_time(device: str, boardfront: Command, place: Place) -> None:
    code, out, told = boardfront(*BUILD, "--device", device, "-o", "t.json", "--budget", "4s")
    assert code == 0
    assert "planned for a budget of 4 s" in told
    assert "the budget is used up: t.json holds what was measured" in out
    assert not Table.load(place.folder / "t.json").is_finished


def test_what_is_shown(built: Built) -> None:
    place, table = built.place, built.table
    done = place.call("table", "show", "toy.json")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    about = {line.partition("\t")[0]: line for line in lines}
    assert "MAPE" in about["residual"]
    assert "1 repeats" in about["noise floor"]
    assert "programmed: not to be acted upon" in about["origin"]
    assert "10 of 10" in about["blocks"]
    (header,) = [line.split("\t") for line in lines if line.startswith("ms\t")]
    assert header == ["ms", "8->16 /2 @8", "16->16 /1 @4"]
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in lines if "\t" in line}
    entry = next(e for e in table.entries if e.block.text == "x 16->16 /1 @4")
    assert float(rows["x"][1]) == pytest.approx(entry.time_s * 1e3, abs=1e-4)
    assert any(line.startswith("call\t") for line in lines)
    assert sum("\theld-out\t" in line for line in lines) == 2
    shown = place.call("table", "show", "toy.json", "--json")
    content = json.loads(shown.stdout)
    assert (content["unit"], content["model"]) == ("s", None)


def test_a_table_is_verified(built: Built, device: str) -> None:
    place, table = built.place, built.table
    arguments = ("--device", device, "--duration", "0.05", "--networks", "1", "--share", "0.1")
    done = place.call("table", "verify", "toy.json", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["holds"] is True
    assert content["level"] == pytest.approx(1.0, rel=0.01)
    assert [one["agrees"] for one in content["entries"]] == [True]
    assert content["residual"]["networks"] == 1
    # All blocks twice as slow as they are.
    data = json.loads((place.folder / "toy.json").read_text())
    for entry in data["entries"]:
        for name in ("time_s", "low_s", "high_s"):
            entry[name] *= 2
    (place.folder / "wrong.json").write_text(json.dumps(data))
    wrong = place.call("table", "verify", "wrong.json", *arguments)
    assert wrong.returncode == 1, wrong.stderr
    assert "the table holds no more" in wrong.stdout
    assert "whole networks are off by" in wrong.stdout
    assert table.is_finished


def test_a_table_of_another_device_is_refused(
    built: Built, device: str, boardfront: Command, place: Place
) -> None:
    source = built.place
    data: dict[str, Any] = json.loads((source.folder / "toy.json").read_text())
    data["target"]["fingerprint"] = "0" * 16
    (place.folder / "other.json").write_text(json.dumps(data))
    arguments = ("--device", device, "--duration", "0.05", "--networks", "1", "--share", "0")
    code, out, told = boardfront("table", "verify", "other.json", *arguments)
    assert (code, out) == (2, "")
    assert "the table 000000000000" in told
    assert "--force" in told
    code, out, told = boardfront("table", "verify", "other.json", *arguments, "--force")
    assert code == 0, told
    assert "forced" in out


def test_a_table_leaves_and_comes_back(built: Built, boardfront: Command, place: Place) -> None:
    source, table = built.place, built.table
    (place.folder / "toy.json").write_bytes((source.folder / "toy.json").read_bytes())
    assert boardfront("table", "export", "toy.json", "toy.csv")[0] == 0
    with (place.folder / "toy.csv").open(newline="") as file:
        lines = [line for line in file if not line.startswith("#")]
        assert len(list(csv.DictReader(lines))) == 1 + len(table.entries)
    code, out, _ = boardfront("table", "export", "toy.json", "toy.yaml", "--json")
    assert json.loads(out) == {"file": "toy.yaml", "entries": len(table.entries), "unit": "s"}
    assert boardfront("table", "import", "toy.yaml", "-o", "back.json")[0] == 0
    assert Table.load(place.folder / "back.json") == table
    code, out, _ = boardfront("table", "diff", "toy.json", "back.json", "--json")
    assert (code, json.loads(out)["ratio"]) == (0, 1.0)
    code, out, told = boardfront("table", "diff", "toy.json", "back.json")
    assert (code, len(out.splitlines())) == (0, 1 + len(table.entries))
    assert f"apart\t0 of {len(table.entries)}, " in told
    code, _, told = boardfront("table", "import", "toy.yaml", "-o", "back.json")
    assert (code, "--overwrite" in told) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--task", "dreaming"), "--task 'dreaming': expected one of inference"),
        (("--budget", "soon"), "--budget 'soon': expected e.g. 45m"),
        (("--base", "33-3"), "invalid encoding '33-3'"),
        (("--space", "nothing"), "unknown space 'nothing'"),
        (("-o", "nowhere/toy.json"), "expected a folder nowhere"),
        (("--batch", "2", "-o", "mine.json"), "whose task is"),
        (("-o", "damaged.json"), "expected a latency table"),
    ],
)
def test_what_was_meant_wrongly_is_told_in_one_line(
    built: Built,
    boardfront: Command,
    place: Place,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    source = built.place
    (place.folder / "mine.json").write_bytes((source.folder / "toy.json").read_bytes())
    (place.folder / "damaged.json").write_text('{"format": "boardfront-latency-table"')
    given = BUILD if arguments[0] != "--space" else ("table", "build", *QUICK, *FEW)
    code, out, told = boardfront(*given, "-o", "toy.json", *arguments)
    assert (code, out) == (2, "")
    assert says in told
    assert told.count("\n") == 1
    kept = Table.load(place.folder / "mine.json")
    assert {entry.block.kind for entry in kept.entries} >= {STEM, HEAD}


@pytest.mark.parametrize("command", ["build", "show", "verify", "export", "import", "diff"])
def test_each_command_helps_with_an_example(boardfront: Command, command: str) -> None:
    code, out, _ = boardfront("table", command, "--help")
    assert code == 0
    assert f"Example: boardfront table {command}" in " ".join(out.split())
