from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.latency_models import samples

from boardfront.host.finalists import RoundPlan, WholeTime, combine
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
from boardfront.latency_models.base import Measurement, ReferenceModel
from boardfront.latency_models.key import TimeKey
from boardfront.protos.records import (
    Failure,
    FailureKind,
    Normalised,
    Purpose,
    Result,
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


_PLAN = RoundPlan(target="pi", processes=3, job_seed="run")


def _process(median_s: float, half: float, verdict: Verdict, number: int) -> Measurement:
    outcome = samples.result(median_s=median_s, relative_half_width=half, verdict=verdict)
    return replace(samples.measurement(outcome), id=number, purpose=Purpose.FINALIST)


def test_combine_takes_the_middle_and_the_worst() -> None:
    processes = [
        _process(0.9, 0.05, Verdict.OK, 1),
        _process(1.0, 0.3, Verdict.DRIFTED, 2),
        _process(1.4, 0.05, Verdict.UNSTABLE, 3),
    ]
    whole = combine("net", processes, _PLAN)
    assert whole.latency is not None
    assert whole.latency.verdict is Verdict.DRIFTED
    assert whole.latency.measurement_id == 2
    assert (whole.latency.low_s, whole.latency.high_s) == pytest.approx((0.7, 1.47))
    assert whole.process_medians_s == (0.9, 1.0, 1.4)
    assert whole.measurement_ids == (1, 2, 3)


def test_with_a_reference_the_ratio_times_its_quiet_time_counts() -> None:
    reference = ReferenceModel(model=b"net", structure_hash="r", quiet_s=0.002)
    processes = [
        replace(one, outcome=replace(_result_of(one), normalised=_normalised(ratio)))
        for one, ratio in (
            (_process(0.9, 0.05, Verdict.CONTENDED, 1), 0.5),
            (_process(1.3, 0.05, Verdict.CONTENDED, 2), 0.6),
        )
    ]
    whole = combine("net", processes, replace(_PLAN, reference=reference))
    assert whole.latency is not None
    assert whole.process_medians_s == (0.001, 0.0012)
    assert whole.latency.median_s == pytest.approx(0.0011)
    assert whole.latency.raw_median_s == pytest.approx(1.1)
    assert whole.latency.verdict is Verdict.OK


def test_without_the_ratio_that_was_asked_for_there_is_no_time() -> None:
    reference = ReferenceModel(model=b"net", structure_hash="r", quiet_s=0.002)
    process = _process(0.9, 0.05, Verdict.OK, 1)
    whole = combine("net", [process], replace(_PLAN, reference=reference))
    assert whole.latency is None
    assert whole.failure is not None
    assert "the reference failed" in whole.failure.message


def _result_of(measurement: Measurement) -> Result:
    assert measurement.result is not None
    return measurement.result


def _normalised(ratio: float) -> Normalised:
    return Normalised(
        reference_subject_id="reference",
        reference_sha256="r",
        ratio=ratio,
        low=ratio * 0.99,
        high=ratio * 1.01,
        windows=6,
        merged=1,
        autocorrelation=None,
        elasticity=None,
        reference_median_s=0.003,
        reference_quiet_s=0.002,
        verdict=Verdict.OK,
        evidence=(),
    )


def test_one_failed_process_fails_the_finalist() -> None:
    whole = combine("net", [_failed()], _PLAN)
    assert whole.latency is None
    assert whole.failure == EvaluationFailure(
        message="no room", kind=FailureKind.OUT_OF_MEMORY, target="pi"
    )
