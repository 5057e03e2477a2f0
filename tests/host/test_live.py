"""The screen beside a run: however it ends, the run and its terminal are as they were."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import until
from tests.host.searching import EVALUATIONS, Place, evaluated, front, journalled
from tests.host.terminal import InTerminal

from boardfront.host import journal_records as records

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)

# A run that says a few things, and whose libraries write to the terminal.
_RUN = """
import sys, threading, time
from pathlib import Path
from boardfront.host.live import LiveProgress
from boardfront.host.run_folder import RunFolder

interrupted = threading.Event()
folder = RunFolder(Path(sys.argv[1]))
progress = LiveProgress(folder, interrupted.set, command=[sys.executable, "-c", sys.argv[2]])
progress.say("it begins")
progress.phase("search", 2)
print("noise of a library", file=sys.stderr, flush=True)
if len(sys.argv) > 3:
    while sys.argv[3] not in "".join(progress._said):
        time.sleep(0.02)
    time.sleep(0.3)
progress.step(2, "done")
print("interrupted", interrupted.is_set(), file=sys.stderr, flush=True)
progress.close()
print("closed", file=sys.stderr, flush=True)
"""
_OPEN = 'import os, sys; print("SCREEN", file=sys.stderr, flush=True); '
_STAYS = f"{_OPEN} os.read(int(sys.argv[-1]), 1)"


def _run(folder: Path, screen: str, *said: str) -> InTerminal:
    return InTerminal([sys.executable, "-c", _RUN, str(folder), screen, *said], cwd=folder)


def test_the_runs_end_closes_the_screen(tmp_path: Path) -> None:
    with _run(tmp_path, _STAYS) as terminal:
        assert terminal.wait(60) == 0
    lines = terminal.text.split()
    # While it was there nothing was written beside it; then what was said comes out.
    assert lines == ["SCREEN", "it", "begins", "closed"]
    assert (tmp_path / "log.txt").read_text() == "noise of a library\ninterrupted False\n"


def test_a_killed_run_takes_its_screen_along(tmp_path: Path) -> None:
    gone = "import pathlib; pathlib.Path('gone').touch()"
    with _run(tmp_path, f"{_STAYS}; {gone}", "for ever") as terminal:
        terminal.until_written("SCREEN")
        terminal.process.kill()
        until((tmp_path / "gone").exists)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("sys.exit(0)", "the run goes on; look again: boardfront monitor"),
        ("sys.exit(3)", "the screen broke (exit code 3): the run goes on without it"),
        ("os.kill(os.getpid(), 9)", "the screen broke (signal 9): the run goes on without it"),
    ],
)
def test_without_its_screen_the_run_goes_on_in_lines(tmp_path: Path, end: str, told: str) -> None:
    with _run(tmp_path, _OPEN + end, told.partition(":")[0]) as terminal:
        assert terminal.wait(60) == 0
    words = " ".join(terminal.text.split())
    assert f"it begins {told}" in words
    assert words.endswith("search 2/2 done interrupted False closed")
    # A screen that broke may have left the terminal as no one wants it.
    assert ("\x1b[?1049l" in terminal.raw) == ("broke" in told)


def test_ctrl_c_on_the_screen_interrupts_the_run(tmp_path: Path) -> None:
    waits = _RUN.replace(
        "if len(sys.argv) > 3:\n", "assert interrupted.wait(30)\nif len(sys.argv) > 3:\n"
    )
    command = [sys.executable, "-c", waits, str(tmp_path), f"{_OPEN} sys.exit(130)"]
    with InTerminal(command, cwd=tmp_path) as terminal:
        assert terminal.wait(60) == 0
    assert "interrupted True" in terminal.text


def _search(place: Place, *arguments: str) -> InTerminal:
    command = [sys.executable, "-m", "boardfront.host.cli", "search", *arguments, "--live"]
    return InTerminal(command, cwd=place.folder, environment=place.settings)


@pytest.mark.slow
def test_a_search_beside_its_screen(place: Place, finished: Place) -> None:
    with _search(place, str(place.experiment)) as terminal:
        terminal.until_written("training")
        assert terminal.has_screen()
        terminal.press("\x03")
        assert terminal.wait(60) == 130
        assert not terminal.has_screen()
    assert "boardfront: interrupted; nothing is lost, go on with" in terminal.text
    folder = place.run_folder
    (stopped,) = journalled(folder, records.Interrupted)
    assert stopped.reason == "interrupted by the user"

    # Else it may end before its screen is left.
    folder.request("pause")
    with _search(place, "--resume", "latest") as terminal:
        until(terminal.has_screen, within_s=60.0)
        until((folder.path / "paused").exists, within_s=60.0)
        terminal.press("q")
        until(lambda: not terminal.has_screen(), within_s=60.0)
        terminal.until_written("the run goes on")
        folder.request("resume")
        assert terminal.wait(120) == 0
    words = " ".join(terminal.text.split())
    assert "the run goes on; look again: boardfront monitor" in words
    assert f"search {EVALUATIONS}/{EVALUATIONS}" in words
    assert "front on here" in words
    assert evaluated(folder) == evaluated(finished.run_folder)
    members = [member["encoding"] for member in front(folder)["members"]]
    assert members == [member["encoding"] for member in front(finished.run_folder)["members"]]


@pytest.mark.slow
def test_without_a_terminal_live_is_plain_lines(finished: Place) -> None:
    done = finished.call("search", "--resume", "latest", "--live")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert f"run {finished.run_folder.path.relative_to(finished.folder)}" in done.stderr
    assert f"search {EVALUATIONS}/{EVALUATIONS}" in done.stderr


@pytest.mark.slow
def test_what_a_run_says_is_kept_in_its_folder(finished: Place) -> None:
    lines = finished.run_folder.log.read_text().splitlines()
    assert all(line[10] == "T" and line[19] == " " for line in lines)
    assert any("supernet trained in" in line for line in lines)
