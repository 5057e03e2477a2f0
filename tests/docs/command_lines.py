"""What a command line in the documentation must be, without running it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer
import typer.main
from tests.docs.blocks import ROOT

from boardfront.device_agent.cli import _parser as agent_parser
from boardfront.host.app import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_GROUP = typer.main.get_command(app)
_OPERATORS = {"&&", "||", "|", ";", "&"}
_REDIRECTS = {">", ">>", "<", "2>", "&>"}
_EXTRAS = re.compile(r"boardfront\[([^\]]+)\]")


def check_bash(text: str) -> None:
    """Let bash read it."""
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-n"],
        input=text,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def check_command(text: str) -> None:
    """Check each program in a line that is ours, and what is installed by pip and make."""
    check_bash(text)
    for words in programs(text):
        name, arguments = Path(words[0]).name, words[1:]
        if name == "boardfront":
            check_boardfront(arguments)
        elif name == "boardfront-agent":
            check_agent(arguments)
        elif name == "make":
            _check_make(arguments)
        elif name == "pip":
            _check_extras(arguments)


def programs(text: str) -> Iterator[list[str]]:
    """Yield the words of each program in a line, `sudo` and variables in front left out."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if token in _OPERATORS:
            if words:
                yield _without_prefix(words)
            words = []
        else:
            words.append(token)


def _without_prefix(words: list[str]) -> list[str]:
    redirect = next((i for i, word in enumerate(words) if word in _REDIRECTS), len(words))
    words = words[:redirect]
    while len(words) > 1 and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if words[0] == "sudo":
        words = words[1:]
        if words[0] == "-u":
            words = words[2:]
    return words


def check_boardfront(arguments: Sequence[str]) -> None:
    """Parse the line as the command does, values and all."""
    words = [word for word in arguments if word != "--debug"]
    command: object = _GROUP
    path = ["boardfront"]
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        assert words[0] in command.commands, f"{' '.join(path)} has no command {words[0]!r}"
        command = command.commands[words[0]]
        path.append(words.pop(0))
    if hasattr(command, "commands"):
        # Of the whole program there are only options that act at once, e.g. install completion.
        known = {"--help", *(name for one in _GROUP.params for name in one.opts)}
        assert set(words) <= known, f"{' '.join(path)}: unknown {set(words) - known}"
        return
    try:
        command.make_context(" ".join(path), list(words))  # type: ignore[attr-defined]
    except typer.TyperException as problem:
        raise AssertionError(f"{' '.join(path)}: {problem.format_message()}") from problem
    except typer.Exit as done:  # --help
        if done.exit_code != 0:
            raise


def check_boardfront_in_prose(arguments: Sequence[str]) -> None:
    """Check that the command and the options named in a sentence exist; values may be missing."""
    command: object = _GROUP
    words = [word for word in arguments if word not in {"--debug", "..."}]
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, f"no command {words[0]!r} in {list(arguments)}"
        command = command.commands[words.pop(0)]
    known = {"--help"}
    for parameter in getattr(command, "params", ()):
        known.update(parameter.opts, parameter.secondary_opts)
    unknown = [w for w in words if re.match(r"--?[a-z]", w) and w.split("=")[0] not in known]
    assert not unknown, f"{unknown} in {list(arguments)}: known are {sorted(known)}"


def check_agent(arguments: Sequence[str]) -> None:
    """Parse the line as the agent does."""
    try:
        agent_parser().parse_args(list(arguments))
    except SystemExit as done:
        if done.code != 0:
            raise AssertionError(f"boardfront-agent {' '.join(arguments)}") from done


def _check_make(arguments: Sequence[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(arguments) <= set(targets), f"make {arguments}: there are {targets}"


def _check_extras(arguments: Sequence[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {
        extra
        for argument in arguments
        for found in _EXTRAS.findall(argument)
        for extra in found.split(",")
    }
    unknown = asked - set(project["optional-dependencies"])
    assert not unknown, f"no extras {unknown} in pyproject.toml"
