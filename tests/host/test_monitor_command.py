"""`boardfront monitor` in a pipe, and on real terminals of several kinds."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from typing import TYPE_CHECKING

import pytest
from tests.host.tui import sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.host.searching import Place

    from boardfront.host.run_folder import RunFolder

    Call = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(120)

WITHIN_S = 60.0


@pytest.fixture
def ended(place: Place) -> RunFolder:
    """A finished run among the person's runs."""
    return sample.make(place.folder, ended=True)


def test_in_a_pipe_it_prints_how_the_run_stands(boardfront: Call, ended: RunFolder) -> None:
    code, out, err = boardfront("monitor")
    assert code == 0
    lines = err.splitlines()
    assert lines[0].startswith(f"{ended.path.name}  completed  began ")
    assert "120 candidates, front of 15, 4 failed, 1 measured again" in lines
    assert "training: epoch 12/12, loss 0.767" in lines
    headings, *front = [line.split("\t") for line in out.splitlines()]
    assert headings == ["#", "encoding", "accuracy", *sample.TARGETS]
    assert len(front) == 15
    times = [float(row[3].split()[0]) for row in front]
    accuracies = [float(row[2].rstrip("%")) for row in front]
    assert times == sorted(times)
    assert accuracies == sorted(accuracies)
    assert sum("212 MiB" in line for line in lines) >= 4
    assert lines[-1] == "  completed"


def test_a_named_run_of_another_folder(boardfront: Call, ended: RunFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "share"
    ended.path.parent.rename(elsewhere)
    told = boardfront("monitor", ended.path.name, "--runs", str(elsewhere))
    assert told[0] == 0
    assert told[2].startswith(ended.path.name)
    assert boardfront("monitor", str(elsewhere / ended.path.name)) == told


def test_json_has_everything(boardfront: Call, ended: RunFolder) -> None:
    code, out, _ = boardfront("monitor", "latest", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["state"] == "completed"
    assert told["folder"] == f"runs/{ended.path.name}"
    assert len(told["candidates"]) == told["evaluations"] == sample.EVALUATIONS
    assert sum(one["is_on_front"] for one in told["candidates"]) == 15
    assert len(told["finalists"]) == 30
    assert told["objectives"][1] == {
        "name": "latency",
        "kind": "latency",
        "direction": None,
        "target": "rock",
        "limit": 0.0045,
    }


def test_there_is_no_such_run(boardfront: Call, ended: RunFolder) -> None:
    code, _, err = boardfront("monitor", "yesterday")
    assert code == 2
    assert f"expected a run's folder or one of runs: {ended.path.name}" in err


def test_without_the_library_it_says_what_to_install(
    boardfront: Call, ended: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    del ended
    monkeypatch.setitem(sys.modules, "textual", None)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    code, _, err = boardfront("monitor")
    assert code == 1
    assert "run pip install 'boardfront[host]'" in err


class Terminal:
    """A `boardfront monitor` on a terminal of 80x24.

    Args:
        place: Where it runs.
        arguments: Of the command.
        settings: Environment variables.
    """

    def __init__(self, place: Place, *arguments: str, **settings: str) -> None:
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "boardfront.host.cli", "monitor", *arguments],
            cwd=place.folder,
            env={**os.environ, **place.settings, **settings},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.output = ""

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def until(self, text: str) -> None:
        """Wait until a text was written, whatever stands around it."""
        deadline = time.monotonic() + WITHIN_S
        while text not in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.output):
            assert time.monotonic() < deadline, self.output[-2000:]
            self._read(0.2)

    def leave(self) -> int:
        """Press q and return the exit code."""
        self.press("q")
        deadline = time.monotonic() + WITHIN_S
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(0.2)
        return self.process.wait(timeout=1.0)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _read(self, within_s: float) -> None:
        if select.select([self._master], [], [], within_s)[0]:
            try:
                self.output += os.read(self._master, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                time.sleep(within_s)


@pytest.mark.slow
def test_it_waits_for_a_run_and_follows_it(place: Place) -> None:
    terminal = Terminal(place, TERM="xterm-256color")
    try:
        terminal.until("no runs in runs yet: waiting for one")
        made = sample.make(place.folder, candidates=30)
        terminal.until(made.path.name)
        terminal.until("search 30/120")
        assert terminal.leave() == 0
    finally:
        terminal.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"TERM": "vt100"}, {"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "linux"}]
)
def test_terminals_of_several_kinds(
    place: Place, ended: RunFolder, settings: dict[str, str]
) -> None:
    terminal = Terminal(place, **settings)
    try:
        terminal.until(ended.path.name)
        terminal.until("◆ front")
        terminal.press("2")
        terminal.until("remarks")
        terminal.press("p")
        terminal.until("read-only")
        assert terminal.leave() == 0
        assert not list(ended.control.iterdir())
    finally:
        terminal.close()
