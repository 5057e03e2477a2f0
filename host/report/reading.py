"""From a run's folder to what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.host.report.circumstances import read_surroundings
from boardfront.host.report.findings import Findings, find
from boardfront.host.report.shipped import read_shipped
from boardfront.host.view.follow import read_run

if TYPE_CHECKING:
    from boardfront.host.run_folder import RunFolder


def read_findings(folder: RunFolder) -> Findings:
    """Read all that a run's folder tells; nothing is locked or written.

    Raises:
        WrongInputError: Its experiment file or its journal cannot be read.
    """
    view = read_run(folder)
    shipped, missing = read_shipped(folder, [one.encoding for one in view.front])
    surroundings, unread = read_surroundings(folder.measurements)
    return find(view, shipped, surroundings, (*missing, *unread))
