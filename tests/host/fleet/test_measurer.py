"""The measurer: the store first, failures as failures, nothing lost and nothing twice."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import DEADLINES, Wire, in_phase, programme, serving
from typing_extensions import override

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.host.fleet.planned_job import MAX_TOGETHER, PlannedJob
from boardfront.latency_models.base import Measurer, TimeRequest
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos import records
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import FailureKind, Origin, Phase, Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boardfront.device_agent.agent import Agent
    from boardfront.latency_models.base import Measurement

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Agent, Wire]]:
    with serving(tmp_path_factory.mktemp("agent")) as running:
        yield running


@pytest.fixture
def client(shared: tuple[Agent, Wire]) -> Iterator[AgentClient]:
    made = AgentClient(RemoteAddress(shared[1].address), lost_after_s=5.0)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MeasurementStore]:
    with MeasurementStore(tmp_path / "store.db") as opened:
        yield opened


class _Bench:
    """A measurer, and which jobs were timed for it."""

    def __init__(self, client: AgentClient, store: MeasurementStore) -> None:
        self.timed: list[str] = []
        self.measurer = DeviceMeasurer(
            client, store, listener=self._listen, clock=lambda: 1_700_000_000.0
        )

    def __call__(self, *requests: TimeRequest) -> list[Measurement]:
        return list(self.measurer.measure(requests))

    def _listen(self, label: str, event: records.JobEvent) -> None:
        if in_phase(Phase.WARMING_UP)(event):
            self.timed.append(label)


@pytest.fixture
def bench(client: AgentClient, store: MeasurementStore) -> _Bench:
    return _Bench(client, store)


def _request(time_s: float = 0.002, **changes: object) -> TimeRequest:
    request = TimeRequest(
        model=programme(time_s=time_s),
        structure_hash=f"{time_s:064}",
        task=records.Task(),
        backend="fake",
        precision=records.Precision(relative_half_width=0.05, min_duration_s=0.1),
        deadlines=DEADLINES,
        label=f"{time_s:g} s",
    )
    return dataclasses.replace(request, **changes)  # type: ignore[arg-type]


def test_it_is_a_measurer(bench: _Bench) -> None:
    assert isinstance(bench.measurer, Measurer)


def test_an_answer_is_stored_with_all_that_is_known(
    shared: tuple[Agent, Wire], bench: _Bench, store: MeasurementStore
) -> None:
    (found,) = bench(_request(purpose=Purpose.AUDIT))
    assert found.result is not None
    assert found.result.statistics.median_s == pytest.approx(0.002, rel=0.01)
    assert found.id is not None
    description = shared[1].describe()
    assert (found.device_id, found.device_name) == (description.device_id, "bench")
    assert found.agent_version == description.agent_version
    assert found.created_unix_s == 1_700_000_000.0
    assert found.purpose is Purpose.AUDIT
    assert found.key.fingerprint == description.fingerprint
    assert found.key.origin is Origin.PROGRAMMED
    assert dict(found.key.options)["noise"] == "0.001"
    assert store.history(found.key) == (found,)
    # The agent may forget it, and did.
    assert shared[0].jobs.queued == 0
    assert not (shared[0].jobs._folder / found.job_id).exists()


def test_what_the_store_knows_is_not_measured(bench: _Bench) -> None:
    (first,) = bench(_request())
    assert bench(_request(), _request()) == [first, first]
    assert bench.timed == ["0.002 s"]
    # Options are keyed in full, so a default that is spelt out is the same time.
    assert bench(_request(options={"noise": "0.001"})) == [first]
    (finer,) = bench(
        _request(precision=records.Precision(relative_half_width=0.05, min_duration_s=0.3))
    )
    assert finer.id != first.id
    assert bench.timed == ["0.002 s"] * 2


def test_fresh_is_measured_whatever_the_store_holds(
    bench: _Bench, store: MeasurementStore
) -> None:
    first, second = bench(_request(fresh=True), _request(fresh=True))
    assert first.id != second.id
    assert first.job_id != second.job_id
    assert bench.timed == ["0.002 s"] * 2
    assert store.history(first.key) == (first, second)


def test_answers_come_one_by_one_in_order(bench: _Bench) -> None:
    answers = bench.measurer.measure([_request(0.003), _request(0.001), _request(0.003)])
    first = next(answers)
    assert bench.timed == ["0.003 s"]
    second, third = answers
    assert third == first
    assert second.result is not None
    assert second.result.statistics.median_s == pytest.approx(0.001, rel=0.01)
    assert bench.timed == ["0.003 s", "0.001 s"]


def test_a_failure_is_kept_as_one_and_never_as_a_time(
    bench: _Bench, store: MeasurementStore
) -> None:
    crashing = _request(model=programme(fault="crash-run"))
    broken, whole = bench(crashing, _request(0.001))
    assert broken.result is None
    assert broken.failure is not None
    assert broken.failure.kind is FailureKind.CRASHED
    assert broken.id is not None
    assert whole.result is not None
    assert store.lookup(broken.key, precision=crashing.precision) is None
    # It is no answer to the next one who asks.
    (again,) = bench(crashing)
    assert again.id != broken.id
    assert [found.failure is not None for found in store.history(broken.key)] == [True, True]


def test_what_a_lost_device_did_not_measure_is_tried_again_by_the_same_run(
    bench: _Bench, store: MeasurementStore
) -> None:
    request = _request(model=programme(fault="device-lost"), fresh=True, job_seed="run-7")
    (lost,) = bench(request)
    assert lost.failure is not None
    assert lost.failure.kind is FailureKind.DEVICE_LOST
    (again,) = bench(request)
    assert (again.id, again.job_id) != (lost.id, lost.job_id)
    assert len(store.history(lost.key)) == 2
    # A network's own failure is final: the job is the same, and so is the answer.
    crashing = dataclasses.replace(request, model=programme(fault="crash-run"))
    (first,), (second,) = bench(crashing), bench(crashing)
    assert first.id == second.id


class _Unplugged(AgentClient):
    """A host that dies before it can acknowledge."""

    @override
    def acknowledge(self, job_id: str) -> None:
        del job_id
        raise _PowerCutError


class _PowerCutError(Exception):
    """The host's end."""


