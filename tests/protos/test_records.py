from __future__ import annotations

import pytest

from boardfront.protos.records import JobState, Precision


@pytest.mark.parametrize("state", JobState)
def test_a_job_that_waits_or_runs_is_not_at_its_end(state: JobState) -> None:
    assert state.is_final is (state not in {JobState.QUEUED, JobState.RUNNING})


def test_a_look_under_two_seconds_is_coarse() -> None:
    assert not Precision().is_coarse
    assert Precision(min_duration_s=1.9).is_coarse
