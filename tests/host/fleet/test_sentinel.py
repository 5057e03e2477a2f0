"""The sentinel: a shift of the device puts what it touched in quarantine, and nothing else."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import DEADLINES, programme
from tests.host.fleet.leveled import LeveledDevice, leveled_agent
from typing_extensions import override

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.connection import ArtifactGoneError
from boardfront.host.fleet.kept_artifacts import KeptArtifacts, KeptNetwork, KeptRequest
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.host.fleet.sentinel import Finding, Sentinel, SentinelRule, State, sentinel_key
from boardfront.latency_models.base import ReferenceModel, TimeRequest
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos import records
from boardfront.protos.records import Purpose, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boardfront.latency_models.base import Measurement

pytestmark = pytest.mark.timeout(60)

QUICK = records.Precision(relative_half_width=0.3, min_duration_s=0.1, max_duration_s=0.5)
TARGET = {"time_s": "0.01"}
"""The sentinel's time; those of the other networks are in their programmes."""
RESTLESS = 1.0
"""Noise in which no look comes to an interval of 2 %."""
LOOK = records.Precision(relative_half_width=0.02, min_duration_s=0.3, max_duration_s=0.4)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveledDevice]:
    with leveled_agent(tmp_path_factory.mktemp("leveled")) as running:
        yield running


@pytest.fixture
def device(shared: LeveledDevice) -> LeveledDevice:
    shared.set(1.0)
    return shared


@pytest.fixture
def client(shared: LeveledDevice) -> Iterator[AgentClient]:
    made = AgentClient(RemoteAddress(shared.wire.address), lost_after_s=5.0)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MeasurementStore]:
    with MeasurementStore(tmp_path / "store.db") as opened:
        yield opened


class _Bench:
    """A measurer with a sentinel, and what that told."""

    def __init__(
        self, client: AgentClient, store: MeasurementStore, *, every: int = 2, at_once: bool = True
    ) -> None:
        self.findings: list[Finding] = []
        self.remeasured: list[tuple[Measurement, Measurement]] = []
        self.measurer = DeviceMeasurer(
            client,
            store,
            sentinel=SentinelRule(
                every=every,
                at_once=at_once,
                look=LOOK,
                on_finding=self.findings.append,
                on_remeasured=lambda old, new: self.remeasured.append((old, new)),
            ),
        )

    @property
    def states(self) -> list[State]:
        return [finding.state for finding in self.findings]

    def __call__(self, *requests: TimeRequest) -> list[Measurement]:
        return list(self.measurer.measure(requests))


@pytest.fixture
def bench(client: AgentClient, store: MeasurementStore) -> _Bench:
    return _Bench(client, store)


def _request(**changes: object) -> TimeRequest:
    """Return a request for a network that nobody asked for before."""
    number = next(_numbers)
    request = TimeRequest(
        model=programme(time_s=0.002 + 1e-5 * number),
        structure_hash=f"{number:064}",
        task=records.Task(),
        backend="level",
        options=TARGET,
        precision=QUICK,
        deadlines=DEADLINES,
    )
    return dataclasses.replace(request, **changes)  # type: ignore[arg-type]


def _looks(store: MeasurementStore, device: LeveledDevice) -> list[Measurement]:
    """Return what was measured of the sentinel, oldest first."""
    description = device.wire.describe()
    found = store.recent(device_id=description.device_id)
    sha256 = description.sentinel_sha256
    return [one for one in reversed(found) if one.key.structure_hash == sha256]


def test_it_is_timed_before_the_first_job_and_after_every_so_many(
    bench: _Bench, store: MeasurementStore, device: LeveledDevice
) -> None:
    bench(*(_request() for _ in range(5)))
    assert bench.states == [State.FIRST, State.STEADY, State.STEADY]
    looks = _looks(store, device)
    assert [look.id for look in looks] == [1, 4, 7]
    assert {look.purpose for look in looks} == {Purpose.SENTINEL}
    assert not any(look.sampled_in_turn for look in looks)
    # The agent may forget its jobs, and did.
    assert device.agent.jobs.queued == 0
    assert [f.name for f in device.agent.jobs._folder.iterdir() if f.is_dir()] == []


