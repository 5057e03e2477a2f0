"""What a report tells to type: to search anew, to measure again, and what times are ratios to."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from tests.host.report.made import BEGAN_UNIX_S, SPACE, Plan, experiment_text, make

from boardfront.host.commands.arguments import one_network
from boardfront.host.config import load_experiment
from boardfront.host.networks import TaskChoice, read_network
from boardfront.host.report import reproduce
from boardfront.host.report.anew import search_anew
from boardfront.host.report.reading import read_findings
from boardfront.host.run_folder import RunFolder, create_run
from boardfront.host.view.follow import read_run
from boardfront.host.view.run_view import RunState
from boardfront.search.spaces import catalog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TABLE = b"a table's bytes"


def test_the_file_that_a_run_was_started_from_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, Plan(done=0, ended=False), "its name")
    file = tmp_path / "its name.toml"
    assert shlex.split(search_anew(read_run(run))) == ["boardfront", "search", str(file)]
    monkeypatch.chdir(tmp_path)
    assert shlex.split(search_anew(read_run(run)))[-1] == file.name


@pytest.mark.parametrize(
    "table", ["pi5.json", "../tables/pi5.json", "{folder}/elsewhere/pi5.json"]
)
@pytest.mark.parametrize("what", ["gone", "changed", "without its table"])
def test_where_that_is_not_what_it_was_the_copies_are_laid_out(
    what: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    name = table.format(folder=place)
    run, original = _with_table(place, name)
    if what == "gone":
        run.source.unlink()
    elif what == "changed":
        run.source.write_text(run.source.read_text().replace("seed = 1", "seed = 2"))
    if what != "changed":
        original.unlink()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    *before, last = search_anew(read_run(run)).split(" && ")
    assert before
    subprocess.run(["/bin/sh", "-ec", "\n".join(before)], check=True)
    program, command, file = shlex.split(last)
    assert (program, command) == ("boardfront", "search")
    again = load_experiment(file)
    assert (again.name, again.seed) == ("fast board", 1)
    (read,) = (target.table.file for target in again.targets if target.table)
    assert read.read_bytes() == _TABLE


def test_with_its_table_where_it_was_nothing_is_copied(tmp_path: Path) -> None:
    run, _ = _with_table(tmp_path / "place", "../tables/pi5.json")
    assert shlex.split(search_anew(read_run(run))) == ["boardfront", "search", str(run.source)]


def test_a_run_with_a_name_of_its_own_needs_no_copies(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text(f'name = "named"\n{experiment_text(Plan())}')
    run = create_run(tmp_path / "runs", "named", file)
    file.unlink()
    line = ["boardfront", "search", str(run.experiment)]
    assert shlex.split(search_anew(read_run(run))) == line
    run.about.unlink()
    assert shlex.split(search_anew(read_run(run))) == line


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (RunState.RUNNING, None),
        (RunState.PAUSED, "touch '{}/control/resume'"),
        (RunState.INTERRUPTED, "boardfront search --resume '{}'"),
        (RunState.FAILED, "boardfront search --resume '{}'"),
        (RunState.CANCELLED, "boardfront search --resume '{}'"),
        (RunState.COMPLETED, None),
    ],
)
def test_only_a_run_that_can_be_gone_on_with_offers_it(
    state: RunState, told: str | None, tmp_path: Path
) -> None:
    run = make(tmp_path, Plan(done=3, ended=False), "its name")
    found = read_findings(run)
    # Of one that goes on nobody wrote an end; one that failed or was cancelled has its own.
    goes_on = state in {RunState.RUNNING, RunState.PAUSED, RunState.INTERRUPTED}
    view = replace(found.view, state=state, ended_unix_s=None if goes_on else BEGAN_UNIX_S)
    rows = dict(reproduce.commands(replace(found, view=view)))
    assert rows.get("go on with this run") == (told and told.format(run.path))


def test_a_reference_is_said_to_be_what_it_was(tmp_path: Path) -> None:
    settings = {"pi5": 'reference = "none"\n', "rock5b": 'table = "rock.json"\n'}
    run = make(tmp_path, Plan(evaluations=24, settings=settings))
    told = dict(reproduce.facts(read_findings(run)))
    assert told["reference on pi5"].endswith("; no time on pi5 is divided by it")
    assert told["reference on rock5b"].endswith(
        "; re-measured times on rock5b are ratios to it times this; the search's are predicted "
        "from rock.json"
    )
    plain = make(tmp_path, Plan(evaluations=24), "plain")
    said = dict(reproduce.facts(read_findings(plain)))["reference on pi5"]
    assert said.endswith("; times on pi5 are ratios to it times this")


@pytest.mark.parametrize("batches", [(8, 1), (4, 8), (1, 1), (8, 8)])
def test_each_line_measures_its_targets_batch(batches: tuple[int, int], tmp_path: Path) -> None:
    names = Plan().targets
    settings = {name: f"batch = {one}\n" for name, one in zip(names, batches, strict=True)}
    run = make(tmp_path, Plan(evaluations=24, settings=settings))
    found = read_findings(run)
    space = catalog.load("spos", SPACE)
    for member in found.members:
        model = space.write_onnx(member.candidate.encoding, batch=batches[0])  # type: ignore[attr-defined]
        (run.path / member.model).write_bytes(model.SerializeToString())
    lines = reproduce.measuring(found)
    assert len(lines) == 2 * len(found.members)
    hashes = [_network(shlex.split(line)) for line in lines]
    assert [batch for batch, _ in hashes] == [*batches] * len(found.members)
    first, second = hashes[:2]
    assert (first == second) is (batches[0] == batches[1])


def _network(words: Sequence[str]) -> tuple[int, str]:
    """Return the batch that such a line measures, and the hash of its network."""
    assert words[:2] == ["boardfront", "measure"]
    pairs = list(pairwise(words))
    one = {name: value for name, value in pairs if name in {"--space", "--encoding", "--batch"}}
    network = one_network(
        words[2] if words[2].endswith(".onnx") else None,
        one.get("--space", ""),
        one.get("--encoding", ""),
        [value for name, value in pairs if name == "--set"],
    )
    read = read_network(network, TaskChoice(batch=int(one.get("--batch", "1"))))
    return read.task.batch, read.structure_hash


def _with_table(place: Path, name: str) -> tuple[RunFolder, Path]:
    """Return a run that has begun with a table, and where the table is."""
    folder = place / "experiments"
    folder.mkdir(parents=True)
    table = folder / name
    table.parent.mkdir(exist_ok=True)
    table.write_bytes(_TABLE)
    file = folder / "fast board.toml"
    plan = Plan(settings={"pi5": f"table = {json.dumps(name)}\n"})
    file.write_text(experiment_text(plan))
    return create_run(place / "runs", "fast board", file, {0: table}), table
