"""Backends by name: a third party's is found, a taken name is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import install_rough

from boardfront.device_agent.backends import catalog
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_third_partys_backend_is_known_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_rough(tmp_path)
    assert "rough" not in catalog.places()
    monkeypatch.syspath_prepend(tmp_path)
    assert catalog.places()["rough"] == "boardfront_rough:RoughBackend"


def test_a_name_registered_twice_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_rough(tmp_path)
    points = tmp_path / "boardfront_rough-0.9.dist-info" / "entry_points.txt"
    points.write_text(points.read_text().replace("rough =", "fake ="))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WrongInputError, match=r"'fake' is registered twice.*boardfront_rough"):
        catalog.places()
