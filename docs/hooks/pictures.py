"""Pictures of the monitor and of the report, made anew at each build by the code that they show.

They show a run that a seeded generator wrote, so that a picture changes only with the code.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_LOG = logging.getLogger("mkdocs.hooks.pictures")
_PLOTS = ("front", "hypervolume", "predicted")


def make(into: Path) -> dict[str, Path]:
    """Make all pictures.

    Args:
        into: An empty folder.

    Returns:
        Their places in the site, and where they are.
    """
    sys.path.insert(0, str(_ROOT))
    from tests.host.tui import fleets, sample

    from boardfront.host.commands import plot, report
    from boardfront.host.tui.fleet_app import FleetApp
    from boardfront.host.tui.pictures import SIZES, picture_of, save_pictures

    (into / "sample").mkdir()
    run = sample.make(into / "sample", ended=True)
    made = {}
    for path in save_pictures(run, into, fleet=sample.FLEET, keys=("down",) * 3):
        made[f"pictures/{path.name}"] = path
    boards = into / "devices-80x24.svg"
    screen = FleetApp(lambda: fleets.FLEET)
    boards.write_text(
        picture_of(screen, SIZES[0], title="boardfront devices --watch", keys=("down",)),
        encoding="utf-8",
    )
    made[f"pictures/{boards.name}"] = boards
    page = into / "report.html"
    report.run(report.ReportArguments(names=(str(run.path),), runs=into, output=page))
    made["pictures/report.html"] = page
    for kind in _PLOTS:
        drawn = into / f"{kind}.svg"
        plot.run(
            plot.PlotArguments(
                subjects=(str(run.path),),
                kind=kind,
                runs=into,
                output=drawn,
                target="",
                scale=2.0,
            )
        )
        made[f"pictures/{kind}.svg"] = drawn
    for scheme in ("light", "dark"):
        made[f"pictures/report-{scheme}.png"] = _photograph(page, scheme)
    return made


def _photograph(page: Path, scheme: str) -> Path:
    """Let a browser draw the top of the report; without one take the plot of the front."""
    browser = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    )
    picture = page.with_name(f"report-{scheme}.png")
    if browser is None:
        _LOG.info("no chromium: the picture of the report is its first plot alone")
        from boardfront.host.commands import plot

        found = next((page.parent / "sample").glob("**/run.json")).parent
        plot.run(
            plot.PlotArguments(
                subjects=(str(found),),
                kind="front",
                runs=page.parent,
                output=picture,
                target="",
                scale=2.0,
            )
        )
        return picture
    subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(
                ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")
                if scheme == "dark"
                else ("--blink-settings=preferredColorScheme=1",)
            ),
            "--virtual-time-budget=8000",
            "--window-size=1200,1500",
            f"--user-data-dir={page.parent / 'profile'}",
            f"--screenshot={picture}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return picture