@pytest.mark.parametrize("together", [False, True])
def test_a_host_that_dies_before_acknowledging_measures_nothing_twice(
    shared: tuple[Agent, Wire], bench: _Bench, store: MeasurementStore, *, together: bool
) -> None:
    request = _request(fresh=True, job_seed=f"run-1 {together}")
    dying = DeviceMeasurer(
        _Unplugged(RemoteAddress(shared[1].address)), store, clock=lambda: 1_700_000_000.0
    )
    with pytest.raises(_PowerCutError):
        _ask(dying, request, together=together)
    kept = shared[0].jobs._folder
    (left,) = [folder.name for folder in kept.iterdir() if folder.is_dir()]
    (found,) = _ask(bench.measurer, request, together=together)
    assert (found.id, found.job_id) == (1, left)
    assert bench.timed == []
    assert store.history(found.key) == (found,)
    # Nothing of it is left on the agent either.
    assert [folder for folder in kept.iterdir() if folder.is_dir()] == []


def test_what_is_recalled_is_not_left_on_the_agent_either(
    shared: tuple[Agent, Wire], bench: _Bench, store: MeasurementStore
) -> None:
    pair = [_request(time_s, fresh=True, job_seed="run-3") for time_s in (0.001, 0.002)]
    assert bench.measurer.recall(pair) is None
    dying = DeviceMeasurer(_Unplugged(RemoteAddress(shared[1].address)), store)
    with pytest.raises(_PowerCutError):
        dying.measure_together(pair)
    found = bench.measurer.recall(pair)
    assert found is not None
    assert [one.id for one in found] == [1, 2]
    assert bench.timed == []
    kept = shared[0].jobs._folder
    assert [folder for folder in kept.iterdir() if folder.is_dir()] == []


class _FullStore(MeasurementStore):
    """A store that dies with the second answer."""

    def __init__(self, location: Path) -> None:
        super().__init__(location)
        self._left = 1

    @override
    def append(self, measurement: Measurement) -> Measurement:
        if not self._left:
            raise _PowerCutError
        self._left -= 1
        return super().append(measurement)


def test_a_host_that_dies_between_two_answers_fetches_the_rest(
    client: AgentClient, tmp_path: Path
) -> None:
    pair = [_request(time_s, fresh=True, job_seed="run-2") for time_s in (0.001, 0.002)]
    with _FullStore(tmp_path / "dying.db") as dying, pytest.raises(_PowerCutError):
        _Bench(client, dying).measurer.measure_together(pair)
    with MeasurementStore(tmp_path / "dying.db") as store:
        bench = _Bench(client, store)
        first, second = bench.measurer.measure_together(pair)
    assert first.job_id == second.job_id
    assert (first.id, second.id) == (1, 2)
    # Both were told again from the agent's disk: each was timed once in its only life.
    assert bench.timed == ["0.001 s", "0.002 s"]


