"""`boardfront report` and `boardfront plot`, on runs of every kind."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.host.searching import front, journalled
from tests.latency_models import table_samples

from boardfront.host import journal_records as records
from boardfront.host.report import drawing

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host.searching import Place

    from boardfront.host.run_folder import RunFolder

    Command = Callable[..., tuple[int, str, str]]


def test_a_real_run_is_told(finished: Place, boardfront: Command, place: Place) -> None:
    run = finished.run_folder
    before = sorted(path.name for path in run.path.iterdir())
    code, out, err = boardfront("report", str(run.path), "-o", "a report.html")
    assert (code, out) == (0, "")
    assert err.startswith("a report.html (")
    written = (place.folder / "a report.html").read_text()
    for member in front(run)["members"]:
        assert f'<th scope="row" class="code">{member["encoding"]}</th>' in written
        assert f"{member['test_accuracy']:.2%}" in written
    assert "Some times here are programmed, not measured" in written
    last = journalled(run, records.TrainingProgress)[-1]
    assert f"loss {journalled(run, records.TrainingProgress)[0].loss:.3f} in the first" in written
    assert f"{last.loss:.3f} in the last" in written
    assert run.experiment.read_text().splitlines()[0] in written
    assert f"boardfront search {run.source}" in written
    assert sorted(path.name for path in run.path.iterdir()) == before


def test_the_values_of_a_real_run(finished: Place, boardfront: Command) -> None:
    run = finished.run_folder
    code, out, _ = boardfront("report", str(run.path), "--json")
    said = json.loads(out)
    assert code == 0
    for told, member in zip(said["front"], front(run)["members"], strict=True):
        assert told["encoding"] == member["encoding"]
        whole = member["whole"]["here"]["latency"]
        assert told["times"]["here"]["measured_s"] == whole["median_s"]
        assert told["params"] == member["counts"]["params"]
    assert said["agreement"] == front(run)["agreement"]
    assert said["state"] == "completed"


def test_into_a_pipe_it_writes_the_document(whole: RunFolder, boardfront: Command) -> None:
    code, out, err = boardfront("report", str(whole.path), "--format", "md")
    assert (code, err) == (0, "")
    assert out.startswith(f"# {whole.path.name}\n")
    assert "](" not in out


def test_markdown_has_its_plots_beside_it(
    whole: RunFolder, boardfront: Command, place: Place
) -> None:
    assert boardfront("report", str(whole.path), "-o", "out.md")[0] == 0
    told = (place.folder / "out.md").read_text()
    files = sorted(path.name for path in (place.folder / "out-plots").iterdir())
    assert len(files) == 8
    assert all(f"](out-plots/{name})" in told for name in files)


@pytest.mark.parametrize("kind", ["part", "empty"])
def test_a_run_that_is_not_over(
    kind: str, request: pytest.FixtureRequest, boardfront: Command
) -> None:
    run: RunFolder = request.getfixturevalue(kind)
    for form in ("html", "md"):
        code, out, err = boardfront("report", str(run.path), "--format", form)
        assert (code, err) == (0, "")
        assert "The run was interrupted" in out
        assert f"boardfront search --resume {run.path}" in out


def test_runs_are_compared(whole: RunFolder, other: RunFolder, boardfront: Command) -> None:
    code, out, _ = boardfront("report", str(whole.path), str(other.path), "--json")
    said = json.loads(out)
    assert code == 0
    assert [run["run"] for run in said["runs"]] == [whole.path.name, other.path.name]
    assert said["differences"]["seed"] == {whole.path.name: "1", other.path.name: "2"}
    code, out, _ = boardfront("report", str(whole.path), str(other.path))
    assert out.startswith("<!doctype html>")


def test_copies_of_one_name_are_told_apart(
    whole: RunFolder, boardfront: Command, place: Place
) -> None:
    copy = place.folder / "elsewhere" / whole.path.name
    shutil.copytree(whole.path, copy)
    code, out, _ = boardfront("report", str(whole.path), str(copy), "--json")
    said = json.loads(out)
    assert code == 0
    assert set(said["hypervolumes"]["pi5"]["last"]) == {str(whole.path), str(copy)}
    assert said["differences"] == {}


def test_the_newest_run_is_meant_where_none_is_named(
    whole: RunFolder, boardfront: Command
) -> None:
    code, out, _ = boardfront("report", "--runs", str(whole.path.parent), "--json")
    assert (code, json.loads(out)["run"]) == (0, whole.path.name)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["report", "nowhere"], "no run 'nowhere'"),
        (["report", "{run}", "{run}"], "expected runs that differ"),
        (["report", "{run}", "-o", "a.pdf"], "no report format 'pdf'"),
        (["report", "{run}", "-o", "no/such/folder/a.html"], "expected a place to write to"),
        (["plot", "{run}", "pie"], "no plot 'pie': expected one of front, hypervolume,"),
        (["plot", "{run}", "front", "--target", "moon"], "no target 'moon'"),
        (["plot", "{run}", "front", "-o", "a.gif"], "expected a name that ends in .svg or .png"),
        (["plot", "nothing.json", "residual"], "expected a latency table"),
        (["plot", "a.json", "b.json", "residual"], "expected one latency table"),
        (["plot", "{run}", "{run}", "front"], "expected runs that differ"),
        (["plot", "{run}", "{other}", "devices"], "2 runs for the plot 'devices': expected one"),
        (["plot", "{run}", "{other}", "front", "--target", "moon"], "that all 2 runs time"),
        (["plot", "{run}", "{other}", "pie"], "no plot 'pie'"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], text: str, whole: RunFolder, other: RunFolder, boardfront: Command
) -> None:
    paths = {"run": whole.path, "other": other.path}
    code, out, err = boardfront(*(one.format(**paths) for one in arguments))
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert text in line


def test_a_plot_alone(whole: RunFolder, boardfront: Command, place: Place) -> None:
    code, out, err = boardfront("plot", str(whole.path), "front", "--target", "rock5b")
    assert (code, err) == (0, "")
    assert out.startswith("<svg")
    assert "time on rock5b" in out
    code, out, err = boardfront("plot", str(whole.path), "devices", "-o", "d.png")
    assert (code, out) == (0, "")
    assert "rank the candidates alike" in err
    assert err.splitlines()[-1] == "d.png"
    assert (place.folder / "d.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("kind", ["front", "hypervolume"])
def test_a_plot_of_several_runs(
    kind: str, whole: RunFolder, other: RunFolder, boardfront: Command
) -> None:
    code, out, err = boardfront("plot", str(whole.path), str(other.path), kind)
    assert (code, err) == (0, "")
    assert out.startswith("<svg")
    message = out.partition("</desc>")[0]
    assert f"{whole.path.name}: " in message
    assert f"{other.path.name}: " in message


def test_what_a_run_has_not_is_told(empty: RunFolder, boardfront: Command) -> None:
    code, _, err = boardfront("plot", str(empty.path), "front")
    assert code == 2
    assert "no candidate has an accuracy and a time" in err


def test_a_table_against_its_whole_networks(boardfront: Command, place: Place) -> None:
    table = table_samples.table(skew=1.05)
    table.save(place.folder / "toy.json")
    code, out, err = boardfront("plot", "toy.json", "residual")
    assert (code, err) == (0, "")
    assert f"{len(table.networks)} whole networks" in out
    assert out.count("<title>") >= 2 * len(table.networks)


def test_on_a_terminal_it_says_where_the_file_is(whole: RunFolder, place: Place) -> None:
    command = ["plot", str(whole.path), "front", "--target", "rock5b"]
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "boardfront.host.cli", *command],
        stdout=its,
        stderr=subprocess.PIPE,
        cwd=place.folder,
        env={**os.environ, **place.settings},
        text=True,
    ) as process:
        _, err = process.communicate(timeout=120)
    os.close(its)
    os.close(ours)
    name = f"{whole.path.name}-front-rock5b.svg"
    assert err.splitlines()[-1] == name
    assert (place.folder / name).read_text().startswith("<svg")


def test_without_the_libraries_one_line_says_what_to_install(
    whole: RunFolder, boardfront: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "find_spec", lambda name: None if name == "altair" else object())
    for arguments in (["report", str(whole.path)], ["plot", str(whole.path), "front"]):
        code, out, err = boardfront(*arguments)
        assert (code, out) == (1, "")
        assert err.strip().endswith("got no altair: run pip install 'boardfront[report]'")