def test_what_the_store_answers_needs_no_look(bench: _Bench) -> None:
    request = _request()
    bench(*[request] * 5)
    assert bench.states == [State.FIRST]


def test_a_shift_puts_what_it_touched_in_quarantine_and_measures_it_again(
    bench: _Bench, store: MeasurementStore, device: LeveledDevice
) -> None:
    requests = [_request() for _ in range(5)]
    early = bench(*requests[:2])
    trusted = bench(requests[2])
    device.set(1.05)
    late = bench(requests[3])
    after = bench(requests[4])
    assert bench.states == [State.FIRST, State.STEADY, State.SHIFTED]
    finding = bench.findings[-1]
    assert "shifted by +5.0%" in finding.message
    assert "2 times measured since then" in finding.message
    touched = [one.id for one in (*trusted, *late)]
    assert finding.quarantined == set(touched)
    # Since the last good look: nobody knows when it shifted.
    assert [old.id for old, _ in bench.remeasured] == touched
    for old, new in bench.remeasured:
        assert new.purpose is Purpose.RETRY
        assert new.key == old.key
        assert new.result is not None
        assert new.result.artifact_sha256 == old.result.artifact_sha256  # type: ignore[union-attr]
    shift = [_ratio(new, old) for old, new in bench.remeasured]
    assert shift == pytest.approx([1.05, 1.0], abs=0.003)
    # Lookups answer what was measured again, and what the shift did not touch.
    for (old, new), request in zip(bench.remeasured, requests[2:4], strict=True):
        assert old.result is not None
        found = store.lookup(old.key, precision=request.precision)
        assert found is not None
        assert found.id == new.id
    assert {m.quarantined for m in store.get([m.id or 0 for m in (*early, *after)])} == {False}
    reason = _reasons(store)
    assert len(reason) == 2
    assert all("from " in text and " to " in text for text, _ in reason)
    assert {times_only for _, times_only in reason} == {1}


@pytest.mark.slow
def test_after_a_shift_the_new_level_is_the_one_to_compare_with(
    bench: _Bench, device: LeveledDevice, client: AgentClient, store: MeasurementStore
) -> None:
    bench(_request())
    device.set(0.9)
    bench(_request(), _request())
    assert bench.states == [State.FIRST, State.SHIFTED]
    bench(_request(), _request())
    assert bench.states[2:] == [State.STEADY] * len(bench.states[2:])
    later = _Bench(client, store)
    later(_request())
    assert later.states == [State.STEADY]


def test_a_shift_between_two_processes_is_seen(
    client: AgentClient, store: MeasurementStore, device: LeveledDevice
) -> None:
    earlier = _Bench(client, store)
    (stale,) = earlier(_request())
    device.set(1.1)
    later = _Bench(client, store)
    later(_request())
    assert later.states == [State.SHIFTED]
    assert later.findings[0].quarantined == {stale.id}
    # It was another process's: its request is not ours to repeat.
    assert later.remeasured == []


@pytest.mark.parametrize("level", [0.985, 1.015])
def test_a_shift_below_the_limit_convicts_nobody(
    bench: _Bench, device: LeveledDevice, level: float
) -> None:
    bench(_request())
    device.set(level)
    bench(_request(), _request())
    assert bench.states == [State.FIRST, State.STEADY]


def test_a_look_that_is_not_ok_neither_convicts_nor_acquits(
    bench: _Bench, store: MeasurementStore, device: LeveledDevice
) -> None:
    bench(_request(), _request())
    device.set(1.2, noise=RESTLESS)
    bench(_request())
    assert bench.states == [State.FIRST, State.UNKNOWN]
    assert "tells nothing about drift, it was unstable" in bench.findings[-1].message
    assert _reasons(store) == []
    # The next job tries again, and compares with the last good one.
    device.set(1.2)
    bench(_request())
    assert bench.states == [State.FIRST, State.UNKNOWN, State.SHIFTED]
    assert len(bench.findings[-1].quarantined) == 3


