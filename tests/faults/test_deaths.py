"""Agents and hosts that are killed: what was measured stays, and nothing is measured twice."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import in_phase, is_sampling, until
from tests.faults.host_run import run_at
from tests.faults.hosts import HostProcess
from tests.faults.site import Once, Site, request

from boardfront.protos import records
from boardfront.protos.records import Phase

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


def _is_result(event: records.JobEvent) -> bool:
    return isinstance(event.body, records.Result)


@pytest.mark.parametrize(
    ("when", "begun"),
    [(in_phase(Phase.LOADING), 1), (is_sampling, 2), (_is_result, 1)],
    ids=["loading", "sampling", "answered"],
)
def test_a_killed_agent_that_comes_back(
    tmp_path: Path, when: Callable[[records.JobEvent], bool], begun: int
) -> None:
    asked = [request(0)]

    def crash() -> None:
        site.agent.kill()
        site.agent.start()

    with Site(tmp_path) as site:
        site.measure(asked, Once(when, crash))
        site.assert_nothing_lost_or_twice(asked, begun=begun)


@pytest.mark.slow
@pytest.mark.parametrize("kept_events", [1, 2], ids=["as-good-as-nothing", "a-little"])
def test_an_agent_that_lost_the_last_events_with_its_power(
    tmp_path: Path, kept_events: int
) -> None:
    # A look so long that the second life has fewer events than the host has seen of the first.
    asked = [request(0, min_duration_s=1.2)]
    seen: list[records.JobEvent] = []

    def lose_power() -> None:
        site.agent.kill()
        (journal,) = (site.agent.state / "jobs").glob("*/events.jsonl")
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(lines[:kept_events]) + lines[kept_events][:20])
        site.agent.start()

    def after_a_while(event: records.JobEvent) -> bool:
        seen.append(event)
        return isinstance(event.body, records.Sampling) and event.body.elapsed_s > 0.8

    with Site(tmp_path) as site:
        site.measure(asked, Once(after_a_while, lose_power))
        site.assert_nothing_lost_or_twice(asked, begun=2)
    last_life = seen[max(place for place, event in enumerate(seen) if event.index == 0) :]
    assert [event.index for event in last_life] == list(range(len(last_life)))


def test_a_host_that_is_killed_again_and_again(tmp_path: Path) -> None:
    moments = random.Random(7)  # noqa: S311 - moments, not secrets
    count = 4
    with Site(tmp_path) as site:
        jobs = site.agent.state / "jobs"
        run = run_at(site, site.store_path, count=count)
        for life in range(3):
            with HostProcess(run) as host:
                for _ in range(life):
                    assert host.read_line().startswith("stored ")
                until(lambda: list(jobs.glob("*/job.json")))
                time.sleep(moments.uniform(0.0, 0.6))
                host.kill()
        with HostProcess(run) as host:
            assert host.wait() == (0, "")
        site.assert_nothing_lost_or_twice([request(number) for number in range(count)])
