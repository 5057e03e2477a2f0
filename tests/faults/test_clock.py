"""A device whose wall clock jumps: boards without a battery begin in 1970 and find out later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import AgentProcess, make_job, programme
from tests.faults.site import Once, Site, bare, request

from boardfront.device_agent.journal import JobFolder, read_all
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.protos import records

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

_DAY_S = 86400.0

_SHIM = """\
import os, time
_real = time.time
def _shifted():
    with open(os.environ["CLOCK_OFFSET"]) as file:
        return _real() + float(file.read())
time.time = _shifted
"""


@pytest.mark.parametrize("jump_s", [-400 * _DAY_S, 400 * _DAY_S], ids=["back", "forth"])
def test_the_devices_clock_jumps_in_mid_measurement(tmp_path: Path, jump_s: float) -> None:
    offset = tmp_path / "offset"
    offset.write_text("0")
    environment = {**bare(tmp_path / "bare", more=_SHIM), "CLOCK_OFFSET": str(offset)}
    agent = AgentProcess(tmp_path / "agent", environment=environment)
    asked = [request(number, min_duration_s=0.4) for number in range(2)]
    times: list[float] = []

    def note(event: records.JobEvent) -> None:
        times.append(event.time_unix_s)
        jump(event)

    jump = Once(
        lambda event: isinstance(event.body, records.Sampling),
        lambda: offset.write_text(str(jump_s)),
    )
    with Site(tmp_path, agent=agent) as site:
        found = site.measure(asked, note)
        site.assert_nothing_lost_or_twice(asked)
    # It did jump, and the measured times are as if it had not.
    assert abs(times[-1] - times[0]) > abs(jump_s) - 3600.0
    for number, one in enumerate(found):
        assert one.result is not None
        # Programmed and slept; a busy machine wakes sleepers late, never early.
        assert 0.0009 < one.result.statistics.median_s < 0.1, number


def test_jobs_keep_their_order_when_the_clock_went_back(tmp_path: Path) -> None:
    first, second, third = (JobFolder(tmp_path / name) for name in ("c", "a", "b"))
    first.create(make_job(programme(), job_id="c"))
    # As if the clock had been a year ahead for the first.
    ahead_ns = first.created_ns + int(365 * _DAY_S * 1e9)
    second.create(make_job(programme(), job_id="a"), after_ns=ahead_ns)
    third.create(make_job(programme(), job_id="b"), after_ns=second.created_ns)
    assert ahead_ns < second.created_ns < third.created_ns
    assert [job.job_id for _, job, _ in read_all(tmp_path)] == ["c", "a", "b"]


def test_a_host_whose_clock_went_back_still_finds_what_it_measured(tmp_path: Path) -> None:
    clock = iter([2e9, 1e9, 0.0, -5.0])
    asked = [request(number) for number in range(2)]
    with Site(tmp_path) as site:
        site.measurer = DeviceMeasurer(site.client, site.store, clock=lambda: next(clock))
        first = site.measure(asked)
        assert [one.created_unix_s for one in first] == [2e9, 1e9]
        assert site.measure(asked) == first
        site.assert_nothing_lost_or_twice(asked)
