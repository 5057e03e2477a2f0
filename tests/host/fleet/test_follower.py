"""What a host makes of a job's events when some of them were lost on the way or on the agent."""

from __future__ import annotations

from boardfront.host.fleet.follower import JobFollower
from boardfront.protos import records
from boardfront.protos.records import JobState, Phase


def _event(index: int, body: records.EventBody) -> records.JobEvent:
    return records.JobEvent(index=index, time_unix_s=float(index), subject_id="s0", body=body)


_QUEUED = _event(0, records.Queued(position=0))
_LOADING = _event(1, records.Working(phase=Phase.LOADING))
_WARMING = _event(2, records.Working(phase=Phase.WARMING_UP))
_FAILED = _event(3, records.Failure(kind=records.FailureKind.TIMEOUT, message="too long"))
_FINISHED = _event(4, records.Finished(state=JobState.COMPLETED))
_ALL = (_QUEUED, _LOADING, _WARMING, _FAILED, _FINISHED)


def test_every_event_is_told_once_and_the_last_seen_is_asked_for_again() -> None:
    told: list[records.JobEvent] = []
    follower = JobFollower(told.append)
    assert follower.from_event == 0
    for event in _ALL[:3]:
        assert follower.take(event)
    assert follower.from_event == 2
    for event in _ALL[2:]:
        assert follower.take(event)
    assert told == list(_ALL)
    assert follower.finished
    assert follower.answers == {"s0": _FAILED.body}


def test_another_event_in_the_place_of_the_last_one_is_not_taken() -> None:
    told: list[records.JobEvent] = []
    follower = JobFollower(told.append)
    for event in _ALL[:3]:
        follower.take(event)
    assert not follower.take(_event(2, records.Interrupted(reason="the agent died")))
    follower.restart()
    assert (follower.from_event, follower.last) == (0, None)
    assert follower.take(_QUEUED)
    assert told == [*_ALL[:3], _QUEUED]


def test_a_gap_is_not_taken() -> None:
    follower = JobFollower(lambda _: None)
    assert not follower.take(_LOADING)
    assert follower.take(_QUEUED)
    assert not follower.take(_WARMING)
    assert follower.last == _QUEUED
