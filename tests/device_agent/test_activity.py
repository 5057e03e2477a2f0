"""What an agent tells of the job that runs, and what it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.device_agent.harness import in_phase, make_job, programme, subject, until

from boardfront.device_agent.activity import Activity
from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.records import Failure, FailureKind, Finished, JobState, Phase, Working

if TYPE_CHECKING:
    from tests.device_agent.harness import Wire


class _Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def _sample(wire: Wire) -> records.TelemetrySample:
    stream: Any = wire.stub.WatchTelemetry(agent_pb2.WatchTelemetryRequest(), timeout=10.0)
    try:
        return codec.from_message(next(stream), records.TelemetrySample)
    finally:
        stream.cancel()


def test_a_watcher_hears_what_runs_and_what_came_of_it(wire: Wire) -> None:
    before = _sample(wire)
    assert before.running is None
    assert before.counts == records.JobCounts(jobs=0)
    assert before.lease == records.LeaseStatus()

    good, bad = programme(), programme(fault="unsupported")
    wire.run(make_job(good, bad), good, bad)
    hanging = programme(fault="hang-compile")
    job = make_job(hanging)
    wire.submit(job, hanging)
    wire.wait_for(job.job_id, in_phase(Phase.COMPILING))
    seen = _sample(wire)
    assert seen.running is not None
    assert seen.running_job_id == seen.running.job_id == job.job_id
    assert seen.running.phase is Phase.COMPILING
    assert seen.running.purpose is records.Purpose.CANDIDATE
    assert 0 <= seen.running.phase_since_s <= seen.running.since_s
    assert seen.counts is not None
    assert seen.counts.jobs == 1
    assert seen.counts.failures == {"unsupported": 1}
    assert sum(seen.counts.verdicts.values()) == 1

    wire.cancel(job.job_id)
    until(lambda: _sample(wire).running is None)
    # One that was cancelled is not among the completed.
    assert _sample(wire).counts == seen.counts


def test_a_reference_is_not_counted_and_tuning_has_its_budget() -> None:
    clock = _Clock()
    activity = Activity(clock)
    content = programme()
    tuned = records.Subject(
        subject_id="s0", artifact_sha256="0" * 64, backend="fake", tuning_budget_s=60.0
    )
    job = records.Job(
        job_id="j",
        subjects=(tuned, subject(content, "reference")),
        task=records.Task(),
        reference=records.Reference(subject_id="reference"),
    )
    activity.begin(job)
    clock.now_s += 5
    activity.hear(job, "s0", Working(phase=Phase.TUNING))
    clock.now_s += 20
    found = activity.running()
    assert found is not None
    assert (found.since_s, found.phase, found.phase_since_s) == (25.0, Phase.TUNING, 20.0)
    assert found.phase_budget_s == 60.0

    sampling = records.Sampling(windows=7, median_s=1.0, low_s=None, high_s=None, elapsed_s=0.1)
    activity.hear(job, "s0", sampling)
    found = activity.running()
    assert found is not None
    assert (found.phase, found.phase_budget_s, found.windows) == (None, None, 7)

    lost = Failure(kind=FailureKind.CRASHED, message="")
    activity.hear(job, "reference", lost)
    assert activity.counts() == records.JobCounts(jobs=0)
    activity.hear(job, "s0", lost)
    activity.hear(job, "", Finished(state=JobState.COMPLETED))
    assert activity.running() is None
    assert activity.counts() == records.JobCounts(jobs=1, failures={"crashed": 1})


def test_a_job_that_waits_says_nothing_of_the_one_that_runs() -> None:
    activity = Activity(_Clock())
    running, waiting = make_job(programme()), make_job(programme(time_s=0.002))
    activity.begin(running)
    activity.hear(waiting, "", Finished(state=JobState.CANCELLED))
    found = activity.running()
    assert found is not None
    assert found.job_id == running.job_id
