from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from boardfront.host.finalists import WholeTime, combine
from boardfront.host.front import (
    FrontMember,
    FrontReport,
    OrderAgreement,
    order_agreement,
    summary,
    table_rows,
    to_json,
    write_csv,
    write_json,
)
from boardfront.latency_models.base import Measurement
from boardfront.latency_models.key import TimeKey
from boardfront.protos.records import (
    Failure,
    FailureKind,
    Purpose,
    Task,
    Verdict,
)
from boardfront.search.evaluation import EvaluationFailure, Latency
from boardfront.search.space import Counts

if TYPE_CHECKING:
    from pathlib import Path


def _latency(
    median_s: float, half_s: float = 0.0, verdict: Verdict = Verdict.OK, number: int = 1
) -> Latency:
    return Latency(
        median_s=median_s,
        low_s=median_s - half_s,
        high_s=median_s + half_s,
        verdict=verdict,
        measurement_id=number,
    )


def _member(index: int, searched: Latency, whole: Latency | None) -> FrontMember:
    failure = None if whole else EvaluationFailure(message="went up in smoke")
    return FrontMember(
        index=index,
        encoding=f"net{index}",
        counts=Counts(params=4384, macs=31616, activations=2752),
        validation_accuracy=0.5,
        test_accuracy=0.25,
        searched={"pi": searched},
        whole={"pi": WholeTime(encoding=f"net{index}", latency=whole, failure=failure)},
        model=f"models/{index:02d}-net{index}.onnx",
    )


def _report(*members: FrontMember) -> FrontReport:
    return FrontReport(
        name="toy",
        targets=("pi",),
        evaluations=7,
        failures=1,
        members=members,
        agreement={"pi": order_agreement(members, "pi")},
    )


@pytest.mark.parametrize(
    ("searched", "whole", "expected"),
    [
        (
            (_latency(1.0), _latency(2.0), _latency(3.0)),
            (_latency(1.1), _latency(2.1), _latency(3.1)),
            OrderAgreement(same=3, within=0, broken=0),
        ),
        (
            (_latency(1.0), _latency(2.0)),
            (_latency(2.0), _latency(1.0)),
            OrderAgreement(same=0, within=0, broken=1),
        ),
        (
            (_latency(1.0, 0.6), _latency(2.0, 0.6)),
            (_latency(2.0), _latency(1.0)),
            OrderAgreement(same=0, within=1, broken=0),
        ),
        (
            (_latency(1.0), _latency(2.0)),
            (_latency(2.0, 0.5), _latency(1.0, 0.5)),
            OrderAgreement(same=0, within=1, broken=0),
        ),
        (
            (_latency(1.0), _latency(1.0)),
            (_latency(2.0), _latency(1.0)),
            OrderAgreement(same=0, within=1, broken=0),
        ),
        (
            (_latency(1.0), _latency(2.0)),
            (_latency(1.0), None),
            OrderAgreement(same=0, within=0, broken=0),
        ),
    ],
    ids=["same", "broken", "searched-overlap", "whole-overlap", "tied", "failed"],
)
def test_order_agreement(
    searched: tuple[Latency, ...], whole: tuple[Latency | None, ...], expected: OrderAgreement
) -> None:
    pairs = zip(searched, whole, strict=True)
    members = [_member(i, before, after) for i, (before, after) in enumerate(pairs)]
    assert order_agreement(members, "pi") == expected
    assert order_agreement(members, "elsewhere") == OrderAgreement(same=0, within=0, broken=0)


def test_the_csv_leaves_out_what_is_not_known(tmp_path: Path) -> None:
    report = _report(
        _member(0, _latency(0.001), _latency(0.0011, 0.0001, Verdict.DRIFTED)),
        _member(1, _latency(0.002), None),
    )
    write_csv(tmp_path / "front.csv", report)
    with (tmp_path / "front.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert float(first["pi_searched_s"]) == 0.001
    assert float(first["pi_median_s"]) == 0.0011
    assert float(first["pi_low_s"]) == pytest.approx(0.001)
    assert first["pi_verdict"] == "drifted"
    assert (second["pi_median_s"], second["pi_low_s"], second["pi_verdict"]) == ("", "", "failed")
    assert second["model"] == "models/01-net1.onnx"
    assert list(tmp_path.iterdir()) == [tmp_path / "front.csv"]


def test_the_json_is_the_report(tmp_path: Path) -> None:
    report = _report(_member(0, _latency(0.001), _latency(0.0011)))
    write_json(tmp_path / "front.json", report)
    content = json.loads((tmp_path / "front.json").read_text())
    assert content == to_json(report)
    assert content["format"] == 1
    assert content["agreement"]["pi"] == {"same": 0, "within": 0, "broken": 0}
    assert content["members"][0]["whole"]["pi"]["latency"]["median_s"] == 0.0011


def test_people_are_told_what_is_wrong() -> None:
    report = _report(
        _member(0, _latency(0.001, verdict=Verdict.CONTENDED), _latency(0.0011)),
        _member(1, _latency(0.002), None),
    )
    lines = summary(report)
    assert lines[0] == "7 candidates scored, 1 failed, 2 on the front"
    assert "member 1 could not be re-measured on pi: went up in smoke" in lines
    headings, rows = table_rows(report, target="pi")
    assert all(len(row) == len(headings) for row in rows)
    assert rows[0][:4] == ("0", "net0", "4.38 k", "31.6 k")
    assert "1.000 ms (contended)" in rows[0]
    assert rows[1][-3:] == ("-", "-", "failed")


def _failed() -> Measurement:
    return Measurement(
        created_unix_s=0.0,
        key=TimeKey(
            structure_hash="0" * 64,
            task=Task(),
            fingerprint="f",
            backend="fake",
            backend_version="1",
        ),
        device_id="d",
        device_name="d",
        agent_version="0",
        job_id="j",
        subject_id="s0",
        purpose=Purpose.FINALIST,
        outcome=Failure(kind=FailureKind.OUT_OF_MEMORY, message="no room"),
    )


def test_combine_takes_the_middle_and_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    gists = [
        _latency(0.9, 0.05, number=1),
        _latency(1.0, 0.3, Verdict.DRIFTED, number=2),
        _latency(1.4, 0.05, Verdict.UNSTABLE, number=3),
    ]
    left = iter(gists)
    monkeypatch.setattr(Latency, "of", lambda _: next(left))
    ok = [_NoFailure()] * 3
    whole = combine("net", ok, target="pi")  # type: ignore[arg-type]
    assert whole.latency == Latency(
        median_s=1.0, low_s=0.7, high_s=1.45, verdict=Verdict.DRIFTED, measurement_id=2
    )
    assert whole.process_medians_s == (0.9, 1.0, 1.4)
    assert whole.measurement_ids == (1, 2, 3)


class _NoFailure:
    failure = None


def test_one_failed_process_fails_the_finalist() -> None:
    whole = combine("net", [_failed()], target="pi")
    assert whole.latency is None
    assert whole.failure == EvaluationFailure(
        message="no room", kind=FailureKind.OUT_OF_MEMORY, target="pi"
    )
