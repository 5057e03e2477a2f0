"""`boardfront table transfer`: a new board's table from another's, on real agents."""

from __future__ import annotations

import json
import signal
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import serving, until
from tests.host.searching import EXPERIMENT, WITHIN_S, Place
from tests.host.transfer_tables import SETTINGS, other_board

from boardfront.latency_models.store import MeasurementStore
from boardfront.latency_models.table import (
    EntryOrigin,
    NetworkRole,
    Table,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(180)

SPACE = ("--space", "spos", *(w for n, v in SETTINGS.items() for w in ("--set", f"{n}={v}")))
TRANSFER = ("table", "transfer", "other.json")
FEW = ("--samples", "5", "--held-out", "3", "--repeats", "1", "--duration", "0.05")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running agent."""
    with serving(tmp_path_factory.mktemp("agent")) as (_, wire):
        yield wire.address


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A table that was transferred by the command in two parts: the first one was killed.

    Args:
        place: Where other.json and new.json are.
        before: The table that the first part left.
        known: What the store held by then, and how often.
        stderr: What the second part said.
        table: The whole table.
        content: What the second part printed.
    """

    place: Place
    before: Table
    known: Counter[str]
    stderr: str
    table: Table
    content: dict[str, object]


@pytest.fixture(scope="module")
def made(device: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A transferred table, killed on the way and gone on with."""
    place = Place(tmp_path_factory.mktemp("made"))
    other_board().save(place.folder / "other.json")
    path = place.folder / "new.json"
    arguments = (*TRANSFER, *FEW, "--device", device, "-o", "new.json")
    with place.start(*arguments) as running:
        until(lambda: path.exists() and len(Table.load(path).networks) >= 1, within_s=WITHIN_S)
        running.signal(signal.SIGKILL)
    before, known = Table.load(path), _journal(place)
    done = place.call(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return Made(
        place=place,
        before=before,
        known=known,
        stderr=done.stderr,
        table=Table.load(path),
        content=json.loads(done.stdout),
    )


def _journal(place: Place) -> Counter[str]:
    """Return how often each subject of each job is in the store."""
    with MeasurementStore(place.store) as store:
        (first,) = store.get([1])
        jobs = [(one.job_id, one.subject_id) for one in store.recent(device_id=first.device_id)]
    return Counter(f"{job} {subject}" for job, subject in jobs)


def test_every_block_has_a_time_and_the_table_is_judged(made: Made) -> None:
    table, source = made.table, other_board()
    assert table.is_finished
    assert [entry.block for entry in table.entries] == [entry.block for entry in source.entries]
    assert {entry.origin for entry in table.entries} == {EntryOrigin.TRANSFERRED}
    roles = Counter(one.role for one in table.networks)
    assert roles == {NetworkRole.CALIBRATION: 5, NetworkRole.HELD_OUT: 3}
    assert table.residual is not None
    assert (table.residual.networks, table.residual.repeats) == (3, 1)
    assert table.residual.mape < 0.05
    assert (table.base, table.target.backend) == (source.base, "fake")
    # The fake's times are of the structure: 50 us a run, and what the blocks add.
    assert table.base_s > 5e-5
    assert table.transfer is not None
    assert table.transfer.digest == source.content_digest
    assert made.content["entries"] == len(source.entries)
    assert made.content["finished"] is True
    said = made.content["transfer"]
    assert isinstance(said, dict)
    names = [one["name"] for one in said["rivals"]]
    assert (names[0], names[2]) == ("transferred", "multiply-accumulates")
    assert names[1].startswith("source x ")


def test_a_killed_transfer_goes_on_and_measures_nothing_twice(made: Made) -> None:
    before, table = made.before, made.table
    assert not before.is_finished
    assert f"going on with new.json: {len(before.networks)} networks are measured" in made.stderr
    assert (table.seed, table.built_unix_s) == (before.seed, before.built_unix_s)
    after = _journal(made.place)
    assert set(made.known) <= set(after)
    assert set(after.values()) == {1}
    assert made.known


def test_what_is_shown(made: Made) -> None:
    done = made.place.call("table", "show", "new.json")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    about = {line.partition("\t")[0]: line for line in lines}
    assert "from other.json, on 5 networks" in about["transferred"]
    assert "of old board, fake 0, inference, batch 1" in done.stdout
    assert f"digest {other_board().content_digest}" in done.stdout
    assert "10 of 10, 10 transferred, not measured here" in about["blocks"]
    assert "transferred blocks, summed" in about["model"]
    assert "~\tnot measured here" in lines
    cell = next(line for line in lines if line.startswith("x\t")).split("\t")[1]
    entry = next(e for e in made.table.entries if e.block.kind == "x")
    assert cell == f"{entry.time_s * 1e3:.4f}~"
    (stem,) = [line.split("\t") for line in lines if line.startswith("stem ")]
    assert stem[3] == "transferred"


def test_it_is_verified_by_whole_networks(made: Made, device: str) -> None:
    arguments = ("--device", device, "--duration", "0.05", "--networks", "2")
    done = made.place.call("table", "verify", "new.json", *arguments)
    assert done.returncode == 0, done.stderr
    assert "none was measured: whole networks are what it answers for" in done.stdout
    assert "the table holds" in done.stdout


def test_a_build_does_not_go_on_with_it(
    made: Made, device: str, boardfront: Command, place: Place
) -> None:
    (place.folder / "new.json").write_bytes((made.place.folder / "new.json").read_bytes())
    code, out, told = boardfront(
        "table", "build", *SPACE, "--backend", "fake", "--device", device, "-o", "new.json"
    )
    assert (code, out, told.count("\n")) == (2, "", 1)
    assert "got one transferred from other.json: choose another -o" in told
    assert Table.load(place.folder / "new.json") == made.table


def test_ctrl_c_keeps_what_was_measured_and_says_how_to_go_on(device: str, place: Place) -> None:
    other_board().save(place.folder / "other.json")
    path = place.folder / "new.json"
    with place.start(*TRANSFER, *FEW, "--device", device, "-o", "new.json") as running:
        until(path.exists, within_s=WITHIN_S)
        assert running.signal(signal.SIGINT) == 130
        last = running.stderr.strip().splitlines()[-1]
    assert last.startswith("boardfront: interrupted; new.json holds what was measured")
    assert "go on with: boardfront table transfer other.json" in last
    assert Table.load(path).transfer is not None
    shown = place.call("table", "show", "new.json")
    assert shown.returncode == 0, shown.stderr
    assert "the table is not finished" in shown.stdout


def test_a_budget_that_is_too_small_is_told(
    device: str, boardfront: Command, place: Place
) -> None:
    other_board().save(place.folder / "other.json")
    code, out, told = boardfront(
        *TRANSFER, *FEW, "--device", device, "-o", "new.json", "--budget", "0.5s"
    )
    assert (code, out) == (1, "")
    last = told.strip().splitlines()[-1]
    assert "expected at least 3 networks to transfer from" in last
    assert "new.json holds what was measured" in last


def test_a_source_of_another_task_is_allowed_and_told(
    device: str, boardfront: Command, place: Place
) -> None:
    other = other_board()
    other.save(place.folder / "other.json")
    code, _, told = boardfront(
        *(*TRANSFER, "--device", device, "-o", "new.json", "--task", "training-step-graph"),
        *("--samples", "3", "--held-out", "1", "--repeats", "0", "--duration", "0.05"),
        *("--batch", "2", "--json"),
    )
    assert code == 0, told
    assert "other.json is of inference, batch 1, the new table of training-step-graph" in told
    table = Table.load(place.folder / "new.json")
    assert (table.task.kind.value, table.task.batch) == ("training-step-graph", 2)
    assert table.transfer is not None
    assert table.transfer.task == "inference, batch 1"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--samples", "2"), "Invalid value for '--samples'"),
        (("--samples", "12"), "expected 15 networks of which the source has all blocks, got 11"),
        (("--task", "dreaming"), "--task 'dreaming': expected one of inference"),
        (("--budget", "soon"), "--budget 'soon': expected e.g. 45m"),
        (("--backend", "abacus"), "expected the backend 'abacus', got none of that name"),
        (("-o", "nowhere/new.json"), "expected a folder nowhere"),
        (("-o", "other.json"), "expected a new file, got the source itself"),
        (("-o", "built.json"), "got one that was measured: choose another -o"),
        (("-o", "mine.json", "--task", "training-step"), "whose task is"),
        (("-o", "elder.json"), "with the digest 000000000000: choose another"),
    ],
)
def test_what_was_meant_wrongly_is_told_in_one_line(
    made: Made,
    device: str,
    boardfront: Command,
    place: Place,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    other, table = other_board(), made.table
    other.save(place.folder / "other.json")
    other.save(place.folder / "built.json")
    table.save(place.folder / "mine.json")
    assert table.transfer is not None
    elder = replace(table, transfer=replace(table.transfer, digest="0" * 64))
    elder.save(place.folder / "elder.json")
    lacking = other.networks[0].decomposition.blocks[1]
    if "12" in arguments:
        # Four in sixteen networks have it; of the others one is the base.
        kept = tuple(one for one in other.entries if one.block != lacking)
        replace(other, entries=kept).save(place.folder / "other.json")
    code, out, told = boardfront(*TRANSFER, *FEW, "--device", device, "-o", "new.json", *arguments)
    assert (code, out) == (2, "")
    assert says in told
    assert "Traceback" not in told
    assert not (place.folder / "new.json").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"space": "once-for-all"}, "unknown space 'once-for-all'"),
        ({"space_settings": {**SETTINGS, "stages": [[16, 3]]}}, "as the catalogue has it"),
        ({"entries": ()}, "expected a table with blocks to transfer from"),
    ],
)
def test_a_source_that_says_nothing_of_the_space_is_refused(
    device: str, boardfront: Command, place: Place, change: dict[str, object], says: str
) -> None:
    replace(other_board(), **change).save(place.folder / "other.json")  # type: ignore[arg-type]
    code, out, told = boardfront(*TRANSFER, *FEW, "--device", device, "-o", "new.json")
    assert (code, out, told.count("\n")) == (2, "", 1)
    assert "other.json: expected" in told
    assert says in told


def test_the_help_has_an_example(boardfront: Command) -> None:
    code, out, _ = boardfront("table", "transfer", "--help")
    assert code == 0
    assert "Example: boardfront table transfer" in " ".join(out.split())


@pytest.mark.slow
def test_a_search_goes_by_it(made: Made, device: str, place: Place) -> None:
    made.table.save(place.folder / "new.json")
    experiment = EXPERIMENT.replace("stages = [[16, 2], [32, 2]]", "stages = [[16, 2]]").replace(
        'device = "local"\n', f'device = "{device}"\ntable = "new.json"\n'
    )
    (place.folder / "fast.toml").write_text(experiment)
    done = place.call("search", "fast.toml")
    assert done.returncode == 0, done.stderr
    assert "times are predicted from table new.json by transferred blocks, summed" in done.stderr
    after = Table.load(place.folder / "new.json")
    (row,) = after.finalists
    assert row.table_digest == made.table.content_digest
    assert row.error.networks > 0
    assert after.transfer == made.table.transfer
