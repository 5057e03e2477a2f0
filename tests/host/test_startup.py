"""How little is read to say what the commands are. Function, not speed: benchmarks/startup.py."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import typer.main

from boardfront.host.app import app
from boardfront.host.app_needed import needed_group

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAVY = (
    *("torch", "numpy", "onnx", "onnxruntime", "grpc", "sklearn", "pymoo", "scipy", "pandas"),
    *("sqlalchemy", "alembic", "cryptography", "rich", "textual", "altair", "tomlkit", "pyarrow"),
    *("google.protobuf", "asyncio", "mlflow", "tensorboard"),
)
_SAYS_WHAT_IS_LOADED = """
import contextlib, io, json, sys
from boardfront.host.cli import main
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = main(line)
    assert code == 0 and "Usage: boardfront" in said.getvalue(), line
print(json.dumps(sorted(sys.modules)))
"""


def _loaded(*lines: list[str]) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _SAYS_WHAT_IS_LOADED, json.dumps(lines)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return set(json.loads(done.stdout))


def _commands(group: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = getattr(group, "commands", {})
    yield path
    for name, command in inner.items():
        yield from _commands(command, (*path, name))


def test_help_reads_the_command_line_library_and_nothing_else() -> None:
    loaded = _loaded(["--help"])
    # typer reads pydantic when it has a value to check; --help has none.
    assert not loaded & {*_HEAVY, "pydantic"}
    ours = {name for name in loaded if name.startswith("boardfront.")}
    allowed = ("boardfront.host.app", "boardfront.host.cli", "boardfront.host.complete")
    others = {name for name in ours if not name.startswith(allowed)}
    assert others == {
        "boardfront.host",
        "boardfront.host.paths",
        "boardfront.protos",
        "boardfront.protos.errors",
    }


def test_no_commands_help_reads_what_the_command_needs_to_work() -> None:
    lines = [[*path, "--help"] for path in _commands(typer.main.get_command(app))]
    assert ["device", "add", "--help"] in lines
    assert ["measure", "--help"] in lines
    assert not _loaded(*lines) & set(_HEAVY)


def test_help_fits_a_screen() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "boardfront.host.cli", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"COLUMNS": "80", "LINES": "24"},
    )
    lines = done.stdout.splitlines()
    assert len(lines) <= 23  # and the prompt below
    assert max(map(len, lines)) <= 80
    assert "..." not in done.stdout.partition("Commands:")[2]


def test_every_command_is_told_in_one_line() -> None:
    cut = []
    for path in _commands(typer.main.get_command(app)):
        group = _group_at(path)
        names = getattr(group, "commands", {})
        room = 80 - 6 - max(map(len, names), default=0)
        cut += [
            (*path, name)
            for name, command in names.items()
            if command.get_short_help_str(room).endswith("...")
        ]
    assert not cut


def _group_at(path: tuple[str, ...]) -> object:
    found: object = typer.main.get_command(app)
    for name in path:
        found = getattr(found, "commands", {})[name]
    return found


@pytest.mark.parametrize(
    ("arguments", "whole"),
    [
        (["measure", "net.onnx"], {("measure",)}),
        (["device", "add", "a:1"], {("device", "add")}),
        (["--help"], set()),
    ],
)
def test_only_what_is_called_is_built(arguments: list[str], whole: set[tuple[str, ...]]) -> None:
    built = needed_group(app, arguments)
    everything = typer.main.get_command(app)
    assert {path for path in _commands(built) if _has_options(built, path)} == whole
    assert list(built.commands) == list(everything.commands)  # type: ignore[attr-defined]


def _has_options(group: object, path: tuple[str, ...]) -> bool:
    for name in path:
        group = getattr(group, "commands", {})[name]
    return not hasattr(group, "commands") and bool(getattr(group, "params", ()))


def test_a_group_without_its_command_says_which_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "boardfront.host.cli", "space"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "\n  list  List the search spaces" in done.stderr
