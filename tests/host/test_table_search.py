"""A search on a latency table: predicted in the loop, measured at its end, told to the table."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from tests.device_agent.harness import serving
from tests.host.searching import (
    EPOCHS,
    EVALUATIONS,
    EXPERIMENT,
    PROCESSES,
    Place,
    errors,
    evaluated,
    front,
    gist,
    journalled,
)

from boardfront.host import journal_records as records
from boardfront.host.config import load_experiment
from boardfront.host.table_part import with_tables
from boardfront.latency_models.table import Table
from boardfront.protos.records import Purpose, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Command = Callable[..., tuple[int, str, str]]

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

# Named, as the cores that a process may use can change under it.
_CORE = str(min(os.sched_getaffinity(0)))
_SPACE = (
    *("--space", "spos", "--set", "resolution=8", "--set", "classes=10"),
    *("--set", "in_channels=1", "--set", "stem_channels=8", "--set", "stem_stride=1"),
    *("--set", "stages=[[16, 2]]", "--set", "last_channels=32"),
)
_BUILD = (
    *("table", "build", *_SPACE, "--backend", "fake", "--duration", "0.05", "--rounds", "0"),
    *("--calibration", "3", "--held-out", "6", "--repeats", "1", "-o", "board.json"),
    *("--cpus", _CORE),
)


def _tabled(device: str) -> str:
    """Return the small experiment in a smaller space (16 networks), going by a table."""
    return (
        EXPERIMENT.replace("[[16, 2], [32, 2]]", "[[16, 2]]")
        .replace('device = "local"', f'device = "{device}"')
        .replace(
            'backend = "fake"\n', f'backend = "fake"\ntable = "board.json"\ncpus = "{_CORE}"\n'
        )
    )


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running agent."""
    with serving(tmp_path_factory.mktemp("agent")) as (_, wire):
        yield wire.address


@pytest.fixture(scope="module")
def built(device: str, tmp_path_factory: pytest.TempPathFactory) -> Table:
    """A table that was measured; its times are structural, so they add up."""
    place = Place(tmp_path_factory.mktemp("built"))
    done = place.call(*_BUILD, "--device", device)
    assert done.returncode == 0, done.stderr
    return Table.load(place.folder / "board.json")


