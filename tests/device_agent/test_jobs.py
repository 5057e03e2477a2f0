"""Jobs: submitted once, watched from anywhere, ended only by asking, kept until acknowledged."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.device_agent import harness
from tests.device_agent.harness import (
    Wire,
    answers,
    failure_of,
    in_phase,
    make_job,
    programme,
    refusal,
    result_of,
    until,
)

from boardfront.device_agent.journal import JobFolder
from boardfront.device_agent.stored_job import StoredJob
from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.records import FailureKind, JobState, Phase

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.device_agent.agent import Agent

_CANCEL_WITHIN_S = 3.0
"""The contract says one second; the rest is for a machine with other work."""

_HANGING = programme(fault="hang-compile")


_Told = tuple[records.Job, bytes, list[records.JobEvent]]


@pytest.fixture(scope="module")
def told(shared: tuple[Agent, Wire]) -> _Told:
    """A job that was run to its end, its artifact and its events."""
    content = programme(time_s=0.002)
    job = make_job(content)
    return job, content, shared[1].run(job, content)


def test_a_job_tells_its_story_in_order(told: _Told) -> None:
    _, _, events = told
    assert [event.index for event in events] == list(range(len(events)))
    assert [event.body for event in events[:4]] == [
        records.Queued(position=0),
        records.Working(phase=Phase.LOADING),
        records.Working(phase=Phase.COMPILING),
        records.Working(phase=Phase.WARMING_UP),
    ]
    assert any(isinstance(event.body, records.Sampling) for event in events)
    assert events[-1].body == records.Finished(state=JobState.COMPLETED)
    assert [event.time_unix_s for event in events] == sorted(e.time_unix_s for e in events)


def test_a_result_says_all_that_was_asked_and_seen(told: _Told, wire: Wire) -> None:
    job, content, events = told
    result = result_of(answers(events)["s0"])
    description = wire.describe()
    fake = description.backend("fake")
    assert fake is not None
    # Programmed 2 ms with a noise of 0.1 %, seeded: the median of hundreds lies far inside 1 %.
    assert result.statistics.median_s == pytest.approx(0.002, rel=0.01)
    assert result.verdict is records.Verdict.OK
    assert result.origin is records.Origin.PROGRAMMED
    assert result.artifact_sha256 == harness.name_of(content)
    assert result.artifact_bytes == len(content)
    assert result.precision == job.precision
    assert result.target.fingerprint == description.fingerprint
    assert result.target.backend_version == fake.version
    assert set(result.target.options) == {option.name for option in fake.options}
    assert len(result.windows) >= 6
    assert result.statistics.samples == sum(len(w.samples_s) for w in result.windows)
    assert result.first_run_s == result.warm_up_s[0]
    assert result.circumstances.worker_peak_rss_bytes is not None


def test_the_same_job_again_changes_nothing(wire: Wire) -> None:
    content = programme()
    job = make_job(content)
    assert wire.submit(job, content).created
    assert not wire.submit(job).created
    events = list(wire.watch(job.job_id))
    again = wire.submit(job)
    assert not again.created
    assert again.state == agent_pb2.JOB_STATE_COMPLETED
    assert list(wire.watch(job.job_id)) == events


def test_another_job_under_a_taken_id_is_refused(told: _Told, wire: Wire) -> None:
    job, _, _ = told
    other = dataclasses.replace(job, purpose=records.Purpose.AUDIT)
    code, text = refusal(lambda: wire.submit(other))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert job.job_id in text


def test_a_job_whose_artifact_is_not_here_is_refused(wire: Wire) -> None:
    content = programme(time_s=0.00123)
    code, text = refusal(lambda: wire.submit(make_job(content)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "upload it first" in text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"job_id": ""}, "128 letters"),
        ({"job_id": "../evil"}, "128 letters"),
        ({"job_id": "a" * 129}, "128 letters"),
        ({"subjects": ()}, "1 to 32"),
        ({"task": records.Task(batch=0)}, "batch 0"),
        ({"precision": records.Precision(relative_half_width=0.0)}, "0 < precision < 1"),
        ({"precision": records.Precision(min_windows=5)}, "6 windows"),
        ({"precision": records.Precision(min_duration_s=60.0)}, "shorter than the run deadline"),
        ({"deadlines": records.Deadlines(compile_s=0.0)}, "positive durations"),
    ],
)
def test_a_job_against_the_rules_is_refused(
    wire: Wire, changes: dict[str, object], named: str
) -> None:
    content = programme()
    wire.upload(content)
    job = dataclasses.replace(make_job(content), **changes)  # type: ignore[arg-type]
    code, text = refusal(lambda: wire.submit(job))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert named in text


def test_two_subjects_of_one_name_are_refused(wire: Wire) -> None:
    content = programme()
    wire.upload(content)
    twice = (harness.subject(content, "a"), harness.subject(content, "a"))
    code, text = refusal(lambda: wire.submit(make_job(subjects=twice)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "distinct" in text


@pytest.mark.parametrize(
    ("backend", "options", "named"),
    [
        ("tpu", {}, "['fake', 'onnxruntime', "),
        ("fake", {"speed": "11"}, "'time_s'"),
        ("fake", {"sleep": "maybe"}, "on | off"),
        ("fake", {"time_s": "inf"}, "positive number"),
        ("onnxruntime", {"threads": "0"}, "1 to 1024"),
        ("onnxruntime", {"provider": "Abacus"}, "CPUExecutionProvider"),
    ],
)
def test_an_unknown_backend_or_option_is_refused_and_the_allowed_named(
    wire: Wire, backend: str, options: dict[str, str], named: str
) -> None:
    content = programme()
    wire.upload(content)
    asked = harness.subject(content, backend=backend, options=options)
    code, text = refusal(lambda: wire.submit(make_job(subjects=(asked,))))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert named in text
    assert "\n" not in text


def test_spinning_beside_another_subject_is_refused(wire: Wire) -> None:
    content = programme()
    wire.upload(content)
    spinning = {"spinning": "on", "threads": "2"}
    pair = (
        harness.subject(content, "a", backend="onnxruntime", options=spinning),
        harness.subject(content, "b", backend="onnxruntime"),
    )
    code, text = refusal(lambda: wire.submit(make_job(subjects=pair)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "spinning=off" in text


def test_an_enum_that_was_left_out_is_refused(wire: Wire) -> None:
    content = programme()
    wire.upload(content)
    message = codec.to_message(make_job(content))
    message.ClearField("purpose")
    request = agent_pb2.SubmitRequest(job=message, protocol_version=records.PROTOCOL_VERSION)
    code, text = refusal(lambda: wire.stub.Submit(request, timeout=10.0))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "PURPOSE_CANDIDATE" in text


def test_a_client_of_another_contract_is_refused(wire: Wire) -> None:
    request = agent_pb2.SubmitRequest(
        job=codec.to_message(make_job(programme())), protocol_version=99
    )
    code, text = refusal(lambda: wire.stub.Submit(request, timeout=10.0))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "version 99" in text


def test_watching_may_begin_anywhere_and_again(told: _Told, wire: Wire) -> None:
    job, _, events = told
    for start in range(len(events) + 2):
        assert list(wire.watch(job.job_id, start)) == events[start:]
    assert list(wire.watch(job.job_id, 2**62)) == []


def test_two_watchers_see_the_same(wire: Wire) -> None:
    content = programme(sleep="on", time_s=0.002)
    job = make_job(content)
    wire.submit(job, content)
    seen: list[list[records.JobEvent]] = [[], []]
    threads = [
        threading.Thread(target=lambda into=into: into.extend(wire.watch(job.job_id)))
        for into in seen
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=harness.WITHIN_S)
    assert seen[0] == seen[1]
    assert isinstance(seen[0][-1].body, records.Finished)


def test_unknown_jobs_are_not_found(wire: Wire) -> None:
    calls = (
        lambda: list(wire.watch("nobody")),
        lambda: wire.cancel("nobody"),
        lambda: wire.acknowledge("nobody"),
    )
    for call in calls:
        code, text = refusal(call)
        assert code is grpc.StatusCode.NOT_FOUND
        assert "nobody" in text


def test_jobs_wait_for_their_turn_and_know_their_place(wire: Wire) -> None:
    quick = programme()
    wire.upload(_HANGING)
    wire.upload(quick)
    jobs = [make_job(_HANGING), make_job(quick), make_job(quick)]
    for job in jobs:
        wire.submit(job)
    positions = [wire.wait_for(job.job_id, lambda _: True).body for job in jobs]
    assert positions == [records.Queued(position=place) for place in range(3)]
    assert wire.describe().queued_jobs == 3
    wire.wait_for(jobs[0].job_id, in_phase(Phase.COMPILING))
    assert wire.cancel(jobs[1].job_id) is JobState.CANCELLED
    assert [event.body for event in wire.watch(jobs[1].job_id)] == [
        records.Queued(position=1),
        records.Finished(state=JobState.CANCELLED),
    ]
    wire.cancel(jobs[0].job_id)
    assert "s0" in answers(list(wire.watch(jobs[2].job_id)))
    assert wire.describe().queued_jobs == 0


def test_who_waits_hears_of_every_step_forward(wire: Wire) -> None:
    quick = programme()
    wire.upload(_HANGING)
    wire.upload(quick)
    blocking = [make_job(_HANGING) for _ in range(3)]
    last = make_job(quick)
    for job in (*blocking, last):
        wire.submit(job)
    # Also of a job that ends in the middle of the queue.
    for job in (blocking[1], blocking[0], blocking[2]):
        wire.cancel(job.job_id)
    events = list(wire.watch(last.job_id))
    places = [e.body.position for e in events if isinstance(e.body, records.Queued)]
    assert places == [3, 2, 1, 0]
    assert [event.index for event in events] == list(range(len(events)))
    for start in range(len(places)):
        assert list(wire.watch(last.job_id, start)) == events[start:]


def test_a_long_queue_is_told_in_steps(tmp_path: Path) -> None:
    waiting = StoredJob(make_job(programme(), job_id="j"), JobFolder(tmp_path / "j"))
    waiting.folder.create(waiting.job)
    waiting.enter(1000)
    for ahead in range(999, -1, -1):
        waiting.move_up(ahead)
        waiting.move_up(ahead)
    places = [
        e.body.position for e in waiting.events_from(0) if isinstance(e.body, records.Queued)
    ]
    assert places[-17:] == list(range(16, -1, -1))
    assert places[0] == 1000
    assert len(places) < 80
    assert all(now > then - max(2, then // 8) - 1 for then, now in itertools.pairwise(places))


def test_a_finished_jobs_events_are_not_kept_in_memory_and_come_back_the_same(
    shared: tuple[Agent, Wire],
) -> None:
    agent, wire = shared
    content = programme()
    job = make_job(content)
    events = wire.run(job, content)
    entry = agent.jobs._entries[job.job_id]
    assert entry._events is None
    assert list(entry.events_from(0)) == events
    path = agent.jobs._folder / job.job_id / "events.jsonl"
    path.rename(path.with_suffix(".gone"))
    code, _ = refusal(lambda: list(wire.watch(job.job_id)))
    assert code is not grpc.StatusCode.NOT_FOUND
    path.with_suffix(".gone").rename(path)
    assert list(wire.watch(job.job_id)) == events


def test_a_job_that_waited_too_long_fails_typed(wire: Wire) -> None:
    quick = programme()
    wire.upload(_HANGING)
    wire.upload(quick)
    blocking = make_job(_HANGING)
    impatient = make_job(quick, deadlines=dataclasses.replace(harness.DEADLINES, queue_s=0.05))
    wire.submit(blocking)
    wire.submit(impatient)
    wire.wait_for(blocking.job_id, in_phase(Phase.COMPILING))
    wire.cancel(blocking.job_id)
    failure = failure_of(answers(list(wire.watch(impatient.job_id)))["s0"])
    assert failure.kind is FailureKind.TIMEOUT
    assert "in the queue" in failure.message
    result_of(wire.measure(quick))


@pytest.mark.parametrize("fault", ["hang-load", "hang-compile", "hang-run"])
def test_cancelling_kills_the_worker_at_once(wire: Wire, fault: str) -> None:
    content = programme(fault=fault)
    job = make_job(content)
    wire.submit(job, content)
    last = {"hang-load": Phase.LOADING, "hang-compile": Phase.COMPILING}
    wire.wait_for(job.job_id, in_phase(last.get(fault, Phase.WARMING_UP)))
    (worker,) = until(harness.workers)
    begin_s = time.monotonic()
    assert wire.cancel(job.job_id) is JobState.CANCELLED
    assert time.monotonic() - begin_s < _CANCEL_WITHIN_S
    assert harness.is_gone(worker.pid)
    assert list(wire.watch(job.job_id))[-1].body == records.Finished(state=JobState.CANCELLED)
    assert wire.cancel(job.job_id) is JobState.CANCELLED
    result_of(wire.measure(programme()))


def test_cancelling_kills_what_the_worker_started(rough: Wire) -> None:
    asked = harness.subject(b"x", backend="rough", options={"do": "hang-with-child"})
    job = make_job(subjects=(asked,))
    rough.submit(job, b"x")
    (worker,) = until(harness.workers)
    (child,) = until(worker.children)
    rough.cancel(job.job_id)
    assert harness.is_gone(worker.pid)
    until(lambda: harness.is_gone(child.pid), within_s=_CANCEL_WITHIN_S)


def test_a_closed_connection_ends_no_job(shared: tuple[Agent, Wire]) -> None:
    _, wire = shared
    content = programme(sleep="on", time_s=0.002)
    job = make_job(content)
    wire.submit(job, content)
    stream = wire.watch(job.job_id)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert list(wire.watch(job.job_id))[-1].body == records.Finished(state=JobState.COMPLETED)


def test_acknowledged_is_forgotten_and_not_run_again(shared: tuple[Agent, Wire]) -> None:
    agent, wire = shared
    content = programme()
    job = make_job(content)
    wire.run(job, content)
    folder = agent.jobs._folder / job.job_id
    assert (folder / "events.jsonl").exists()
    wire.acknowledge(job.job_id)
    assert not folder.exists()
    wire.acknowledge(job.job_id)
    assert refusal(lambda: list(wire.watch(job.job_id)))[0] is grpc.StatusCode.NOT_FOUND
    reply = wire.submit(job)
    assert not reply.created
    assert reply.state == agent_pb2.JOB_STATE_ACKNOWLEDGED


def test_a_running_job_cannot_be_acknowledged_and_a_cancelled_one_may_come_again(
    shared: tuple[Agent, Wire],
) -> None:
    agent, wire = shared
    job = make_job(_HANGING)
    wire.submit(job, _HANGING)
    wire.wait_for(job.job_id, in_phase(Phase.COMPILING))
    code, text = refusal(lambda: wire.acknowledge(job.job_id))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "running" in text
    wire.cancel(job.job_id)
    wire.acknowledge(job.job_id)
    assert not (agent.jobs._folder / job.job_id).exists()
    assert wire.submit(job).created
    wire.cancel(job.job_id)


def test_subjects_take_turns_and_exactly_one_runs(rough: Wire, tmp_path: Path) -> None:
    log = tmp_path / "runs.log"
    subjects = tuple(
        harness.subject(b"x", name, backend="rough", options={"log": str(log)}) for name in "abc"
    )
    precision = records.Precision(relative_half_width=0.5, min_duration_s=0.4)
    events = rough.run(make_job(subjects=subjects, precision=precision), b"x")
    results = [result_of(answers(events)[name]) for name in "abc"]
    assert all(len(result.windows) >= 6 for result in results)
    runs = sorted(
        (float(begin), float(end), int(pid))
        for pid, begin, end in (line.split() for line in log.read_text().splitlines())
    )
    assert len({pid for _, _, pid in runs}) == 3
    for (_, end_s, _), (begin_s, _, _) in itertools.pairwise(runs):
        assert end_s <= begin_s
    turns = [pid for i, (_, _, pid) in enumerate(runs) if i == 0 or runs[i - 1][2] != pid]
    # Three warm-ups one after the other, then the windows in the same order, round by round; who
    # has enough drops out.
    assert turns[:9] == turns[:3] * 3
    assert len(turns) >= 3 + 3 * 6
    assert min(Counter(turns).values()) >= 6


def test_one_subject_failing_leaves_the_others_their_result(wire: Wire) -> None:
    contents = (programme(), programme(fault="crash-run"), programme(fault="invalid-artifact"))
    found = answers(wire.run(make_job(*contents), *contents))
    result_of(found["s0"])
    assert failure_of(found["s1"]).kind is FailureKind.CRASHED
    assert failure_of(found["s2"]).kind is FailureKind.INVALID_ARTIFACT


def test_paired_subjects_keep_their_order_of_time(wire: Wire) -> None:
    contents = (programme(time_s=0.003), programme(time_s=0.001))
    found = answers(wire.run(make_job(*contents), *contents))
    medians = [result_of(found[name]).statistics.median_s for name in ("s0", "s1")]
    assert medians == pytest.approx([0.003, 0.001], rel=0.01)
