"""A front whose times were predicted says so, how far they were off, and what is over a limit."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from boardfront.host.finalists import WholeTime
from boardfront.host.front import (
    FrontMember,
    FrontReport,
    TableUse,
    order_agreement,
    summary,
    table_rows,
    to_json,
    write_csv,
    write_report,
)
from boardfront.latency_models.table_finalists import FinalistTime, Usage, judge
from boardfront.protos.records import Verdict
from boardfront.search.evaluation import Latency
from boardfront.search.space import Counts

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_S = 0.00205


def _member(index: int, predicted_s: float, measured_s: float) -> FrontMember:
    predicted = Latency(
        median_s=predicted_s, low_s=0.96 * predicted_s, high_s=1.04 * predicted_s, predicted=True
    )
    measured = Latency(
        median_s=measured_s,
        low_s=0.99 * measured_s,
        high_s=1.01 * measured_s,
        verdict=Verdict.OK,
        measurement_id=index,
        raw_median_s=1.2 * measured_s,
    )
    return FrontMember(
        index=index,
        encoding=f"net{index}",
        counts=Counts(params=4384, macs=31616, activations=2752),
        validation_accuracy=0.5,
        test_accuracy=0.25,
        searched={"pi": predicted},
        whole={"pi": WholeTime(encoding=f"net{index}", latency=measured)},
        over_limit=("pi",) if measured_s > LIMIT_S else (),
        limits_s={"pi": LIMIT_S},
    )


MEMBERS = (_member(0, 0.001, 0.001), _member(1, 0.002, 0.0021), _member(2, 0.002, 0.0025))


def _report(level: float = 1.0) -> FrontReport:
    finalists = [
        FinalistTime(
            encoding=one.encoding,
            predicted_s=one.searched["pi"].median_s,
            low_s=one.searched["pi"].low_s,
            high_s=one.searched["pi"].high_s,
            measured_s=whole.median_s,
            over_limit=bool(one.over_limit),
        )
        for one in MEMBERS
        if (whole := one.whole["pi"].latency) is not None
    ]
    usage = Usage(
        run="toy",
        target="pi",
        measured_unix_s=0.0,
        table_digest="d",
        model="additive, calibrated",
        level=level,
        forced=("clocks changed",),
    )
    use = TableUse(
        name="pi.json",
        model="additive, calibrated",
        model_mape=0.021,
        residual_mape=0.02,
        finalists=judge(usage, finalists),
    )
    return FrontReport(
        name="toy",
        targets=("pi",),
        evaluations=7,
        failures=1,
        members=MEMBERS,
        agreement={"pi": order_agreement(MEMBERS, "pi")},
        tables={"pi": use},
    )


def test_predicted_and_measured_stand_beside_each_other() -> None:
    headings, rows = table_rows(_report(), target="pi")
    assert headings[6:] == ("predicted", "re-measured", "off by", "95 % interval", "verdict")
    assert [row[6:9] for row in rows] == [
        ("1.000 ms +-4.0%", "1.000 ms", "+0.0%"),
        ("2.000 ms +-4.0%", "2.100 ms", "-4.8%"),
        ("2.000 ms +-4.0%", "2.500 ms", "-20.0%"),
    ]
    assert [row[-1] for row in rows] == [
        "ok",
        "ok, over limit by 2.4%",
        "ok, over limit by 22.0%",
    ]


def test_the_summary_counts_what_is_over_the_limit_and_what_predictions_were_worth() -> None:
    lines = summary(_report())
    assert "over the limit on pi: 2 of 3 (member 1 by 2.4%, member 2 by 22.0%)" in lines
    assert (
        "times on pi were predicted by additive, calibrated: off by 8.3% on 3 finalists (bias "
        "-8.3%, worst -20.0%, 1 inside their intervals), which were chosen by it; 2.1% on "
        "networks left out" in lines
    )
    assert "forced on pi: clocks changed" in lines
    assert not any("in the table on pi" in line for line in lines)


def test_an_error_at_another_level_is_told_too() -> None:
    (line,) = [one for one in summary(_report(level=1.05)) if "in the table on pi" in one]
    assert "took 1.050 times as long" in line
    # 5 %, 0 % and -16 %.
    assert "off by 7.0% (bias -3.7%)" in line


def test_without_a_measured_finalist_that_is_said() -> None:
    use = replace(_report().tables["pi"], finalists=None)
    (line, *_) = summary(replace(_report(), tables={"pi": use}))[2:]
    assert line == ("times on pi were predicted by additive, calibrated; no finalist was measured")


def test_files_have_the_mark_and_the_difference(tmp_path: Path) -> None:
    report = _report()
    write_csv(tmp_path / "front.csv", report)
    with (tmp_path / "front.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["pi_searched_verdict"] for row in rows] == ["predicted"] * 3
    assert float(rows[1]["pi_searched_low_s"]) == pytest.approx(0.00192)
    assert float(rows[1]["pi_difference"]) == pytest.approx(0.002 / 0.0021 - 1)
    assert [row["pi_over_limit"] for row in rows] == ["no", "yes", "yes"]
    content = to_json(report)
    assert content["members"][0]["searched"]["pi"]["predicted"] is True
    assert content["members"][0]["limits_s"] == {"pi": LIMIT_S}
    assert content["tables"]["pi"]["finalists"]["over_limit"] == 2
    write_report(tmp_path / "report.txt", report, folder="toy")
    assert "over the limit on pi: 2 of 3" in (tmp_path / "report.txt").read_text()