def test_a_shift_that_is_not_confirmed_is_not_the_level_of_later(
    client: AgentClient, store: MeasurementStore, device: LeveledDevice
) -> None:
    told: list[Finding] = []
    looked = itertools.count()

    class _Restless(KeptArtifacts):
        """A device that becomes restless after its second look."""

        @override
        def measure(
            self, request: KeptRequest, description: records.DeviceDescription
        ) -> Measurement:
            measured = super().measure(request, description)
            if next(looked) == 1:
                device.set(1.1, noise=RESTLESS)
            return measured

    description = client.describe()
    (sample,) = DeviceMeasurer(client, store).measure([_request()])
    key = sentinel_key(sample.key, description)
    assert key is not None
    sentinel = Sentinel(
        _Restless(client, store),
        store,
        key,
        device_id=description.device_id,
        rule=SentinelRule(every=1, look=LOOK, on_finding=told.append),
    )
    sentinel.look(description)
    device.set(1.1)
    sentinel.look(description)
    assert sentinel.is_due
    device.set(1.1)
    sentinel.look(description)
    assert [one.state for one in told] == [State.FIRST, State.UNKNOWN, State.SHIFTED]


def test_a_failing_sentinel_is_told_and_not_asked_for_ever(bench: _Bench) -> None:
    hopeless = {**TARGET, "fault": "unsupported"}
    bench(*(_request(options=hopeless) for _ in range(3)))
    assert bench.states == [State.FAILED]
    assert "unsupported: programmed fault" in bench.findings[0].message


def test_with_a_reference_there_is_no_look(bench: _Bench) -> None:
    reference = ReferenceModel(model=programme(time_s=0.002), structure_hash="r" * 64)
    (answer,) = bench(_request(reference=reference))
    assert answer.result is not None
    assert bench.states == []


def test_other_targets_keep_their_times(bench: _Bench, device: LeveledDevice) -> None:
    (other,) = bench(_request(options={**TARGET, "compile_s": "1"}))
    bench(_request())
    device.set(1.1)
    bench(_request(), _request())
    assert bench.states == [State.FIRST, State.FIRST, State.SHIFTED]
    assert other.id not in bench.findings[-1].quarantined


def test_those_measured_together_count_as_one_job(bench: _Bench) -> None:
    for _ in range(3):
        bench.measurer.measure_together([_request(fresh=True), _request(fresh=True)])
    assert bench.states == [State.FIRST, State.STEADY]


def test_without_at_once_the_store_says_when_it_is_due(
    client: AgentClient, store: MeasurementStore
) -> None:
    for expected in ([State.FIRST], [], [State.STEADY], []):
        bench = _Bench(client, store, at_once=False)
        bench(_request())
        assert bench.states == expected


def test_what_the_agent_lost_cannot_be_measured_again(
    client: AgentClient, store: MeasurementStore, device: LeveledDevice
) -> None:
    (answer,) = DeviceMeasurer(client, store).measure([_request()])
    assert answer.result is not None
    sha256 = answer.result.artifact_sha256
    assert client.missing([sha256]) == frozenset()
    path = device.agent.artifacts.path(sha256)
    assert path is not None
    path.unlink()
    assert client.missing([sha256]) == {sha256}
    network = KeptNetwork(artifact_sha256=sha256, key=answer.key)
    request = KeptRequest(network=network, precision=QUICK, purpose=Purpose.AUDIT)
    with pytest.raises(ArtifactGoneError, match=f"artifact {sha256[:12]} is not here"):
        KeptArtifacts(client, store).measure(request, client.describe())
    assert device.agent.jobs.queued == 0


def _ratio(new: Measurement, old: Measurement) -> float:
    assert new.result is not None
    assert old.result is not None
    assert new.result.verdict is Verdict.OK
    return new.result.statistics.median_s / old.result.statistics.median_s


def _reasons(store: MeasurementStore) -> list[tuple[str, int]]:
    with store._engine.connect() as connection:
        rows = connection.exec_driver_sql("select reason, times_only from quarantines").all()
    return [(str(reason), int(times_only)) for reason, times_only in rows]