@pytest.fixture(scope="module")
def searched(device: str, built: Table, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The place of a search on the table that nobody disturbed."""
    place = Place(tmp_path_factory.mktemp("searched"))
    built.save(place.folder / "board.json")
    place.experiment.write_text(_tabled(device))
    done = place.call("search", "tiny.toml")
    assert done.returncode == 0, done.stderr
    (place.folder / "stderr.txt").write_text(done.stderr)
    (place.folder / "stdout.txt").write_text(done.stdout)
    return place


def _members(place: Place) -> list[dict[str, Any]]:
    members: list[dict[str, Any]] = front(place.run_folder)["members"]
    return members


def test_candidates_are_predicted_and_only_finalists_measured(
    searched: Place, built: Table
) -> None:
    evaluations = journalled(searched.run_folder, records.Evaluation)
    assert len(evaluations) == EVALUATIONS
    for record in evaluations:
        latency = record.latencies["here"]
        assert latency.predicted
        assert (latency.verdict, latency.measurement_id) == (None, None)
        assert latency.low_s <= latency.median_s <= latency.high_s
        assert record.scores["latency"] == latency.median_s
    (reference,) = journalled(searched.run_folder, records.ReferenceTimed)
    assert (reference.encoding, reference.latency.verdict) == (built.base, Verdict.OK)
    with closing(sqlite3.connect(searched.store)) as store:
        rows = store.execute("select purpose, count(*) from measurements group by purpose")
        measured = dict(rows.fetchall())
    # The base alone; the finalists; the base in turn with them, once a job.
    assert measured == {
        Purpose.CANDIDATE.value: 1,
        Purpose.FINALIST.value: PROCESSES * len(_members(searched)),
        Purpose.SENTINEL.value: PROCESSES,
    }


def test_finalists_say_what_was_predicted_and_what_was_measured(searched: Place) -> None:
    finalists = journalled(searched.run_folder, records.FinalistMeasured)
    members = _members(searched)
    assert [one.encoding for one in finalists] == [one["encoding"] for one in members]
    for record, member in zip(finalists, members, strict=True):
        assert record.latency is not None
        assert record.predicted_by == "additive, calibrated"
        assert record.predicted_s == member["searched"]["here"]["median_s"]
        assert record.predicted_low_s is not None
        assert record.predicted_high_s is not None
        predicted_s = member["searched"]["here"]["median_s"]
        assert record.predicted_low_s < predicted_s < record.predicted_high_s
        # By the fake's formula networks' times are sums; its noise is 0.1 %.
        assert record.predicted_s == pytest.approx(record.latency.median_s, rel=0.01)
        assert record.level == pytest.approx(1.0, rel=0.01)
        assert (record.latency.predicted, record.over_limit) == (False, False)
        assert member["searched"]["here"]["predicted"] is True
        assert member["searched"]["here"]["verdict"] is None
    with searched.run_folder.front_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(members)
    for row in rows:
        assert row["here_searched_verdict"] == "predicted"
        off = float(row["here_searched_s"]) / float(row["here_median_s"]) - 1
        assert float(row["here_difference"]) == pytest.approx(off)
    headings = (searched.folder / "stdout.txt").read_text().splitlines()[0].split("\t")
    assert {"predicted", "re-measured", "off by"} <= set(headings)
    said = (searched.folder / "stderr.txt").read_text()
    assert "here: times are predicted from table board.json by additive, calibrated" in said
    told = f"off by 0.0% on {len(members)} finalists"
    assert told in said
    assert told in searched.run_folder.report.read_text()


def test_the_error_on_finalists_stands_in_the_table_as_a_row_of_its_own(
    searched: Place, built: Table
) -> None:
    table = Table.load(searched.folder / "board.json")
    (row,) = table.finalists
    assert (row.run, row.target) == (searched.run_folder.path.name, "here")
    assert row.table_digest == built.content_digest
    assert row.error.networks == len(_members(searched))
    assert row.error.mape < 0.01
    assert row.forced == ()
    # Nothing else has changed, the residual least of all.
    assert table.content_digest == built.content_digest
    assert table.residual == built.residual
    assert Table.load(searched.run_folder.table(0)) == table
    shown = searched.call("table", "show", "board.json").stdout
    assert f"on {len(_members(searched))} (bias" in shown
    assert "not to be pooled with the residual" in shown
    assert front(searched.run_folder)["tables"]["here"]["finalists"]["run"] == row.run


def test_a_completed_run_gives_its_front_again_and_no_second_row(searched: Place) -> None:
    before = gist(searched.run_folder)
    done = searched.call(*searched.resume_arguments())
    assert done.returncode == 0, done.stderr
    assert gist(searched.run_folder) == before
    assert len(Table.load(searched.folder / "board.json").finalists) == 1


def test_another_table_is_refused_on_resuming(
    searched: Place, built: Table, boardfront: Command
) -> None:
    path = searched.folder / "board.json"
    mine = path.read_bytes()
    other = json.loads(mine)
    other["entries"][0]["time_s"] *= 1.0000001
    other["entries"][0]["high_s"] *= 1.01
    path.write_text(json.dumps(other))
    try:
        code, out, told = boardfront(*searched.resume_arguments())
    finally:
        path.write_bytes(mine)
    assert (code, out) == (2, "")
    (line,) = errors(told)
    assert f'target[0].table: "{built.content_digest}" -> ' in line


def test_killed_in_training_then_without_its_device_and_gone_on_with(
    searched: Place, built: Table, place: Place, tmp_path: Path
) -> None:
    built.save(place.folder / "board.json")
    with contextlib.ExitStack() as agent:
        _, wire = agent.enter_context(serving(tmp_path / "agent"))
        address = wire.address
        place.experiment.write_text(_tabled(address))
        with place.start("search", str(place.experiment)) as running:
            running.until_journalled(records.TrainingProgress, 1)
            running.signal(signal.SIGKILL)
        # The person's table is lost; the run has its own.
        (place.folder / "board.json").unlink()
        running = place.start(*place.resume_arguments())
        running.until_journalled(records.TrainingProgress, EPOCHS)
    with running:
        # Nothing is asked of the device before the finalists.
        assert running.wait() == 1
        (line,) = errors(running.stderr)
    assert f"no agent answers at {address}" in line
    assert "go on with: boardfront search --resume" in line
    assert len(evaluated(place.run_folder)) == EVALUATIONS
    with serving(tmp_path / "agent", address=address):
        done = place.call(*place.resume_arguments())
    assert done.returncode == 0, done.stderr
    assert gist(place.run_folder) == gist(searched.run_folder)
    assert len(evaluated(place.run_folder)) == EVALUATIONS
    assert "the error on the finalists is not in the table" in done.stderr
    (row,) = Table.load(place.run_folder.table(0)).finalists
    assert row.run == place.run_folder.path.name


@pytest.fixture
def wrong(device: str, built: Table, place: Place) -> Place:
    """A place whose table is too fast by a tenth, has a hole, and is of another device."""
    content = _scaled(built, 0.9)
    content["target"]["fingerprint"] = "0" * 16
    hole = next(e["block"] for e in content["entries"] if e["block"]["kind"] == "x")
    content["entries"] = [e for e in content["entries"] if e["block"] != hole]
    (place.folder / "board.json").write_text(json.dumps(content))
    # All are predicted to keep the limit, none does.
    limit_ms = 1e3 * _limit_s(built)
    limited = _tabled(device).replace('target = "here"', f'target = "here"\nlimit_ms = {limit_ms}')
    place.experiment.write_text(limited)
    return place


def _limit_s(table: Table) -> float:
    """Return what no network keeps, but all of them if they took a tenth less."""
    return 0.97 * min(one.time_s for one in table.networks)


def test_another_device_is_refused_before_anything_is_trained(wrong: Place) -> None:
    refused = wrong.call("search", "tiny.toml")
    assert refused.returncode == 2
    (line,) = errors(refused.stderr)
    assert "the table 000000000000" in line
    assert "force_table = true" in line
    assert not journalled(wrong.run_folder, records.TrainingProgress)


def test_a_wrong_table_is_found_out(wrong: Place, built: Table) -> None:
    path = wrong.folder / "board.json"
    path.chmod(0o444)
    forced = 'table = "board.json"\nforce_table = true'
    wrong.experiment.write_text(
        wrong.experiment.read_text().replace('table = "board.json"', forced)
    )
    done = wrong.call("search", "tiny.toml", "--json")
    assert done.returncode == 0, done.stderr
    assert "here: forced: " in done.stderr
    # It is read-only: that is told, and no failure.
    assert "note: the error on the finalists is not in the table" in done.stderr
    assert Table.load(path).finalists == ()

    run = wrong.run_folder
    failures = [r.failure for r in journalled(run, records.Evaluation) if r.failure is not None]
    assert failures
    for failure in failures:
        assert failure.message.startswith("the table has no block 'x ")
        assert (failure.kind, failure.target) == (None, "here")
    members = _members(wrong)
    assert members
    for member in members:
        assert member["over_limit"] == ["here"]
        assert member["searched"]["here"]["median_s"] <= _limit_s(built)
    (row,) = Table.load(run.table(0)).finalists
    assert (row.over_limit, len(row.forced)) == (len(members), 1)
    assert row.error.bias == pytest.approx(-0.1, abs=0.02)
    written = run.report.read_text()
    assert f"over the limit on here: {len(members)} of {len(members)} (member 0 by " in written
    assert "over limit by " in written
    assert "forced on here: " in written


def test_the_digest_of_a_run_is_that_of_its_table(searched: Place, built: Table) -> None:
    (first, *_) = journalled(searched.run_folder, records.RunStarted)
    assert first.experiment_digest == with_tables(load_experiment(searched.experiment)).digest()
    assert built.is_finished


def _scaled(table: Table, factor: float) -> dict[str, Any]:
    """Return a table's content with all times but the base's times a factor."""
    from boardfront.latency_models.table import to_json

    content: dict[str, Any] = json.loads(json.dumps(to_json(table)))
    for one in (*content["entries"], *content["networks"]):
        for name in ("time_s", "low_s", "high_s"):
            one[name] *= factor
    for name in ("fixed_s", "fixed_low_s", "fixed_high_s"):
        content[name] *= factor
    if content["calibration"] is not None:
        content["calibration"]["offset_s"] *= factor
    return content
