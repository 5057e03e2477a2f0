"""Jobs under leases, over the wire: who may submit, what is suspended, what goes on."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.device_agent import harness
from tests.device_agent.harness import (
    AgentProcess,
    Wire,
    answers,
    in_phase,
    is_sampling,
    make_job,
    programme,
    refusal,
    result_of,
    serving,
    until,
)

from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.records import JobState, LeaseState, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

_SHORT_S = 0.4
_LONG_S = 60.0
_SLOW = programme(sleep="on", time_s=0.002)
_SLOW_LOOK = records.Precision(relative_half_width=0.5, min_duration_s=0.8)


class _Party:
    """A client that holds or waits by hand."""

    def __init__(self, wire: Wire, name: str) -> None:
        self.wire = wire
        self.name = name

    def ask(self, duration_s: float = _LONG_S, priority: int = 0) -> records.AcquireLeaseReply:
        request = records.AcquireLeaseRequest(
            lease_id=self.name, holder=self.name, priority=priority, duration_s=duration_s
        )
        reply = self.wire.stub.AcquireLease(codec.to_message(request), timeout=harness.WITHIN_S)
        return codec.from_message(reply, records.AcquireLeaseReply)

    def token(self, duration_s: float = _LONG_S) -> int:
        reply = self.ask(duration_s)
        assert reply.state is LeaseState.HELD, reply
        return reply.fencing_token

    def fall_silent(self) -> None:
        """Renew for the last time, and not for long."""
        assert self.ask(_SHORT_S).state is LeaseState.HELD

    def release(self) -> None:
        self.wire.stub.ReleaseLease(agent_pb2.ReleaseLeaseRequest(lease_id=self.name))

    def show(self) -> records.LeaseStatus:
        reply = self.wire.stub.ShowLease(agent_pb2.ShowLeaseRequest())
        return codec.from_message(reply, records.LeaseStatus)


@pytest.fixture
def parties(wire: Wire) -> Iterator[tuple[_Party, _Party]]:
    """Two clients of the shared agent, which leave nothing behind."""
    both = _Party(wire, "anna"), _Party(wire, "ben")
    yield both
    for party in both:
        party.release()


def _under(job: records.Job, token: int) -> records.Job:
    return replace(job, fencing_token=token)


def test_only_the_holders_token_is_taken(wire: Wire, parties: tuple[_Party, _Party]) -> None:
    anna, ben = parties
    content = programme()
    wire.upload(content)
    first = anna.token()
    assert ben.ask().position == 1
    for token in (0, first - 1, first + 1, 1):
        code, text = refusal(lambda token=token: wire.submit(_under(make_job(content), token)))  # type: ignore[misc]
        assert code is grpc.StatusCode.ABORTED
        assert "it is held by anna" in text
    job = _under(make_job(content), first)
    assert wire.submit(job).created
    result_of(answers(list(wire.watch(job.job_id)))["s0"])
    anna.release()
    second = ben.token()
    assert second > first
    assert refusal(lambda: wire.submit(_under(make_job(content), first)))[0] is (
        grpc.StatusCode.ABORTED
    )
    ben.release()
    assert ben.show() == records.LeaseStatus()
    # Nobody holds it: now it goes without, but not under what is over.
    assert refusal(lambda: wire.submit(_under(make_job(content), second)))[0] is (
        grpc.StatusCode.ABORTED
    )
    result_of(answers(wire.run(make_job(content)))["s0"])


def test_a_late_holder_is_told_before_it_sends_anything(
    wire: Wire, parties: tuple[_Party, _Party]
) -> None:
    anna, ben = parties
    late = anna.token()
    anna.release()
    ben.token()
    content = programme(time_s=0.00123)
    code, text = refusal(lambda: wire.submit(_under(make_job(content), late)))
    assert code is grpc.StatusCode.ABORTED
    assert f"lease {late} is over: it is held by ben: acquire" in text
    assert wire.missing(harness.name_of(content)) == [harness.name_of(content)]


def test_who_holds_and_who_waits_is_shown_without_what_is_secret(
    parties: tuple[_Party, _Party],
) -> None:
    anna, ben = parties
    anna.token()
    reply = ben.ask(priority=4)
    assert (reply.state, reply.position, reply.fencing_token) == (LeaseState.WAITING, 1, 0)
    shown = anna.show()
    assert shown.holder is not None
    assert shown.holder.name == "anna"
    assert 0 < shown.holder.expires_in_s <= _LONG_S
    assert [(party.name, party.priority) for party in shown.waiting] == [("ben", 4)]


def test_a_lease_that_is_no_lease_is_refused(wire: Wire) -> None:
    code, text = refusal(lambda: _Party(wire, "../anna").ask())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "lease id" in text
    assert refusal(lambda: _Party(wire, "anna").ask(float("nan")))[0] is (
        grpc.StatusCode.INVALID_ARGUMENT
    )


def test_a_job_goes_on_while_its_lease_expires_and_nobody_waits(
    wire: Wire, parties: tuple[_Party, _Party]
) -> None:
    anna, _ = parties
    first = anna.token()
    job, queued = make_job(_SLOW, precision=_SLOW_LOOK), make_job(_SLOW)
    wire.submit(_under(job, first), _SLOW)
    wire.submit(_under(queued, first))
    wire.wait_for(job.job_id, is_sampling)
    anna.fall_silent()
    until(lambda: anna.show().holder is None)
    second = anna.token()
    assert second > first
    # The same job, found again under the newer lease.
    reply = wire.submit(_under(job, second))
    assert not reply.created
    for one in (job, queued):
        events = list(wire.watch(one.job_id))
        assert not any(isinstance(event.body, records.Interrupted) for event in events)
        result_of(answers(events)["s0"])


class _Watcher:
    """Follows a job on a thread of its own."""

    def __init__(self, wire: Wire, job_id: str) -> None:
        self.events: list[records.JobEvent] = []
        self.error: grpc.RpcError | None = None
        self.sampling = threading.Event()
        self._thread = threading.Thread(target=self._follow, args=(wire, job_id))
        self._thread.start()

    def end(self) -> None:
        self._thread.join(harness.WITHIN_S)

    def _follow(self, wire: Wire, job_id: str) -> None:
        try:
            for event in wire.watch(job_id):
                self.events.append(event)
                if is_sampling(event):
                    self.sampling.set()
        except grpc.RpcError as error:
            self.error = error


def _assert_went_on(events: list[records.JobEvent], before: list[records.JobEvent]) -> None:
    """The second subject was measured anew, the first kept its answer."""
    assert events[: len(before)] == before
    assert [event.index for event in events] == list(range(len(events)))
    found = answers(events)
    assert isinstance(found["s0"], records.Failure)
    assert result_of(found["s1"]).run_s > 0.6
    failures = [e for e in events if isinstance(e.body, records.Failure)]
    assert [event.subject_id for event in failures] == ["s0"]
    warm = [e.subject_id for e in events if e.body == records.Working(phase=Phase.WARMING_UP)]
    assert warm == ["s1", "s1"]
    assert events[-1].body == records.Finished(state=JobState.COMPLETED)


@pytest.mark.slow
def test_a_job_is_suspended_for_the_next_and_goes_on_where_it_was(tmp_path: Path) -> None:
    quick, broken = programme(time_s=0.003), programme(fault="invalid-artifact")
    with serving(tmp_path) as (agent, wire):
        anna, ben = _Party(wire, "anna"), _Party(wire, "ben")
        first = anna.token()
        # One with an answer and a subject that runs, and one that waits.
        half = _under(make_job(broken, _SLOW, precision=_SLOW_LOOK), first)
        waits = _under(make_job(quick), first)
        wire.submit(half, broken, _SLOW)
        wire.submit(waits, quick)
        watcher = _Watcher(wire, half.job_id)
        assert watcher.sampling.wait(harness.WITHIN_S)
        before = {worker.pid for worker in harness.workers()}
        assert ben.ask().state is LeaseState.WAITING
        anna.fall_silent()
        second = until(lambda: ben.ask().fencing_token)
        until(lambda: any(harness.is_gone(pid) for pid in before), within_s=5.0)
        watcher.end()
        assert watcher.error is not None
        assert watcher.error.code() is grpc.StatusCode.ABORTED
        reason = "the device went to another lease"
        assert watcher.events[-1].body == records.Interrupted(reason=reason)
        assert refusal(lambda: wire.submit(half))[0] is grpc.StatusCode.ABORTED
        assert refusal(lambda: list(wire.watch(waits.job_id)))[0] is grpc.StatusCode.ABORTED

        events = wire.run(_under(make_job(quick), second))
        # None of those that are suspended is ahead.
        assert events[0].body == records.Queued(position=0)
        result_of(answers(events)["s0"])
        ben.release()
        # They wait for their owner, not for a free device.
        time.sleep(0.3)
        assert agent.jobs.running_job_id is None
        third = anna.token()
        for job in (half, waits):
            reply = wire.submit(_under(job, third))
            assert (reply.created, reply.state) == (False, agent_pb2.JOB_STATE_QUEUED)
        _assert_went_on(list(wire.watch(half.job_id)), watcher.events)
        result_of(answers(list(wire.watch(waits.job_id)))["s0"])


def test_a_late_holder_gets_what_was_finished(wire: Wire, parties: tuple[_Party, _Party]) -> None:
    anna, ben = parties
    content = programme(time_s=0.0021)
    job = _under(make_job(content), anna.token())
    events = wire.run(job, content)
    anna.release()
    ben.token()
    reply = wire.submit(job)
    assert (reply.created, reply.state) == (False, agent_pb2.JOB_STATE_COMPLETED)
    assert list(wire.watch(job.job_id)) == events
    wire.acknowledge(job.job_id)
    assert wire.submit(job).state == agent_pb2.JOB_STATE_ACKNOWLEDGED


def test_a_suspended_job_may_be_cancelled(wire: Wire, parties: tuple[_Party, _Party]) -> None:
    anna, ben = parties
    job = _under(make_job(_SLOW, precision=_SLOW_LOOK), anna.token())
    wire.submit(job, _SLOW)
    wire.wait_for(job.job_id, in_phase(Phase.WARMING_UP))
    anna.release()
    ben.token()
    # Perhaps while its worker is being ended, perhaps after.
    assert wire.cancel(job.job_id) is JobState.CANCELLED
    wire.acknowledge(job.job_id)


def test_jobs_without_a_lease_wait_for_the_device_not_for_their_owner(
    wire: Wire, parties: tuple[_Party, _Party]
) -> None:
    anna, _ = parties
    job = make_job(_SLOW, precision=_SLOW_LOOK)
    wire.submit(job, _SLOW)
    wire.wait_for(job.job_id, is_sampling)
    token = anna.token()
    quick = programme()
    hers = _under(make_job(quick), token)
    # A host that comes back to it is not sent away: it has nothing to acquire.
    assert not wire.submit(job).created
    result_of(answers(wire.run(hers, quick))["s0"])
    anna.fall_silent()
    # Nobody says so: the job finds out.
    events = list(wire.watch(job.job_id))
    assert sum(isinstance(event.body, records.Interrupted) for event in events) == 1
    result_of(answers(events)["s0"])


def test_a_killed_agent_keeps_its_holder_its_queue_and_its_tokens(
    agent_process: AgentProcess,
) -> None:
    wire = Wire(agent_process.address)
    anna = _Party(wire, "anna")
    token = anna.token()
    assert _Party(wire, "ben").ask().position == 1
    job = _under(make_job(_SLOW, precision=_SLOW_LOOK), token)
    wire.submit(job, _SLOW)
    wire.wait_for(job.job_id, is_sampling)
    agent_process.kill()
    wire.close()

    agent_process.start()
    wire = Wire(agent_process.address)
    wire.describe()
    anna, ben, cem = (_Party(wire, name) for name in ("anna", "ben", "cem"))
    assert cem.ask().position == 2
    assert anna.token() == token
    assert not wire.submit(job).created
    result_of(answers(list(wire.watch(job.job_id)))["s0"])
    assert refusal(lambda: wire.submit(make_job(_SLOW)))[0] is grpc.StatusCode.ABORTED
    anna.release()
    assert ben.token() == token + 1
    wire.close()


@pytest.mark.slow
def test_a_suspended_job_outlives_the_agent(tmp_path: Path) -> None:
    with serving(tmp_path) as (agent, wire):
        anna, ben = _Party(wire, "anna"), _Party(wire, "ben")
        job = _under(make_job(_SLOW, precision=_SLOW_LOOK), anna.token())
        wire.submit(job, _SLOW)
        wire.wait_for(job.job_id, is_sampling)
        anna.release()
        ben.token()
        until(lambda: agent.jobs.running_job_id is None)
    with serving(tmp_path) as (agent, wire):
        anna, ben = _Party(wire, "anna"), _Party(wire, "ben")
        assert anna.ask().position == 1
        ben.release()
        assert refusal(lambda: list(wire.watch(job.job_id)))[0] is grpc.StatusCode.ABORTED
        assert agent.jobs.running_job_id is None
        token = anna.token()
        wire.submit(_under(job, token))
        events = list(wire.watch(job.job_id))
        reasons = [e.body.reason for e in events if isinstance(e.body, records.Interrupted)]
        # The agent's own end is none of its interruptions: it was not running.
        assert reasons == ["the device went to another lease"]
        result_of(answers(events)["s0"])
    with serving(tmp_path) as (_, wire):
        assert not wire.submit(_under(job, 1)).created


def test_a_dead_holders_device_is_the_next_ones_in_time(parties: tuple[_Party, _Party]) -> None:
    anna, ben = parties
    anna.token()
    assert ben.ask().state is LeaseState.WAITING
    began_s = time.monotonic()
    anna.fall_silent()
    until(lambda: ben.ask().state is LeaseState.HELD)
    assert time.monotonic() - began_s >= 0.5 * _SHORT_S
