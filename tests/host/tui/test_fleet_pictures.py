"""The fleet's screen looks as it did; after a wanted change run it with --snapshot-update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.host.tui.fleets import FLEET

from boardfront.host.tui.fleet_app import FleetApp

if TYPE_CHECKING:
    import pytest

SMALL = (80, 24)
LARGE = (160, 50)


def test_fleet_small(snap_compare: Any) -> None:
    assert snap_compare(FleetApp(lambda: FLEET), terminal_size=SMALL, press=["down"])


def test_fleet_large(snap_compare: Any) -> None:
    assert snap_compare(FleetApp(lambda: FLEET), terminal_size=LARGE, press=["down"])


def test_board_in_full(snap_compare: Any) -> None:
    app = FleetApp(lambda: FLEET)
    assert snap_compare(app, terminal_size=SMALL, press=["down", "enter"])


def test_fleet_without_colour(snap_compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(FleetApp(lambda: FLEET), terminal_size=SMALL, press=["down"])
