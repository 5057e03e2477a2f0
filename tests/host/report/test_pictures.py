"""Pictures of the page for the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boardfront.host.report.pictures import find_browser, save_plots, save_screens

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.run_folder import RunFolder


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(find_browser() is None, reason="no Chromium: apt-get install chromium")
def test_pictures_for_the_documentation(whole: RunFolder, tmp_path: Path) -> None:
    html, *screens = save_screens(whole, tmp_path)
    assert html.read_text().startswith("<!doctype html>")
    assert [one.name for one in screens] == ["report-light.png", "report-dark.png"]
    assert all(one.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for one in screens)
    assert screens[0].read_bytes() != screens[1].read_bytes()
    assert len(save_plots(whole, tmp_path)) == 8
