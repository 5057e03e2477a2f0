"""What shells offer behind Tab, asked by the shells themselves where they are installed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boardfront.device_agent.backends import catalog as backends
from boardfront.host.complete import OWN_BACKENDS, PICKS, PLOTS
from boardfront.host.export import pick
from boardfront.host.report.plots import KINDS

_FLEET = """\
[device.rock5b]
address = "192.168.1.20:50051"

[device.pi5]
address = "192.168.1.21:50051"
"""

# What the shell's own function leaves, without a person at the keys.
_ASK_BASH = """\
source <(_BOARDFRONT_COMPLETE=source_bash boardfront)
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_boardfront_completion boardfront
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A person's folder with a fleet file and two runs."""
    (tmp_path / "fleet.toml").write_text(_FLEET)
    for name in ("quickstart-20260101-101010", "other-20260101-111111"):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
        (folder / "experiment.toml").write_text("")
    return tmp_path


def _environment(home: Path) -> dict[str, str]:
    scripts = Path(sys.executable).parent
    return {
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "HOME": str(home),
        "BOARDFRONT_FLEET": str(home / "fleet.toml"),
        "TERM": "dumb",
    }


def _bash(home: Path, *words: str) -> list[str]:
    done = subprocess.run(
        [shutil.which("bash") or "bash", "--norc", "-c", _ASK_BASH, "bash", *words],
        cwd=home,
        env=_environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("mea",), ["measure"]),
        (("device", "ro"), ["rotate"]),
        (("measure", "--dev"), ["--device"]),
        (("measure", "--device", ""), ["local", "rock5b", "pi5"]),
        (("device", "remove", "p"), ["pi5"]),
        (("measure", "--space", "s"), ["spos"]),
        (("table", "build", "--backend", "t"), ["torch", "tvm"]),
        (("search", "--resume", "quick"), ["quickstart-20260101-101010"]),
        (("report", "lat"), ["latest"]),
        (("plot", "latest", "fr"), ["front"]),
        (("export", "--pick", "f"), ["fastest"]),
        (("measure", "--task", "training"), ["training-step", "training-step-graph"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bash_offers_what_there_is(home: Path, words: tuple[str, ...], offered: list[str]) -> None:
    assert _bash(home, "boardfront", *words) == offered


def test_a_fleet_file_with_a_mistake_offers_this_machine_and_prints_nothing(home: Path) -> None:
    (home / "fleet.toml").write_text("[device.rock5b\n")
    assert _bash(home, "boardfront", "measure", "--device", "") == ["local"]


def test_no_runs_offer_nothing(home: Path) -> None:
    shutil.rmtree(home / "runs")
    assert _bash(home, "boardfront", "search", "--resume", "") == []


def test_tab_in_an_interactive_bash(home: Path) -> None:
    (home / "setup").write_text(
        "eval \"$(_BOARDFRONT_COMPLETE=source_bash boardfront)\"\nPS1='> '"
    )
    command = [shutil.which("bash") or "bash", "--rcfile", str(home / "setup"), "-i"]
    with _terminal(command, home) as (keys, screen):
        screen.wait_for("> ")
        os.write(keys, b"echo ready; boardfront measure --device roc\t")
        screen.wait_for("rock5b ")


def test_zsh_is_told_words_with_their_meaning(home: Path) -> None:
    environment = {
        **_environment(home),
        "_BOARDFRONT_COMPLETE": "complete_zsh",
        "_TYPER_COMPLETE_ARGS": "boardfront device remove ",
    }
    told = _boardfront(environment, home)
    assert told.startswith("_arguments '*: :((")
    assert '"rock5b":"192.168.1.20 50051"' in told


def test_fish_is_told_words_with_their_meaning(home: Path) -> None:
    environment = {
        **_environment(home),
        "_BOARDFRONT_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": "boardfront measure --backend o",
    }
    assert _boardfront(environment, home) == "onnxruntime\tONNX Runtime\n"


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_itself(home: Path) -> None:
    code = (
        "_BOARDFRONT_COMPLETE=source_fish boardfront | source; "
        "complete --do-complete 'boardfront device remove '"
    )
    done = subprocess.run(
        [shutil.which("fish") or "fish", "--no-config", "-c", code],
        cwd=home,
        env=_environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == {"rock5b", "pi5"}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_tab_in_an_interactive_zsh(home: Path) -> None:
    (home / ".zshrc").write_text(
        "autoload -Uz compinit; compinit -u\n"
        'eval "$(_BOARDFRONT_COMPLETE=source_zsh boardfront)"\nPS1="> "\n'
    )
    with _terminal([shutil.which("zsh") or "zsh", "-i"], home) as (keys, screen):
        screen.wait_for("> ")
        os.write(keys, b"boardfront device remove roc\t")
        screen.wait_for("rock5b")


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bash_completions/boardfront.sh"),
        ("zsh", ".zfunc/_boardfront"),
        ("fish", ".config/fish/completions/boardfront.fish"),
    ],
)
def test_installing(home: Path, shell: str, file: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    # The shell around the command is what is installed for: it must not replace itself by it.
    done = subprocess.run(
        [shell, "-c", "boardfront --install-completion; true"],
        cwd=home,
        env=_environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert f"{shell} completion installed in {home / file}" in done.stdout
    assert "boardfront" in (home / file).read_text()


def test_what_is_offered_is_what_there_is() -> None:
    assert set(OWN_BACKENDS) == set(backends._OWN)
    assert set(PLOTS) == {*KINDS, "residual"}
    assert set(PICKS) == {pick.KNEE, pick.FASTEST, pick.BEST}


def _boardfront(environment: dict[str, str], folder: Path) -> str:
    return subprocess.run(
        [str(Path(sys.executable).parent / "boardfront")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


class _Screen:
    """What came out of a terminal so far."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._text = ""

    def wait_for(self, wanted: str, within_s: float = 60.0) -> None:
        deadline_s = time.monotonic() + within_s
        while wanted not in self._text:
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"expected {wanted!r}, got {self._text!r}"
            if select.select([self._terminal], [], [], left_s)[0]:
                self._text += os.read(self._terminal, 65536).decode(errors="replace")
        self._text = self._text.partition(wanted)[2]


class _terminal:  # noqa: N801 - used like a function
    """A program at a terminal of its own."""

    def __init__(self, command: list[str], home: Path) -> None:
        self._command = command
        self._home = home

    def __enter__(self) -> tuple[int, _Screen]:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            self._command,
            cwd=self._home,
            env=_environment(self._home),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        return self._ours, _Screen(self._ours)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)
