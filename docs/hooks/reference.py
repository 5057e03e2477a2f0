"""What mkdocs does beside reading the pages: the parts of the site that the code makes."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from command_reference import agent_page, boardfront_page
from experiment_reference import experiment_page
from mkdocs.structure.files import File
from pictures import make as make_pictures

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS: list[Path] = []
_MARK = re.compile(r"^ *<!-- (?:not run|beforehand|shows|exit code): .+? -->\n", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put all decisions into the menu."""
    decisions = sorted((_ROOT / "docs" / "decisions").glob("*.md"))
    pages = [f"decisions/{path.name}" for path in decisions]
    config.nav = _with(config.nav, pages)
    return config


def _with(nav: object, decisions: list[str]) -> object:
    if isinstance(nav, list):
        return [_with(entry, decisions) for entry in nav]
    if isinstance(nav, dict):
        return {
            title: decisions if place == "DECISIONS" else _with(place, decisions)
            for title, place in nav.items()
        }
    return nav


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that the code makes, and the examples."""
    made = {
        "reference/cli.md": boardfront_page(),
        "reference/agent-cli.md": agent_page(),
        "reference/experiment.md": experiment_page(),
        **{f"examples/{path.name}": path.read_text() for path in (_ROOT / "examples").iterdir()},
    }
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    _FOLDERS.append(Path(tempfile.mkdtemp(prefix="boardfront-docs-")))
    for name, path in make_pictures(_FOLDERS[-1]).items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_post_build(**_: object) -> None:
    """Remove what the pictures were copied from."""
    while _FOLDERS:
        shutil.rmtree(_FOLDERS.pop(), ignore_errors=True)


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Leave out what is for the tests; point links at the copies that the site has."""
    if page.file.src_uri in {"index.md", "tutorial.md"}:
        page.meta["hide"] = ["navigation"]  # a menu of one page
    above = "../" * page.file.src_uri.count("/")
    markdown = _MARK.sub("", markdown)
    return re.sub(r"\]\((?:\.\./)+examples/", f"]({above}examples/", markdown)
