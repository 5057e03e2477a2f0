"""Predicted and measured times of networks, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.latency_models.table import NetworkRole

if TYPE_CHECKING:
    from boardfront.host.report.findings import Findings
    from boardfront.latency_models.table import Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A network's predicted and measured time.

    Args:
        key: Links the point to its row; empty links nothing.
        name: Of the network.
        series: What kind of pair it is.
        predicted_s: What was said before.
        measured_s: What the device said.
        low_s: Of the measured time's 95 % interval.
        high_s: Of that interval.
        predicted_low_s: Of the predicted time's 95 % interval; None where it has none.
        predicted_high_s: Of that interval.
    """

    key: str
    name: str
    series: str
    predicted_s: float
    measured_s: float
    low_s: float
    high_s: float
    predicted_low_s: float | None = None
    predicted_high_s: float | None = None

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted_s / self.measured_s - 1

    @property
    def words(self) -> str:
        """The pair for people."""
        interval = ""
        if self.predicted_low_s is not None and self.predicted_high_s is not None:
            between = text.format_interval(self.predicted_low_s, self.predicted_high_s)
            interval = f" ({between})"
        return (
            f"{self.name}: predicted {text.format_time(self.predicted_s)}{interval}, measured "
            f"{text.format_time(self.measured_s)} "
            f"({text.format_interval(self.low_s, self.high_s)}), off by {self.error:+.1%}"
        )


def member_pairs(found: Findings, target: str) -> list[Pair]:
    """Return the searched and the re-measured times of a front on one target."""
    return [
        Pair(
            key=str(member.candidate.index),
            name=f"member {member.index} {member.candidate.encoding}",
            series=time.measured.word,
            predicted_s=time.predicted_s,
            measured_s=time.measured.median_s,
            low_s=time.measured.low_s,
            high_s=time.measured.high_s,
            predicted_low_s=time.predicted_low_s,
            predicted_high_s=time.predicted_high_s,
        )
        for member in found.members
        if (time := member.times[target]).measured is not None and time.predicted_s is not None
    ]


def table_pairs(table: Table) -> list[Pair]:
    """Return a latency table's predictions of its whole networks, beside their times."""
    series = {NetworkRole.HELD_OUT: "held out", NetworkRole.CALIBRATION: "calibrated on"}
    return [
        Pair(
            key="",
            name=one.encoding,
            series=series[one.role],
            predicted_s=table.predict_s(one.decomposition),
            measured_s=one.time_s,
            low_s=one.low_s,
            high_s=one.high_s,
        )
        for one in table.networks
        if table.covers(one.decomposition)
    ]
