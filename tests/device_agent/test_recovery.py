"""A killed agent comes back with its jobs; nobody is left behind, nothing runs twice."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.device_agent import harness
from tests.device_agent.harness import (
    AgentProcess,
    Wire,
    answers,
    is_gone,
    is_sampling,
    make_job,
    programme,
    refusal,
    result_of,
    serving,
    until,
)

from boardfront.device_agent.agent import Agent
from boardfront.device_agent.journal import AcknowledgedIds, JobFolder, read_all
from boardfront.protos import agent_pb2, records
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import JobState, Phase

if TYPE_CHECKING:
    from pathlib import Path

# Some seconds of sampling: long enough to be interrupted at leisure.
_SLOW = programme(sleep="on", time_s=0.002)
_SLOW_LOOK = records.Precision(relative_half_width=0.5, min_duration_s=0.8)

pytestmark = pytest.mark.timeout(60)


def test_a_killed_agent_finds_its_job_and_runs_it_again(agent_process: AgentProcess) -> None:
    wire = Wire(agent_process.address)
    done, slow = make_job(programme()), make_job(_SLOW, precision=_SLOW_LOOK)
    waiting = make_job(programme())
    done_events = wire.run(done, programme())
    wire.submit(slow, _SLOW)
    wire.submit(waiting)
    before = []
    for event in wire.watch(slow.job_id):
        before.append(event)
        if is_sampling(event):
            break
    # The job's worker, and that of the job that waits if it came in time for a spare one.
    living = harness.workers(agent_process.pid)
    assert len(living) in {1, 2}
    agent_process.kill()
    until(lambda: all(is_gone(worker.pid) for worker in living), within_s=5.0)
    wire.close()

    agent_process.start()
    wire = Wire(agent_process.address)
    wire.describe()
    assert list(wire.watch(done.job_id)) == done_events
    events = list(wire.watch(slow.job_id))
    assert [event.index for event in events] == list(range(len(events)))
    assert events[: len(before)] == before
    assert sum(isinstance(event.body, records.Interrupted) for event in events) == 1
    assert result_of(answers(events)["s0"]).run_s > 0.6
    assert events[-1].body == records.Finished(state=JobState.COMPLETED)
    result_of(answers(list(wire.watch(waiting.job_id)))["s0"])
    assert not wire.submit(slow).created
    wire.close()


def test_an_agent_that_is_asked_to_stop_keeps_its_jobs(agent_process: AgentProcess) -> None:
    wire = Wire(agent_process.address)
    job = make_job(_SLOW, precision=_SLOW_LOOK)
    wire.submit(job, _SLOW)
    wire.wait_for(job.job_id, is_sampling)
    (worker,) = harness.workers(agent_process.pid)
    assert agent_process.terminate() == 0
    assert is_gone(worker.pid)
    assert not (agent_process.state / "address").exists()
    wire.close()

    agent_process.start()
    wire = Wire(agent_process.address)
    assert not wire.submit(job).created
    result_of(answers(list(wire.watch(job.job_id)))["s0"])
    wire.close()


def test_subjects_that_have_their_answer_are_not_measured_again(tmp_path: Path) -> None:
    first, second = programme(time_s=0.001), programme(time_s=0.002)
    job = make_job(first, second)
    with serving(tmp_path) as (_, wire):
        events = wire.run(job, first, second)
    found = answers(events)
    kept = [e for e in events if e.subject_id != "s1" or not isinstance(e.body, records.Result)]
    _write_events(tmp_path / "jobs" / job.job_id, [e for e in kept if not _is_end(e)])
    with serving(tmp_path) as (_, wire):
        again = list(wire.watch(job.job_id))
    assert [event.index for event in again] == list(range(len(again)))
    results = [e for e in again if isinstance(e.body, records.Result)]
    assert [event.subject_id for event in results] == ["s0", "s1"]
    assert results[0].body == found["s0"]
    phases = [e.subject_id for e in again if e.body == records.Working(phase=Phase.WARMING_UP)]
    assert phases == ["s0", "s1", "s1"]


def test_a_job_killed_before_its_last_event_is_completed_not_run(tmp_path: Path) -> None:
    content = programme()
    job = make_job(content)
    with serving(tmp_path) as (_, wire):
        events = wire.run(job, content)
    _write_events(tmp_path / "jobs" / job.job_id, events[:-1])
    with serving(tmp_path) as (_, wire):
        assert [e.body for e in wire.watch(job.job_id)] == [e.body for e in events]


def test_an_acknowledged_job_is_not_run_again_by_the_next_agent(tmp_path: Path) -> None:
    content = programme()
    job, cancelled = make_job(content), make_job(programme(fault="hang-run"))
    with serving(tmp_path) as (_, wire):
        wire.run(job, content)
        wire.acknowledge(job.job_id)
        wire.submit(cancelled, programme(fault="hang-run"))
        wire.cancel(cancelled.job_id)
        wire.acknowledge(cancelled.job_id)
    with serving(tmp_path) as (_, wire):
        reply = wire.submit(job)
        assert (reply.created, reply.state) == (False, agent_pb2.JOB_STATE_ACKNOWLEDGED)
        wire.acknowledge(job.job_id)
        assert wire.submit(cancelled).created
        wire.cancel(cancelled.job_id)


def test_acknowledged_and_killed_before_the_folder_was_gone(tmp_path: Path) -> None:
    content = programme()
    job = make_job(content)
    with serving(tmp_path) as (_, wire):
        wire.run(job, content)
    AcknowledgedIds(tmp_path / "jobs").add(job.job_id)
    with serving(tmp_path) as (_, wire):
        assert refusal(lambda: list(wire.watch(job.job_id)))[0] is grpc.StatusCode.NOT_FOUND
        assert not (tmp_path / "jobs" / job.job_id).exists()


def test_only_the_latest_acknowledged_ids_are_kept_and_a_torn_one_is_none(
    tmp_path: Path,
) -> None:
    ids = AcknowledgedIds(tmp_path, limit=5)
    for number in range(23):
        ids.add(f"job-{number}")
    path = tmp_path / "acknowledged.txt"
    assert len(path.read_text().splitlines()) <= 10
    with path.open("a") as file:
        file.write("job-torn")
    again = AcknowledgedIds(tmp_path, limit=5)
    again.add("job-next")
    for found in (again, AcknowledgedIds(tmp_path, limit=5)):
        assert [f"job-{n}" in found for n in (17, 18, 19, 22)] == [False, False, True, True]
        assert "job-torn" not in found
        assert "job-next" in found


def test_an_id_that_did_not_fit_on_the_disk_spoils_no_other(tmp_path: Path) -> None:
    ids = AcknowledgedIds(tmp_path)
    ids.add("first")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Room for a part of the next line.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len("first\nsec"), old[1]))
    try:
        ids.add("second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert (tmp_path / "acknowledged.txt").read_text() == "first\n"
    ids.add("third")
    again = AcknowledgedIds(tmp_path)
    assert [name in again for name in ("first", "second", "third")] == [True, False, True]


def test_a_rotten_byte_among_the_acknowledged_costs_its_own_line_alone(tmp_path: Path) -> None:
    (tmp_path / "acknowledged.txt").write_bytes(b"first\n\xff\xfesecond\nthird\n")
    ids = AcknowledgedIds(tmp_path)
    assert [name in ids for name in ("first", "second", "third")] == [True, False, True]


def test_a_torn_last_line_is_cut(tmp_path: Path) -> None:
    content = programme()
    job = make_job(content)
    with serving(tmp_path) as (_, wire):
        events = wire.run(job, content)
    path = tmp_path / "jobs" / job.job_id / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    with serving(tmp_path) as (_, wire):
        again = list(wire.watch(job.job_id))
    assert again[:3] == events[:3]
    assert isinstance(again[3].body, records.Interrupted)
    assert [event.index for event in again] == list(range(len(again)))
    result_of(answers(again)["s0"])
    # And on the disk as in memory.
    ((_, stored, stored_events),) = read_all(tmp_path / "jobs")
    assert stored == job
    assert stored_events == again


def test_a_job_that_cannot_be_read_is_moved_aside(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "broken")
    folder.create(make_job(programme(), job_id="broken"))
    (tmp_path / "broken" / "job.json").write_text("{}")
    other = make_job(programme(), job_id="good")
    JobFolder(tmp_path / "good").create(other)
    for _ in range(2):
        assert [job for _, job, _ in read_all(tmp_path)] == [other]
    assert (tmp_path / "broken.unreadable" / "job.json").exists()


def test_a_full_disk_stops_no_job(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "job")
    folder.create(make_job(programme(), job_id="job"))
    (tmp_path / "job" / "events.jsonl").mkdir()
    event = records.JobEvent(
        index=0, time_unix_s=1.0, subject_id="", body=records.Queued(position=0)
    )
    folder.append(event)
    folder.append(event)
    folder.remove()
    assert not (tmp_path / "job").exists()


def test_a_job_that_cannot_be_stored_is_not_taken(tmp_path: Path) -> None:
    content = programme()
    with serving(tmp_path) as (_, wire):
        wire.upload(content)
        (tmp_path / "jobs" / "taken").write_text("a file where the job's folder should be")
        code, text = refusal(lambda: wire.submit(make_job(content, job_id="taken")))
        assert code is grpc.StatusCode.INTERNAL
        assert "cannot store the job" in text
        assert refusal(lambda: list(wire.watch("taken")))[0] is grpc.StatusCode.NOT_FOUND


def test_two_agents_do_not_share_a_folder(agent_process: AgentProcess) -> None:
    with pytest.raises(BoardfrontError, match="another agent runs on"):
        Agent(agent_process.state)
    second = subprocess.run(
        [
            *(sys.executable, "-m", "boardfront.device_agent.cli", "serve"),
            *("--listen", "127.0.0.1:0", "--state", str(agent_process.state)),
        ],
        capture_output=True,
        text=True,
        timeout=harness.WITHIN_S,
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert "give this one another --state folder" in second.stderr
    # The first one's address is still there to be found.
    assert (agent_process.state / "address").read_text() == agent_process.address
    agent_process.kill()
    Agent(agent_process.state).stop()


def _is_end(event: records.JobEvent) -> bool:
    return isinstance(event.body, records.Finished)


def _write_events(folder: Path, events: list[records.JobEvent]) -> None:
    """Leave on disk what an agent killed at that moment would have left."""
    path = folder / "events.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    kept = [event.index for event in events]
    # Indexes are given in the order of writing, so what comes later moves up.
    text = [json.loads(lines[index]) for index in kept]
    for index, line in enumerate(text):
        line["index"] = str(index)
    path.write_text("".join(json.dumps(line) + "\n" for line in text))
