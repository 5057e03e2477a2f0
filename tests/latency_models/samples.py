"""Measurements for the tests of this folder."""

from __future__ import annotations

import dataclasses

from boardfront.latency_models.base import Measurement
from boardfront.latency_models.key import TimeKey
from boardfront.protos.records import (
    Circumstances,
    Failure,
    FailureKind,
    Origin,
    Precision,
    Purpose,
    Result,
    Statistics,
    Target,
    Task,
    Verdict,
    Window,
)

TARGET = Target(
    fingerprint="f" * 64,
    backend="onnxruntime",
    backend_version="1.18",
    options={"threads": "1"},
)
KEY = TimeKey.of_target(
    TARGET,
    structure_hash="a" * 64,
    task=Task(),
    input_shapes={},
    origin=Origin.PROGRAMMED,
)


def result(
    *,
    median_s: float = 0.002,
    relative_half_width: float = 0.01,
    verdict: Verdict = Verdict.OK,
    min_duration_s: float = 2.0,
    subject_id: str = "s0",
) -> Result:
    half_s = median_s * relative_half_width
    return Result(
        subject_id=subject_id,
        artifact_sha256="b" * 64,
        artifact_bytes=1234,
        target=TARGET,
        origin=Origin.PROGRAMMED,
        verdict=verdict,
        evidence=("six windows",),
        statistics=Statistics(
            median_s=median_s,
            low_s=median_s - half_s,
            high_s=median_s + half_s,
            mean_s=median_s,
            min_s=median_s,
            max_s=median_s,
            p90_s=median_s,
            p99_s=median_s,
            mad_s=0.0,
            cv=0.0,
            samples=4,
            windows=2,
            merged=1,
            autocorrelation=None,
            outliers=0,
        ),
        precision=Precision(min_duration_s=min_duration_s),
        windows=tuple(
            Window(start_s=float(i), loops=3, samples_s=(median_s, median_s)) for i in range(2)
        ),
        warm_up_s=(0.01, median_s),
        first_run_s=0.01,
        load_s=0.1,
        compile_s=0.0,
        run_s=2.5,
        circumstances=Circumstances(governor="performance", temperature_before_c=41.5),
    )


def failure() -> Failure:
    return Failure(kind=FailureKind.CRASHED, message="signal 11", detail="last\nlines")


def measurement(
    outcome: Result | Failure | None = None,
    *,
    job_id: str = "job-1",
    subject_id: str = "s0",
    created_unix_s: float = 1_700_000_000.0,
    key: TimeKey = KEY,
) -> Measurement:
    outcome = outcome or result(subject_id=subject_id)
    if isinstance(outcome, Result):
        outcome = dataclasses.replace(outcome, subject_id=subject_id)
    return Measurement(
        created_unix_s=created_unix_s,
        key=key,
        device_id="device-1",
        device_name="bench",
        agent_version="0.1.0",
        job_id=job_id,
        subject_id=subject_id,
        purpose=Purpose.CANDIDATE,
        outcome=outcome,
    )
