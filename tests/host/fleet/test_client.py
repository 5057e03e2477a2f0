"""The client over cables that are cut, agents that are killed, and wrong addresses."""

from __future__ import annotations

import dataclasses
import itertools
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.device_agent import harness
from tests.device_agent.harness import (
    AgentProcess,
    Wire,
    in_phase,
    is_sampling,
    make_job,
    name_of,
    programme,
    result_of,
    serving,
)
from tests.host.fleet.proxy import Proxy

from boardfront.device_agent import agent as agent_module
from boardfront.host.fleet import client as client_module
from boardfront.host.fleet.address import RemoteAddress, parse_device
from boardfront.host.fleet.client import AgentClient, JobCancelledError, JobForgottenError
from boardfront.host.fleet.connection import DeviceUnreachableError
from boardfront.protos import records
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.protos.records import JobState, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from boardfront.device_agent.agent import Agent

pytestmark = pytest.mark.timeout(60)

_SLOW = programme(sleep="on", time_s=0.002)
_SLOW_LOOK = records.Precision(relative_half_width=0.5, min_duration_s=0.7)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Agent, Wire]]:
    with serving(tmp_path_factory.mktemp("agent")) as running:
        yield running


@pytest.fixture
def proxy(shared: tuple[Agent, Wire]) -> Iterator[Proxy]:
    with Proxy(shared[1].address) as running:
        yield running


@pytest.fixture
def client(proxy: Proxy) -> Iterator[AgentClient]:
    """A client behind the proxy, which gives up soon."""
    made = AgentClient(RemoteAddress(proxy.address), lost_after_s=10.0)
    yield made
    made.close()


