"""The reference is made of the code: nothing of it is left out, every key is explained."""

from __future__ import annotations

import importlib
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
from tests.docs.blocks import ROOT

from boardfront.host.app import app
from boardfront.host.experiment_file import ExperimentFile

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS = {"integer", "number"}


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What mkdocs does to import them."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "hooks"))


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, one in inner.items():
        yield from _leaves(one, (*path, name))


def test_every_command_and_option_is_in_the_reference() -> None:
    page = importlib.import_module("command_reference").boardfront_page()
    sections = dict(re.findall(r"^## (.+?) \{#.*?\}\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    leaves = dict(_leaves(typer.main.get_command(app), ("boardfront",)))
    assert [" ".join(path) for path in leaves] == list(sections)
    for path, command in leaves.items():
        text = sections[" ".join(path)]
        options = {opt for one in command.params for opt in (*one.opts, *one.secondary_opts)}
        missing = [o for o in options if o.startswith("-") and f"`{o}" not in text]
        assert not missing, path
        assert "boardfront " in text.partition("Example")[2], path


def test_every_agent_command_is_in_the_reference() -> None:
    page = importlib.import_module("command_reference").agent_page()
    for wanted in ("serve", "enroll", "describe", "doctor"):
        assert f"## boardfront-agent {wanted} " in page
    for wanted in ("--lock-clocks", "--listen", "--state"):
        assert wanted in page
    assert str(sys.prefix) not in page


def test_every_key_of_an_experiment_is_explained_with_its_unit() -> None:
    module = importlib.import_module("experiment_reference")
    keys = module.keys()
    numbers = {name for name, kinds in _types() if kinds & _NUMBERS}
    assert {name for name, _ in _types()} <= set(keys)
    assert not [name for name, (_, meaning) in keys.items() if not meaning]
    without = {name for name in numbers if not keys[name][0]}
    assert without == {"seed"}, "write the unit in brackets at the end of the key's docstring"


def test_the_experiment_page_has_types_and_defaults() -> None:
    page = importlib.import_module("experiment_reference").experiment_page()
    assert "| `precision` | number, over 0, below 1 | `0.03` | share |" in page
    assert "| `backend` | text | **needed** |" in page
    assert "| `start_below_c` | number |  | degrees Celsius |" in page


def _types() -> Iterator[tuple[str, set[str]]]:
    schema = ExperimentFile.model_json_schema()
    for name, content in schema["properties"].items():
        table = _table(content, schema)
        if table is None:
            yield name, _kinds(content)
            continue
        for key, inner in table["properties"].items():
            yield f"{name}.{key}", _kinds(inner)


def _table(content: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any] | None:
    places = (content, content.get("items", {}), *content.get("anyOf", ()))
    for one in places:
        if "$ref" in one:
            found: dict[str, Any] = schema["$defs"][one["$ref"].rpartition("/")[2]]
            return found
    return None


def _kinds(content: dict[str, Any]) -> set[str]:
    return {one.get("type", "") for one in (content, *content.get("anyOf", ()))}


def test_what_must_be_drawn_is_made_and_shown() -> None:
    shown = (ROOT / "docs" / "howto" / "watch.md").read_text()
    for name in (
        "monitor-80x24.svg",
        "monitor-160x50.svg",
        "devices-80x24.svg",
        "report-light.png",
        "report.html",
    ):
        assert f"pictures/{name}" in shown
