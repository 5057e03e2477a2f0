"""Says at the end how the blocks of the documentation were tested, where they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the count."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    if any("tests/docs/test_blocks.py" in getattr(report, "nodeid", "") for report in reports):
        from tests.docs.blocks import summary

        terminalreporter.section("documentation")
        terminalreporter.write_line(summary())
