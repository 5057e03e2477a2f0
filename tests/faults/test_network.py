"""Whatever the network does: nothing is lost or measured twice, and every wait ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import is_sampling, make_job, name_of, programme, serving
from tests.faults.site import Once, Site, request

from boardfront.host.fleet import client as client_module
from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.connection import DeviceUnreachableError
from boardfront.protos import records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

_MIB = 1 << 20


def test_a_cable_pulled_in_mid_upload_again_and_again(tmp_path: Path) -> None:
    asked = [request(0, size_bytes=3 * _MIB)]
    with Site(tmp_path) as site:
        # In the middle of the first chunk, at a chunk's end, and just before the last byte.
        site.link.cut_after(_MIB // 2, _MIB, 3 * _MIB - 1000)
        site.measure(asked)
        assert site.link.connections == 4
        site.assert_nothing_lost_or_twice(asked)


def test_a_cable_pulled_at_every_single_event(tmp_path: Path) -> None:
    asked = [request(number) for number in range(2)]
    events: list[records.JobEvent] = []

    def pull(event: records.JobEvent) -> None:
        events.append(event)
        site.link.cut()

    with Site(tmp_path) as site:
        site.measure(asked, pull)
        site.assert_nothing_lost_or_twice(asked)
        assert site.link.connections > len(asked)
    starts = [place for place, event in enumerate(events) if event.index == 0]
    for job in (events[: starts[1]], events[starts[1] :]):
        assert [event.index for event in job] == list(range(len(job)))


def test_a_half_open_connection_is_given_up_for_a_new_one(tmp_path: Path) -> None:
    asked = [request(0, min_duration_s=0.6)]
    with Site(tmp_path, keepalive_s=0.5) as site:
        begin_s = time.monotonic()
        site.measure(asked, Once(is_sampling, site.link.freeze))
        # Twice the keepalive and the wait before the next try, on a busy machine.
        assert time.monotonic() - begin_s < 20.0
        assert site.link.connections == 2
        assert [text.split()[-1] for text in site.said] == ["again", "back"]
        site.assert_nothing_lost_or_twice(asked)


@pytest.mark.slow
def test_a_network_that_swallows_everything_is_given_up_and_the_result_waits(
    tmp_path: Path,
) -> None:
    asked = [request(0, min_duration_s=0.4)]
    with Site(tmp_path, keepalive_s=0.4, lost_after_s=1.0) as site:
        begin_s = time.monotonic()
        with pytest.raises(DeviceUnreachableError, match="no agent answers at"):
            site.measure(asked, Once(is_sampling, lambda: site.link.freeze(new_ones=True)))
        assert time.monotonic() - begin_s < 20.0
        site.link.heal()
        begun: list[records.JobEvent] = []
        site.measure(asked, begun.append)
        assert begun
        site.assert_nothing_lost_or_twice(asked)


def test_an_agent_that_stands_still_for_a_while(tmp_path: Path) -> None:
    asked = [request(0, min_duration_s=0.4)]

    def stop() -> None:
        os.kill(site.agent.pid, signal.SIGSTOP)
        threading.Timer(2.0, os.kill, (site.agent.pid, signal.SIGCONT)).start()

    with Site(tmp_path, keepalive_s=0.5) as site:
        site.measure(asked, Once(is_sampling, stop))
        assert [text.split()[-1] for text in site.said] == ["again", "back"]
        site.assert_nothing_lost_or_twice(asked)


def test_a_network_that_is_slow_but_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As slow to the first contact's deadline as two seconds each way are to the real one.
    monkeypatch.setattr(client_module, "_FIRST_CONTACT_WITHIN_S", 1.0)
    asked = [request(0)]
    with Site(tmp_path) as site:
        site.link.delay_s = 0.4
        site.measure(asked)
        assert site.said == []
        assert site.link.connections == 1
        site.link.heal()
        site.assert_nothing_lost_or_twice(asked)


def test_a_network_that_loses_a_fifth_of_all_packets(tmp_path: Path) -> None:
    asked = [request(0, size_bytes=_MIB // 2)]
    with Site(tmp_path) as site:
        site.link.loss = 0.2
        site.measure(asked)
        assert site.said == []
        site.link.heal()
        site.assert_nothing_lost_or_twice(asked)


def test_an_agent_whose_threads_hang_while_its_network_part_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_WATCH_WITHIN_S", 0.5)
    content = programme()
    job = make_job(content)
    hanging = threading.Event()
    with serving(tmp_path) as (agent, wire):
        watch = agent.jobs.watch

        def hang_once(
            job_id: str, from_event: int, is_active: Callable[[], bool]
        ) -> Iterator[records.JobEvent]:
            if not hanging.is_set():
                hanging.set()
                while is_active():
                    time.sleep(0.02)
                return
            yield from watch(job_id, from_event, is_active)

        monkeypatch.setattr(agent.jobs, "watch", hang_once)
        client = AgentClient(RemoteAddress(wire.address))
        events: list[records.JobEvent] = []
        client.run(job, {name_of(content): content}, events.append)
        client.close()
    assert hanging.is_set()
    assert [event.index for event in events] == list(range(len(events)))
    assert isinstance(events[-1].body, records.Finished)