class _Events(list[records.JobEvent]):
    """All that the client was told; acts once, when the first event of a kind comes."""

    def __init__(
        self,
        wanted: Callable[[records.JobEvent], bool] = lambda _: False,
        act: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._wanted = wanted
        self._act = act
        self._acted = False

    def __call__(self, event: records.JobEvent) -> None:
        self.append(event)
        if not self._acted and self._wanted(event):
            self._acted = True
            self._act()


def _assert_whole(events: list[records.JobEvent]) -> None:
    """Every event came once, in order, up to the last."""
    assert [event.index for event in events] == list(range(len(events)))
    assert isinstance(events[-1].body, records.Finished)


def test_a_job_runs_and_its_artifact_is_sent_once(client: AgentClient) -> None:
    content = programme(time_s=0.003)
    job = make_job(content)
    seen = _Events()
    answers = client.run(job, {name_of(content): content}, seen)
    assert result_of(answers["s0"]).statistics.median_s == pytest.approx(0.003, rel=0.01)
    _assert_whole(seen)
    again = _Events()
    # No artifact is at hand: the agent has it, and the job too.
    assert client.run(job, {}, again) == answers
    assert again == seen


def test_a_cut_connection_is_attached_again_and_loses_nothing(
    shared: tuple[Agent, Wire], proxy: Proxy
) -> None:
    said: list[str] = []
    client = AgentClient(RemoteAddress(proxy.address), on_lost=said.append)
    job = make_job(_SLOW, precision=_SLOW_LOOK)
    seen = _Events(is_sampling, proxy.cut)
    answers = client.run(job, {name_of(_SLOW): _SLOW}, seen)
    client.close()
    _assert_whole(seen)
    assert seen == list(shared[1].watch(job.job_id))
    assert sum(event.body == records.Working(phase=Phase.WARMING_UP) for event in seen) == 1
    result_of(answers["s0"])
    assert proxy.connections == 2
    assert [text.split()[-1] for text in said] == ["again", "back"]


def test_a_held_up_connection_loses_nothing(client: AgentClient, proxy: Proxy) -> None:
    def hold() -> None:
        proxy.hold(yes=True)
        threading.Timer(0.6, lambda: proxy.hold(yes=False)).start()

    seen = _Events(is_sampling, hold)
    job = make_job(_SLOW, precision=_SLOW_LOOK)
    result_of(client.run(job, {name_of(_SLOW): _SLOW}, seen)["s0"])
    _assert_whole(seen)
    assert proxy.connections == 1


def test_each_loss_has_its_own_patience(proxy: Proxy) -> None:
    # Two short losses further apart than the client's patience: neither is too long.
    client = AgentClient(RemoteAddress(proxy.address), lost_after_s=0.5)
    job = make_job(_SLOW, precision=records.Precision(relative_half_width=0.5, min_duration_s=2.0))
    timers = [threading.Timer(after_s, proxy.cut) for after_s in (0.3, 1.5)]
    for timer in timers:
        timer.start()
    seen = _Events()
    result_of(client.run(job, {name_of(_SLOW): _SLOW}, seen)["s0"])
    client.close()
    _assert_whole(seen)
    assert proxy.connections == 3


def test_a_loss_that_lasts_is_given_up_and_the_job_goes_on(
    shared: tuple[Agent, Wire], proxy: Proxy
) -> None:
    client = AgentClient(RemoteAddress(proxy.address), lost_after_s=0.3)
    job = make_job(_SLOW, precision=_SLOW_LOOK)
    seen = _Events(is_sampling, lambda: proxy.refuse(yes=True))
    with pytest.raises(DeviceUnreachableError, match="no agent answers at"):
        client.run(job, {name_of(_SLOW): _SLOW}, seen)
    client.close()
    assert list(shared[1].watch(job.job_id))[-1].body == records.Finished(state=JobState.COMPLETED)


@pytest.mark.slow
def test_a_killed_agent_comes_back_and_the_job_is_found(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "state") as process:

        def crash() -> None:
            process.kill()
            process.start()

        client = AgentClient(RemoteAddress(process.address), lost_after_s=20.0)
        seen = _Events(is_sampling, crash)
        job = make_job(_SLOW, precision=_SLOW_LOOK)
        result_of(client.run(job, {name_of(_SLOW): _SLOW}, seen)["s0"])
        client.close()
    _assert_whole(seen)
    assert sum(isinstance(event.body, records.Interrupted) for event in seen) == 1


@pytest.mark.slow
def test_an_agent_that_lost_its_state_gets_the_job_again(tmp_path: Path) -> None:
    process = AgentProcess(tmp_path / "first")
    with process:

        def wipe() -> None:
            process.kill()
            process.state = tmp_path / "second"
            process.start()

        client = AgentClient(RemoteAddress(process.address), lost_after_s=20.0)
        seen = _Events(is_sampling, wipe)
        job = make_job(_SLOW, precision=_SLOW_LOOK)
        result_of(client.run(job, {name_of(_SLOW): _SLOW}, seen)["s0"])
        client.close()
    # The events begin anew, because this is another life of the job.
    begin = [place for place, event in enumerate(seen) if event.index == 0]
    assert len(begin) == 2
    _assert_whole(seen[begin[1] :])


@pytest.mark.parametrize("taken", [False, True], ids=["nothing", "no-agent"])
def test_where_no_agent_answers_is_said_within_seconds(
    monkeypatch: pytest.MonkeyPatch, *, taken: bool
) -> None:
    assert client_module._FIRST_CONTACT_WITHIN_S <= 5.0
    monkeypatch.setattr(client_module, "_FIRST_CONTACT_WITHIN_S", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        if not taken:
            listener.close()
        client = AgentClient(RemoteAddress(address))
        begin_s = time.monotonic()
        with pytest.raises(DeviceUnreachableError, match=f"{address}.*boardfront-agent serve"):
            client.describe()
        assert time.monotonic() - begin_s < 4.0
        client.close()


def test_a_slow_first_description_is_no_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = agent_module._probe

    def slow_probe() -> tuple[records.BackendInfo, ...]:
        time.sleep(0.8)
        return probe()

    monkeypatch.setattr(agent_module, "_probe", slow_probe)
    monkeypatch.setattr(client_module, "_FIRST_CONTACT_WITHIN_S", 0.7)
    with serving(tmp_path) as (_, wire):
        client = AgentClient(RemoteAddress(wire.address))
        assert client.describe().name == "bench"
        client.close()


@pytest.mark.parametrize(
    "text", ["", "board", "board:", "board:0", "board:65536", "http://board:50051", ":50051"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(WrongInputError, match="expected 'local' or HOST:PORT"):
        parse_device(text)


@pytest.mark.parametrize("text", ["board:50051", "192.168.1.20:1", "[fe80::1%eth0]:50051"])
def test_an_address_is_taken_as_given(text: str) -> None:
    assert parse_device(text).resolve() == text


def test_an_agent_of_another_contract_is_refused(
    shared: tuple[Agent, Wire], client: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = dataclasses.replace(client.describe(), protocol_version=2)
    monkeypatch.setattr(shared[0], "describe", lambda: newer)
    with pytest.raises(WrongInputError, match="speaks protocol version 2, this host 1: install"):
        client.describe()


def test_a_refused_job_is_the_users_error_at_once(client: AgentClient) -> None:
    content = programme()
    asked = harness.subject(content, backend="tpu")
    with pytest.raises(WrongInputError, match="unknown backend 'tpu' on bench"):
        client.run(make_job(subjects=(asked,)), {name_of(content): content}, _Events())


def test_an_agents_own_defect_is_not_retried(tmp_path: Path) -> None:
    content = programme()
    with serving(tmp_path) as (agent, wire):
        agent.jobs.watch = lambda *_: iter([1 // 0])  # type: ignore[method-assign,assignment]
        client = AgentClient(RemoteAddress(wire.address))
        with pytest.raises(BoardfrontError, match="Exception iterating responses"):
            client.run(make_job(content), {name_of(content): content}, _Events())
        client.close()


def test_a_job_that_somebody_cancelled_is_no_result(
    shared: tuple[Agent, Wire], client: AgentClient
) -> None:
    content = programme(fault="hang-compile")
    job = make_job(content)
    artifacts = {name_of(content): content}
    seen = _Events(in_phase(Phase.COMPILING), lambda: _discard(shared[1].cancel(job.job_id)))
    with pytest.raises(JobCancelledError, match=job.job_id):
        client.run(job, artifacts, seen)
    # Asked for again, it runs again.
    again = _Events(in_phase(Phase.COMPILING), lambda: client.cancel(job.job_id))
    with pytest.raises((JobCancelledError, BoardfrontError)):
        client.run(job, artifacts, again)
    assert again[0].index == 0
    client.cancel(job.job_id)


def _discard(_: object) -> None:
    return None


def test_a_job_that_was_fetched_before_is_not_run_again(client: AgentClient) -> None:
    content = programme()
    job = make_job(content)
    client.run(job, {name_of(content): content}, _Events())
    client.acknowledge(job.job_id)
    client.acknowledge(job.job_id)
    with pytest.raises(JobForgottenError, match=job.job_id):
        client.run(job, {name_of(content): content}, _Events())


def test_unknown_jobs_are_as_good_as_ended(client: AgentClient) -> None:
    client.cancel("nobody")
    client.acknowledge("nobody")


def test_telemetry_ends_when_the_caller_stops_or_the_device_goes(
    client: AgentClient, proxy: Proxy
) -> None:
    stream = client.telemetry(0.2)
    samples = list(itertools.islice(stream, 2))
    assert samples[0].time_unix_s < samples[1].time_unix_s
    proxy.refuse(yes=True)
    with pytest.raises(DeviceUnreachableError):
        list(stream)
