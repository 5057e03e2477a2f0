"""Every command and code block of README.md and docs/ is what it says."""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest
from tests.docs.blocks import ROOT, Block, blocks_of, pages
from tests.docs.command_lines import (
    check_bash,
    check_boardfront_in_prose,
    check_command,
    programs,
)
from tests.docs.world import BOARDS, World, board_agents, fleet_text, read_data

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = pages()
_IN_PROSE = re.compile(r"`(boardfront [^`]+)`")
_EXTRAS_OF = {
    "boardfront report": "report",
    "boardfront plot": "report",
    "boardfront-agent enroll": "secure",
}
_INSTALLED = re.compile(r"(?:boardfront|[`.])\[([a-z0-9,]+)\]")
_NEEDS_A_RUN = re.compile(r"\blatest\b|boardfront (?:runs|store)|runs/")


@pytest.fixture(autouse=True)
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiments are read with the boards that the pages speak of; nobody answers there."""
    path = tmp_path / "known" / "fleet.toml"
    path.parent.mkdir()
    path.write_text(fleet_text(dict.fromkeys(BOARDS, "127.0.0.1:1")))
    monkeypatch.setenv("BOARDFRONT_FLEET", str(path))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)])
def test_blocks_can_be_read(page: str) -> None:
    for block in blocks_of(page):
        with _told(block):
            _check(block)


@contextlib.contextmanager
def _told(block: Block) -> Iterator[None]:
    """Name the block in what fails inside."""
    try:
        yield
    except Exception as problem:
        raise AssertionError(f"{block.where}: {problem}") from problem


def _check(block: Block) -> None:
    if block.language == "console":
        assert block.commands, "a console block without a prompt: write `$ ` before commands"
    else:
        assert not re.search(r"^[a-z]*\$ |^boardfront ", block.text, re.MULTILINE), (
            "commands in a block that is no console block"
        )
    for command in block.commands:
        check_command(command.text)
        names = [words[0] for words in programs(command.text)]
        # Newer Debians and Raspberry Pi OS refuse to install for the whole system.
        assert command.who not in {"board", "gpu"} or "pip" not in names, (
            f"{command.text}: a board's own pip refuses: make a venv and name its pip"
        )
    if block.language == "python":
        ast.parse(block.text)
    elif block.language in {"bash", "sh"}:
        check_bash(block.text)
    else:
        read_data(block)


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_sentences_exist(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for found in _IN_PROSE.findall(text.replace("\n", " ")):
        check_boardfront_in_prose(shlex.split(found)[1:])


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_the_extras_that_its_commands_need(page: str) -> None:
    named = _extras((ROOT / page).read_text())
    for block in blocks_of(page):
        for command in block.commands:
            for words in programs(command.text):
                extra = _EXTRAS_OF.get(" ".join([words[0].rpartition("/")[2], *words[1:2]]))
                assert extra in {None, *named}, f"{block.where}: {command.text}: needs {extra!r}"


def test_make_installs_what_the_tutorial_does() -> None:
    _, _, recipe = (ROOT / "Makefile").read_text().partition("$(VENV)/.host: ")
    assert _extras(recipe.partition("@touch")[0]) == _extras(
        (ROOT / "docs" / "tutorial.md").read_text()
    )


def _extras(text: str) -> set[str]:
    return {extra for found in _INSTALLED.findall(text) for extra in found.split(",")}


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("boards")
    with board_agents(folder, {"OMP_NUM_THREADS": "1"}) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, boards: dict[str, str]) -> Path:
    """The folder of a person who has made one search."""
    folder = tmp_path_factory.mktemp("finished")
    world = World(folder, boards)
    world.furnish()
    with world:
        code, said = world._boardfront(["search", "examples/quickstart.toml"])
    assert code == 0, said
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.kind == "run" for b in blocks_of(page))]
)
def test_blocks_run(
    page: str, tmp_path: Path, boards: dict[str, str], kept: Path, request: pytest.FixtureRequest
) -> None:
    blocks = blocks_of(page)
    if any(_NEEDS_A_RUN.search(b.text) for b in blocks if b.kind == "run"):
        shutil.copytree(request.getfixturevalue("finished"), tmp_path, dirs_exist_ok=True)
    world = World(tmp_path, boards, kept)
    if not (tmp_path / "fleet.toml").exists():
        world.furnish()
    with world:
        for block in blocks:
            with _told(block):
                said = world.do(block)
                for pattern in block.shows:
                    found = re.search(pattern, said, re.MULTILINE)
                    assert found, f"expected {pattern!r} in:\n{said}"
