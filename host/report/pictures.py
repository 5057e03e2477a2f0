"""Pictures of a report for the documentation: its plots, and the page as a browser shows it."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from boardfront.host.report.page import in_page, page, report
from boardfront.host.report.plots import plots
from boardfront.host.report.reading import read_findings
from boardfront.host.report.theme import PAPER
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.run_folder import RunFolder

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_WIDTH, _HEIGHT = 1280, 800
_PATIENCE_MS = 120_000.0


class NoBrowserError(BoardfrontError):
    """There is no Chromium on this machine."""

    def __init__(self) -> None:
        super().__init__(
            "expected a Chromium to take pictures of the page, got none: "
            "run apt-get install chromium"
        )


def find_browser() -> str | None:
    """Return the path of this machine's Chromium, or None."""
    return next((path for name in _BROWSERS if (path := shutil.which(name))), None)


def save_plots(folder: RunFolder, into: Path) -> tuple[Path, ...]:
    """Write every plot of a run as SVG; needs no browser.

    Args:
        folder: The run's.
        into: A folder that is there.

    Returns:
        `into`/report-NAME.svg of each.
    """
    written = []
    for plot in (one for each in plots(read_findings(folder)).values() for one in each):
        path = into / f"report-{plot.name}.svg"
        path.write_text(plot.svg(PAPER), encoding="utf-8")
        written.append(path)
    return tuple(written)


def save_screens(folder: RunFolder, into: Path) -> tuple[Path, ...]:
    """Write the page and what a browser shows of its first screen, light and dark.

    Args:
        folder: The run's.
        into: A folder that is there.

    Returns:
        `into`/report.html, report-light.png, report-dark.png.

    Raises:
        NoBrowserError: There is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    found = find_browser()
    if found is None:
        raise NoBrowserError
    file = into / "report.html"
    file.write_text(page(report(read_findings(folder), in_page), time.time()), encoding="utf-8")
    written = [file]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        shown.set_default_timeout(_PATIENCE_MS)
        for is_dark in (False, True):
            scheme = "dark" if is_dark else "light"
            shown.emulate_media(color_scheme="dark" if is_dark else "light")
            shown.goto(file.resolve().as_uri())
            written.append(into / f"report-{scheme}.png")
            shown.screenshot(path=written[-1])
        browser.close()
    return tuple(written)
