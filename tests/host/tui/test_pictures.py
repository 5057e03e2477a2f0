"""What the screens look like. After a wanted change: --snapshot-update, and look at them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol
from xml.etree import ElementTree as ET

import pytest
from tests.host.tui import sample

from boardfront.host.tui.pictures import save_pictures

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from textual.app import App

    from boardfront.host.run_folder import RunFolder

SMALL = (80, 24)
LARGE = (160, 50)


class Compare(Protocol):
    def __call__(
        self, app: App[None], *, terminal_size: tuple[int, int], press: Iterable[str] = ()
    ) -> bool: ...


@pytest.mark.parametrize(
    "keys",
    [(), ("2", "down"), ("3",), ("4",), ("5",), ("enter",), ("question_mark",)],
    ids=["front", "candidates", "training", "devices", "log", "open", "help"],
)
def test_small(snap_compare: Compare, halfway: RunFolder, keys: tuple[str, ...]) -> None:
    assert snap_compare(sample.app_of(halfway), terminal_size=SMALL, press=keys)


def test_large(snap_compare: Compare, halfway: RunFolder) -> None:
    assert snap_compare(sample.app_of(halfway), terminal_size=LARGE, press=("down",) * 8)


def test_large_ended(snap_compare: Compare, ended: RunFolder) -> None:
    app = sample.app_of(ended)
    assert snap_compare(app, terminal_size=LARGE, press=("down", "down", "enter"))


def test_large_in_training(snap_compare: Compare, tmp_path: Path) -> None:
    app = sample.app_of(sample.epochs_only(tmp_path))
    assert snap_compare(app, terminal_size=LARGE)


def test_small_without_colour(
    snap_compare: Compare, halfway: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(sample.app_of(halfway), terminal_size=SMALL)


def test_pictures_for_documents(ended: RunFolder, tmp_path: Path) -> None:
    small, large = save_pictures(ended, tmp_path, fleet=sample.FLEET, keys=("down",))
    assert (small.name, large.name) == ("monitor-80x24.svg", "monitor-160x50.svg")
    for path in (small, large):
        drawn = path.read_text(encoding="utf-8")
        assert ET.fromstring(drawn).tag.endswith("svg")  # noqa: S314 - our own
        assert "url(" not in re.sub(r"url\(#[^)]*\)", "", drawn)
    assert "rock5b" in large.read_text(encoding="utf-8")
