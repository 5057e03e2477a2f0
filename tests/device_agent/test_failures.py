"""Whatever a worker does, its subject ends in a typed failure and the next one is measured."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from tests.device_agent import harness
from tests.device_agent.harness import (
    DEADLINES,
    answers,
    failure_of,
    make_job,
    programme,
    result_of,
    until,
)

from boardfront.protos import records
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from tests.device_agent.harness import Wire

# Start of the interpreter included: short, yet long enough for a busy machine.
_SHORT = dataclasses.replace(DEADLINES, compile_s=1.5, run_s=1.0)


def _fail(wire: Wire, job: records.Job, *contents: bytes) -> records.Failure:
    failure = failure_of(answers(wire.run(job, *contents))["s0"])
    assert harness.workers() == []
    return failure


def _fail_and_go_on(wire: Wire, job: records.Job, *contents: bytes) -> records.Failure:
    failure = _fail(wire, job, *contents)
    result_of(wire.measure(programme()))
    assert harness.workers() == []
    return failure


@pytest.mark.parametrize(
    ("fault", "named"),
    [("hang-load", "load"), ("hang-compile", "compile"), ("hang-run", "warm-up")],
)
def test_a_hang_ends_at_its_own_deadline(wire: Wire, fault: str, named: str) -> None:
    content = programme(fault=fault)
    failure = _fail_and_go_on(wire, make_job(content, deadlines=_SHORT), content)
    assert failure.kind is FailureKind.TIMEOUT
    assert failure.message.startswith(f"{named} took longer than")


def test_a_long_compile_is_no_hang(wire: Wire) -> None:
    # Longer than the run deadline: each phase has its own.
    content = programme(sleep="on", compile_s=1.1)
    deadlines = dataclasses.replace(DEADLINES, run_s=1.0)
    result = result_of(answers(wire.run(make_job(content, deadlines=deadlines), content))["s0"])
    assert result.compile_s >= 1.1


@pytest.mark.parametrize(("fault", "named"), [("crash-load", "load"), ("crash-run", "warm-up")])
def test_a_crash_tells_its_signal_and_last_words(wire: Wire, fault: str, named: str) -> None:
    content = programme(fault=fault)
    failure = _fail_and_go_on(wire, make_job(content), content)
    assert failure.kind is FailureKind.CRASHED
    assert failure.message == f"the worker died by signal SIGSEGV during {named}"
    assert "about to read address 0" in failure.detail


def test_a_worker_that_leaves_without_a_word_has_crashed(wire: Wire) -> None:
    content = programme(fault="exit-without-result")
    failure = _fail_and_go_on(wire, make_job(content), content)
    assert failure.kind is FailureKind.CRASHED
    assert failure.message == "the worker ended with exit code 0 during load"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("invalid-artifact", FailureKind.INVALID_ARTIFACT),
        ("unsupported", FailureKind.UNSUPPORTED),
        ("out-of-memory", FailureKind.OUT_OF_MEMORY),
    ],
)
def test_a_backend_that_knows_why_is_quoted(wire: Wire, fault: str, kind: FailureKind) -> None:
    content = programme(fault=fault)
    failure = _fail(wire, make_job(content), content)
    assert failure.kind is kind
    assert failure.message == f"programmed fault: {fault}"


@pytest.mark.parametrize("content", [b"{torn", b"\x00\xff", b'{"time_s": "NaN"}'])
def test_a_broken_artifact_is_typed(wire: Wire, content: bytes) -> None:
    failure = _fail(wire, make_job(content), content)
    expected = FailureKind.UNSUPPORTED if b"NaN" in content else FailureKind.INVALID_ARTIFACT
    assert failure.kind is expected


def test_a_noisy_runtime_disturbs_nothing(wire: Wire) -> None:
    # A mebibyte of every byte value on standard output and as much on standard error.
    result_of(wire.measure(programme(fault="noise")))


@pytest.mark.parametrize(
    ("deed", "kind", "named"),
    [
        ("swell", FailureKind.OUT_OF_MEMORY, "out of memory"),
        ("raise", FailureKind.CRASHED, "ended with exit code 1 during compile"),
        ("no-answer", FailureKind.CRASHED, "closed its pipe during compile"),
        ("crash-with-child", FailureKind.CRASHED, "died by signal SIGABRT during compile"),
    ],
)
def test_a_third_partys_misdeeds_are_typed(
    rough: Wire, deed: str, kind: FailureKind, named: str
) -> None:
    asked = harness.subject(b"x", backend="rough", options={"do": deed})
    failure = _fail_and_go_on(rough, make_job(subjects=(asked,)), b"x")
    assert failure.kind is kind
    assert named in failure.message
    if deed == "raise":
        assert "RuntimeError: a runtime's own complaint" in failure.detail


def test_a_timed_out_workers_children_die_with_it(rough: Wire) -> None:
    asked = harness.subject(b"x", backend="rough", options={"do": "hang-with-child"})
    job = make_job(subjects=(asked,), deadlines=_SHORT)
    rough.submit(job, b"x")
    (worker,) = until(harness.workers)
    (child,) = until(worker.children)
    assert failure_of(answers(list(rough.watch(job.job_id)))["s0"]).kind is FailureKind.TIMEOUT
    until(lambda: harness.is_gone(child.pid), within_s=2.0)


def test_a_crash_in_the_parts_of_a_step_costs_nothing_that_was_measured(rough: Wire) -> None:
    # The reference crashes too: the ratio to it is known by then.
    deeds = {"s0": "crash-in-parts", "s1": "nothing", "reference": "crash-in-parts"}
    subjects = [
        harness.subject(b"x", name, backend="rough", options={"do": deed})
        for name, deed in deeds.items()
    ]
    job = make_job(subjects=subjects, task=records.Task(kind=records.TaskKind.TRAINING_STEP))
    job = dataclasses.replace(job, reference=records.Reference(subject_id="reference"))
    found = {name: result_of(one) for name, one in answers(rough.run(job, b"x")).items()}
    assert {name: dict(one.parts_s) for name, one in found.items()} == {
        "s0": {},
        "s1": {"all": 0.002},
        "reference": {},
    }
    assert found["s0"].normalised is not None
    assert found["s1"].normalised is not None
    assert harness.workers() == []


def test_an_unstable_subject_gets_a_verdict_at_the_deadline_not_a_timeout(wire: Wire) -> None:
    content = programme(sleep="on", time_s=0.002, noise=0.3)
    precision = records.Precision(relative_half_width=0.0001, min_duration_s=0.4)
    job = make_job(content, precision=precision, deadlines=dataclasses.replace(_SHORT, run_s=1.5))
    result = result_of(answers(wire.run(job, content))["s0"])
    assert result.verdict is not records.Verdict.OK
    assert "asked was +-0.0%" in result.evidence[-1]
    assert result.run_s <= 1.5


def test_an_interval_that_never_gets_narrow_is_given_up_when_asked(wire: Wire) -> None:
    content = programme(sleep="on", time_s=0.002, noise=0.3)
    precision = records.Precision(
        relative_half_width=0.0001, min_duration_s=0.2, max_duration_s=0.5
    )
    deadlines = dataclasses.replace(_SHORT, run_s=60.0)
    result = result_of(
        answers(wire.run(make_job(content, precision=precision, deadlines=deadlines), content))[
            "s0"
        ]
    )
    assert result.verdict is records.Verdict.UNSTABLE
    assert result.precision == precision


def test_a_level_that_never_rests_is_no_timeout_and_not_ok(rough: Wire) -> None:
    # Windows on a slope stay correlated, so that no interval may ever be given.
    asked = harness.subject(b"x", backend="rough", options={"do": "drift"})
    precision = records.Precision(relative_half_width=0.001, min_duration_s=0.4)
    deadlines = dataclasses.replace(DEADLINES, run_s=1.5)
    job = make_job(subjects=(asked,), precision=precision, deadlines=deadlines)
    answer = answers(rough.run(job, b"x"))["s0"]
    if isinstance(answer, records.Failure):
        assert answer.kind is FailureKind.UNSTABLE
        assert "no interval can be given from" in answer.message
    else:
        assert answer.verdict is not records.Verdict.OK


def test_too_few_windows_within_the_deadline_is_unstable_or_timeout_never_a_number(
    wire: Wire,
) -> None:
    # One run takes a third of the run deadline: the warm-up alone uses it up.
    content = programme(sleep="on", time_s=0.35)
    precision = records.Precision(min_duration_s=1.0)
    failure = _fail(wire, make_job(content, precision=precision, deadlines=_SHORT), content)
    assert failure.kind in {FailureKind.TIMEOUT, FailureKind.UNSTABLE}


def test_an_artifact_that_vanished_while_the_job_waited(wire: Wire, shared: object) -> None:
    agent = shared[0]  # type: ignore[index]
    hanging, content = programme(fault="hang-compile"), programme(time_s=0.0077)
    blocking, job = make_job(hanging), make_job(content)
    wire.submit(blocking, hanging)
    wire.submit(job, content)
    agent.artifacts.path(harness.name_of(content)).unlink()
    wire.cancel(blocking.job_id)
    failure = failure_of(answers(list(wire.watch(job.job_id)))["s0"])
    assert failure.kind is FailureKind.INVALID_ARTIFACT
    assert "upload it again" in failure.message
