"""A latency table is followed while it is built, when its build ended, and when it was killed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.device_agent.harness import until
from tests.host.searching import WITHIN_S, Place
from tests.latency_models.table_samples import table as sample_table

from boardfront.host.build_news import NewsFile, news_path, read_news
from boardfront.host.view import table_view
from boardfront.host.view.table_view import TableFollower, TableState
from boardfront.latency_models.table_origin import TransferOrigin
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(180)

_ORIGIN = TransferOrigin(
    file="pi5.json", device_name="pi5", target="onnxruntime", digest="0" * 64, task="inference"
)


def test_a_build_is_followed_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    follower = TableFollower(path)
    with pytest.raises(WrongInputError, match=r"no table .*, and no build of it"):
        follower.poll()
    with NewsFile(path, budget_s=60.0) as news:
        waiting = follower.poll()
        assert (waiting.state, waiting.table) == (TableState.BUILDING, None)
        assert table_view.headline(waiting) == "toy.json  building  waiting for the device"
        assert table_view.progress(waiting) == (0, 0, "")

        table = sample_table()
        replace(table, entries=table.entries[:3], missing=("x",), residual=None).save(path)
        news.tell(
            blocks=9, entries=3, round_number=0, done=5, total=20, left_s=30.0, note="block: fast"
        )
        half = follower.poll()
        assert half.state is TableState.BUILDING
        assert half.left_s == pytest.approx(30.0, abs=5.0)
        assert table_view.progress(half)[:2] == (5, 20)
        told = dict(table_view.lines(half))
        assert told["blocks"].startswith("3 of 9 have a time, ")
        assert told["budget"].endswith("of 1 min 00 s used")
        assert told["last look"] == "block: fast"
        table.save(path)
    assert not news_path(path).exists()
    done = follower.poll()
    assert (done.state, done.news, done.left_s) == (TableState.FINISHED, None, None)
    assert sum(done.verdicts.values()) == len(table.entries) + len(table.networks)


def test_in_a_pipe_it_is_names_and_values(place: Place, boardfront: Command) -> None:
    sample_table().save(place.folder / "toy.json")
    code, out, told = boardfront("monitor", "toy.json")
    assert (code, told) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()]
    assert {len(row) for row in rows} == {2}
    assert rows[0] == ["state", "toy.json  finished"]
    assert {name for name, _ in rows} >= {"table", "networks", "verdicts"}


def test_a_build_that_died_is_not_taken_for_one_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    replace(sample_table(), missing=("x",), residual=None).save(path)
    with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
        gone.wait()
    news = NewsFile(path)
    news.tell(pid=gone.pid)
    dead = TableFollower(path).poll()
    assert dead.state is TableState.STOPPED
    told = "\n".join(value for _, value in table_view.lines(dead))
    assert "the build ended without a word" in told
    assert "boardfront table build" in told
    # On another machine nobody knows; its news count while they are fresh.
    news.tell(pid=1, node="elsewhere")
    now = [news_path(path).stat().st_mtime]
    follower = TableFollower(path, lambda: now[0])
    assert follower.poll().state is TableState.BUILDING
    now[0] += 1000.0
    assert follower.poll().state is TableState.STOPPED


def test_an_unfinished_table_names_the_command_that_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    built = replace(sample_table(), missing=("x",), residual=None)
    for table, command in ((built, "build"), (replace(built, transfer=_ORIGIN), "transfer")):
        table.save(path)
        told = dict(table_view.lines(TableFollower(path).poll()))
        assert told["go on"] == f"the same boardfront table {command} ... -o {path}"


def test_news_that_are_torn_or_newer_are_none(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    for text in ('{"format": 1, "pid"', "[]", '{"format": 2}', '{"format": 1, "pid": 3}'):
        news_path(path).write_text(text)
        assert read_news(path) is None


SPACE = (
    *("--space", "spos", "--set", "resolution=8", "--set", "classes=10"),
    *("--set", "in_channels=1", "--set", "stem_channels=8", "--set", "stem_stride=1"),
    *("--set", "stages=[[16, 2]]", "--set", "last_channels=32"),
)
BUILD = (
    *("table", "build", *SPACE, "--backend", "fake", "--duration", "0.05", "--rounds", "0"),
    *("--calibration", "0", "--held-out", "2", "--repeats", "1", "-o", "toy.json"),
)


@pytest.mark.slow
def test_monitor_shows_a_build_beside_it(place: Place, boardfront: Command) -> None:
    def look() -> dict[str, Any]:
        """Return what is told once a look was taken, before that nothing."""
        code, out, _ = boardfront("monitor", "toy.json", "--json")
        told: dict[str, Any] = json.loads(out) if code == 0 else {}
        return told if told.get("build") and told["build"]["done"] else {}

    with place.start(*BUILD) as running:
        seen = until(look, within_s=WITHIN_S)
        assert running.wait() == 0, running.stderr
    assert seen["state"] == "building"
    assert 0 < seen["build"]["done"] <= seen["build"]["total"]
    assert seen["build"]["note"]
    code, out, _ = boardfront("monitor", "toy.json")
    assert code == 0
    assert out.startswith("state\ttoy.json  finished\n")
    assert "\nnetworks\t" in out
