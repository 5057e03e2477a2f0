"""Subjects of one job are sampled in turn, and divided by their reference."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.device_agent import boards, harness
from tests.device_agent.harness import (
    QUICK,
    answers,
    failure_of,
    make_job,
    programme,
    result_of,
    serving,
)
from tests.device_agent.onnx_files import conv_net

from boardfront.device_agent import cores, load, runner
from boardfront.device_agent.backends.fake import FakeBackend
from boardfront.protos.core_lists import format_cpus
from boardfront.protos.records import (
    FailureKind,
    JobState,
    Origin,
    Phase,
    Reference,
    Result,
    Target,
    Verdict,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.device_agent.harness import Wire

    from boardfront.protos import records
    from boardfront.protos.records import EventBody

_REFERENCE = programme(time_s=0.002)


def _job(*contents: bytes, quiet_s: float | None = 0.0025) -> records.Job:
    """Return a job whose last subject is the reference."""
    last = f"s{len(contents) - 1}"
    job = make_job(*contents, precision=replace(QUICK, relative_half_width=0.02))
    return replace(job, reference=Reference(subject_id=last, quiet_s=quiet_s))


def _run(wire: Wire, job: records.Job, *contents: bytes) -> dict[str, object]:
    return dict(answers(wire.run(job, *contents)))


def test_a_ratio_to_the_reference_and_the_time_on_a_quiet_device(wire: Wire) -> None:
    content = programme(time_s=0.003)
    found = _run(wire, _job(content, _REFERENCE), content, _REFERENCE)
    result = result_of(found["s0"])
    ratio = result.normalised
    assert ratio is not None
    assert ratio.ratio == pytest.approx(1.5, rel=0.005)
    assert ratio.low <= ratio.ratio <= ratio.high
    assert ratio.verdict is Verdict.OK
    assert ratio.reference_sha256 == harness.name_of(_REFERENCE)
    assert ratio.reference_median_s == pytest.approx(0.002, rel=0.005)
    assert ratio.median_s == pytest.approx(1.5 * 0.0025, rel=0.005)
    assert result.statistics.median_s == pytest.approx(0.003, rel=0.005)
    assert ratio.elasticity is None, "the level of a programmed clock does not move"


def test_the_reference_is_measured_like_any_other_but_by_nothing(wire: Wire) -> None:
    content = programme(time_s=0.003)
    found = _run(wire, _job(content, _REFERENCE), content, _REFERENCE)
    reference = result_of(found["s1"])
    assert reference.normalised is None
    assert len(reference.windows) == len(result_of(found["s0"]).windows)


def test_without_its_quiet_time_a_ratio_stays_a_ratio(wire: Wire) -> None:
    content = programme(time_s=0.003)
    found = _run(wire, _job(content, _REFERENCE, quiet_s=None), content, _REFERENCE)
    ratio = result_of(found["s0"]).normalised
    assert ratio is not None
    assert ratio.median_s is None
    assert ratio.reference_quiet_s is None


def test_without_a_reference_there_is_no_ratio(wire: Wire) -> None:
    content = programme(time_s=0.003)
    found = _run(wire, make_job(content, _REFERENCE), content, _REFERENCE)
    assert all(result_of(answer).normalised is None for answer in found.values())


def test_the_stop_rule_is_asked_of_the_ratio_of_each_subject(wire: Wire) -> None:
    steady, rough = programme(time_s=0.003), programme(time_s=0.004, noise=0.2)
    contents = (steady, rough, _REFERENCE)
    found = _run(wire, _job(*contents), *contents)
    windows = {name: len(result_of(answer).windows) for name, answer in found.items()}
    assert windows["s0"] < windows["s1"] <= windows["s2"]
    ratio = result_of(found["s1"]).normalised
    assert ratio is not None
    assert ratio.relative_half_width <= 0.02


def test_the_run_deadline_leaves_room_for_own_windows_alone(wire: Wire) -> None:
    # Of its own 0.6 s each needs 0.1 s to warm up and 0.02 s a window: there is room for over 20.
    content = programme(time_s=0.004, sleep="along")
    precision = replace(QUICK, min_duration_s=0.5)
    deadlines = replace(harness.DEADLINES, run_s=0.6)
    job = make_job(*[content] * 4, precision=precision, deadlines=deadlines)
    found = answers(wire.run(job, content))
    assert len(found) == 4
    assert all(len(result_of(answer).windows) >= 8 for answer in found.values())


def test_samples_of_all_subjects_last_about_as_long(wire: Wire) -> None:
    content = programme(time_s=0.02)
    found = _run(wire, _job(content, _REFERENCE), content, _REFERENCE)
    loops = {name: result_of(answer).windows[0].loops for name, answer in found.items()}
    assert loops == {"s0": 1, "s1": 10}


def test_a_reference_that_fails_leaves_the_time_without_a_ratio(wire: Wire) -> None:
    content, broken = programme(time_s=0.003), programme(fault="crash-run")
    found = _run(wire, _job(content, broken), content, broken)
    assert failure_of(found["s1"]).kind is FailureKind.CRASHED
    assert result_of(found["s0"]).normalised is None


def test_a_reference_that_is_no_subject_is_refused(wire: Wire) -> None:
    content = programme()
    job = replace(make_job(content), reference=Reference(subject_id="nobody"))
    _, text = harness.refusal(lambda: wire.submit(job, content))
    assert "reference 'nobody'" in text


def test_two_real_networks_of_one_thread_share_one_core(wire: Wire) -> None:
    if psutil.LINUX is False:
        pytest.skip("cores are pinned on Linux only")
    small, large = conv_net(channels=16), conv_net(channels=32)
    subjects = tuple(
        harness.subject(content, name, backend="onnxruntime")
        for name, content in (("small", small), ("reference", large))
    )
    job = make_job(subjects=subjects, precision=replace(QUICK, min_duration_s=1.0))
    job = replace(job, reference=Reference(subject_id="reference"))
    wire.submit(job, small, large)
    wire.wait_for(job.job_id, harness.is_sampling)
    pinned = [worker.cpu_affinity() for worker in harness.workers()]
    assert len(pinned) == 2
    assert pinned[0] == pinned[1]
    assert len(pinned[0]) == 1
    ratio = result_of(answers(list(wire.watch(job.job_id)))["small"]).normalised
    assert ratio is not None
    assert 0.1 < ratio.ratio < 1.0


@pytest.mark.parametrize(
    ("devices", "gpu"),
    [
        (("cpu", "cpu"), None),
        (("cpu", "cuda:1"), 1),
        (("cuda:1", "cuda:1"), 1),
        (("cuda:0", "cuda:1"), None),
    ],
)
def test_the_core_that_all_share_is_watched_with_those_of_their_target_and_their_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: tuple[str, str], gpu: int | None
) -> None:
    last = max(cores.allowed_cpus())
    if last == 0:
        pytest.skip("needs a second core")
    # Also where these tests may not use core 0.
    here = tuple(sorted({0, *cores.allowed_cpus()}))
    monkeypatch.setattr(runner, "allowed_cpus", lambda *_: here)
    watched: list[tuple[list[int], list[int], int | None]] = []

    class Meter(load.LoadMeter):
        def __init__(
            self, root: Path, timed: list[int], *, around: set[int], gpu: int | None
        ) -> None:
            watched.append((timed, sorted(around), gpu))
            super().__init__(root, timed, around=around, gpu=gpu)

    monkeypatch.setattr(runner, "LoadMeter", Meter)
    content = conv_net()
    artifact = tmp_path / "net.onnx"
    artifact.write_bytes(content)
    options = {**FakeBackend.resolve({}, FakeBackend.probe()), "threads": "1"}
    prepared = {
        name: runner.Prepared(
            subject=harness.subject(content, name),
            target=Target(
                fingerprint="x",
                backend="fake",
                backend_version="1",
                options={**options, "device": device},
                cpus=format_cpus(here),
            ),
            origin=Origin.PROGRAMMED,
            artifact=artifact,
        )
        for name, device in zip(("s0", "s1"), devices, strict=True)
    }
    told: list[EventBody] = []
    job = make_job(content, content)
    run = runner.JobRun(job, prepared, lambda _, body: told.append(body), threading.Event())
    run.execute()
    assert sum(isinstance(body, Result) for body in told) == 2
    assert watched == [([last], list(here), gpu)]


def test_explicit_cores_are_kept_to_and_recorded(wire: Wire) -> None:
    content = conv_net()
    asked = replace(harness.subject(content, backend="onnxruntime"), cpus="0")
    result = result_of(answers(wire.run(make_job(subjects=(asked,)), content))["s0"])
    assert result.target.cpus == "0"


def test_a_hot_device_is_waited_for(tmp_path: Path) -> None:
    root = boards.rk3588(tmp_path / "root")
    hot = root / boards.THERMAL / "thermal_zone0/temp"
    hot.write_text("84000\n")
    content = programme()
    job = replace(make_job(content), start_below_c=70.0)
    with serving(tmp_path / "state", root=root) as (_, wire):
        wire.submit(job, content)
        wire.wait_for(job.job_id, harness.in_phase(Phase.COOLING_DOWN))
        hot.write_text("41000\n")
        for zone in (root / boards.THERMAL).glob("thermal_zone*/temp"):
            zone.write_text("41000\n")
        result_of(answers(list(wire.watch(job.job_id)))["s0"])


def test_a_device_that_stays_hot_is_a_failure_and_can_be_cancelled(tmp_path: Path) -> None:
    root = boards.rk3588(tmp_path / "root")
    (root / boards.THERMAL / "thermal_zone0/temp").write_text("84000\n")
    content = programme()
    deadlines = replace(harness.DEADLINES, queue_s=0.5)
    impatient = replace(make_job(content, deadlines=deadlines), start_below_c=70.0)
    patient = replace(make_job(content), start_below_c=70.0)
    with serving(tmp_path / "state", root=root) as (_, wire):
        failure = failure_of(answers(wire.run(impatient, content))["s0"])
        assert failure.kind is FailureKind.TIMEOUT
        assert "stayed at 84 C" in failure.message
        wire.submit(patient, content)
        wire.wait_for(patient.job_id, harness.in_phase(Phase.COOLING_DOWN))
        begin_s = time.monotonic()
        assert wire.cancel(patient.job_id) is JobState.CANCELLED
        assert time.monotonic() - begin_s < 5.0