def test_a_seed_makes_the_same_job_only_of_the_same_question(bench: _Bench) -> None:
    asked = [_request(fresh=True, job_seed="a"), _request(fresh=True, job_seed="b")]
    asked += [dataclasses.replace(asked[0], options={"noise": "0.002"})]
    asked += [dataclasses.replace(asked[0], task=records.Task(batch=2))]
    found = bench(*asked)
    assert len({measurement.job_id for measurement in found}) == 4


def test_a_job_that_the_agent_knows_otherwise_is_run_under_a_name_that_is_found_again(
    client: AgentClient, store: MeasurementStore
) -> None:
    asked = _request(fresh=True, job_seed="run-9")
    planned = DeviceMeasurer(client, store).plan([asked])
    assert isinstance(planned, PlannedJob)
    # Sent by a host that died; whoever goes on wants to look closer.
    client.send(planned.job, planned.artifacts)
    closer = dataclasses.replace(
        asked, precision=dataclasses.replace(asked.precision, min_duration_s=0.11)
    )
    (found,) = _Bench(client, store)(closer)
    assert found.result is not None
    assert found.job_id != planned.job.job_id
    again = _Bench(client, store)
    assert again(closer) == [found]
    assert again.timed == []
    client.cancel(planned.job.job_id)


def test_another_store_gets_a_measurement_of_its_own(
    bench: _Bench, client: AgentClient, tmp_path: Path
) -> None:
    request = _request(job_seed="run-3")
    (first,) = bench(request)
    with MeasurementStore(tmp_path / "other.db") as other:
        (second,) = _Bench(client, other)(request)
    assert second.result is not None
    assert second.job_id != first.job_id


def test_those_measured_together_share_a_job(bench: _Bench) -> None:
    requests = [_request(0.002), _request(0.001), _request(model=programme(fault="crash-run"))]
    slow, fast, broken = bench.measurer.measure_together(requests)
    assert len({found.job_id for found in (slow, fast, broken)}) == 1
    assert [found.subject_id for found in (slow, fast, broken)] == ["s0", "s1", "s2"]
    assert slow.result is not None
    assert fast.result is not None
    assert slow.result.statistics.median_s > fast.result.statistics.median_s
    assert broken.failure is not None
    # Asked for together again they are measured again: the store is not asked.
    again = bench.measurer.measure_together(requests[:2])
    assert again[0].id != slow.id


@pytest.mark.parametrize("count", [0, MAX_TOGETHER + 1])
def test_too_many_together_are_refused(bench: _Bench, count: int) -> None:
    with pytest.raises(WrongInputError, match=f"{count} requests together: expected 1 to"):
        bench.measurer.measure_together([_request()] * count)


def test_an_unknown_backend_names_the_known(bench: _Bench) -> None:
    with pytest.raises(WrongInputError, match=r"unknown backend 'tpu' on device bench.*'fake'"):
        bench(_request(backend="tpu"))


def test_a_backend_that_is_not_installed_says_how_to(
    shared: tuple[Agent, Wire], bench: _Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = shared[0].describe()
    absent = records.BackendInfo(
        name="onnxruntime",
        version="",
        available=False,
        reason="not installed: pip install 'boardfront[onnxruntime]'",
    )
    changed = dataclasses.replace(description, backends=(absent,))
    monkeypatch.setattr(shared[0], "describe", lambda: changed)
    with pytest.raises(WrongInputError, match=r"pip install 'boardfront\[onnxruntime\]'"):
        bench(_request(backend="onnxruntime"))


def test_an_option_the_agent_refuses_is_the_users_error(bench: _Bench) -> None:
    with pytest.raises(WrongInputError, match=r"no option 'speed'.*'time_s'"):
        bench(_request(options={"speed": "11"}))


def test_a_keyboard_interrupt_ends_the_job_on_the_device(
    shared: tuple[Agent, Wire], client: AgentClient, store: MeasurementStore
) -> None:
    def interrupt(_label: str, event: records.JobEvent) -> None:
        if in_phase(Phase.COMPILING)(event):
            raise KeyboardInterrupt

    measurer = DeviceMeasurer(client, store, listener=interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(measurer.measure([_request(model=programme(fault="hang-compile"))]))
    assert shared[0].jobs.queued == 0


def _ask(
    measurer: DeviceMeasurer, request: TimeRequest, *, together: bool
) -> tuple[Measurement, ...]:
    if together:
        return measurer.measure_together([request])
    return tuple(measurer.measure([request]))
