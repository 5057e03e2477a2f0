"""Which boards are alike, from what they say of themselves and what their sentinels take."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from tests.host.fleet.leveled import LeveledDevice, leveled_agent
from tests.latency_models import samples

from boardfront.device_agent.environment import read_device_id
from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.self_test import (
    Seen,
    SelfTest,
    UnfitBoardError,
    same_kind,
    same_level,
)
from boardfront.host.fleet.this_machine import may_overlap, own_device_id
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos.records import (
    BackendInfo,
    DeviceDescription,
    Hardware,
    OperatingSystem,
    Origin,
    Precision,
    TaskKind,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

LOOK = Precision(relative_half_width=0.02, min_duration_s=0.3, max_duration_s=0.4)


def _description(
    *,
    fingerprint: str = "f" * 64,
    version: str = "1.18",
    available: bool = True,
    origin: Origin = Origin.MEASURED,
) -> DeviceDescription:
    return DeviceDescription(
        device_id="device-1",
        name="bench",
        hardware=Hardware(
            machine="aarch64",
            cpu_model="any",
            soc="rk3588",
            logical_cores=8,
            physical_cores=8,
            max_frequency_hz=None,
            memory_bytes=1 << 30,
        ),
        system=OperatingSystem(name="Linux", kernel="6.1", distribution=None, governor=None),
        fingerprint=fingerprint,
        agent_version="1",
        protocol_version=1,
        measurement_protocol_version=1,
        backends=(
            BackendInfo(
                name="onnxruntime",
                version=version,
                available=available,
                reason="" if available else "not installed",
                origin=origin,
                tasks=tuple(TaskKind),
            ),
        ),
        queued_jobs=0,
        sentinel_sha256="5" * 64,
    )


def _seen(name: str, median_s: float, half: float = 0.001) -> Seen:
    result = samples.result(median_s=median_s, relative_half_width=half)
    return Seen(name=name, description=_description(), look=samples.measurement(result))


def test_the_larger_group_of_one_kind_is_the_pool() -> None:
    boards = [
        Seen(name="odd", description=_description(fingerprint="0" * 64)),
        Seen(name="one", description=_description()),
        Seen(name="old", description=_description(version="1.17")),
        Seen(name="two", description=_description()),
        Seen(name="bare", description=_description(available=False)),
        Seen(name="away", error="no agent answers"),
    ]
    found = same_kind(boards, "onnxruntime")
    assert found.alike == ("one", "two")
    assert "another kind or set-up (fingerprint 000000000000" in found.left_out["odd"]
    assert found.left_out["old"] == "its onnxruntime is 1.17, the others' 1.18"
    assert found.left_out["bare"].endswith("not installed")
    assert found.left_out["away"] == "no agent answers"


def test_of_two_that_differ_the_first_counts() -> None:
    boards = [
        Seen(name="one", description=_description(fingerprint="0" * 64)),
        Seen(name="two", description=_description()),
    ]
    assert same_kind(boards, "onnxruntime").alike == ("one",)
    assert same_level([_seen("one", 0.001), _seen("two", 0.0011)]).alike == ("one",)


def test_no_board_with_the_backend_is_no_pool() -> None:
    found = same_kind([Seen(name="one", description=_description())], "rknn")
    assert found.alike == ()
    assert "rknn" in found.left_out["one"]


def test_a_board_off_by_more_than_two_percent_is_left_out() -> None:
    boards = [_seen("a", 0.001), _seen("b", 0.00101), _seen("c", 0.00105), _seen("d", 0.000995)]
    found = same_level(boards)
    assert found.alike == ("a", "b", "d")
    assert "more than 2% off" in found.left_out["c"]
    assert found.level == "995.0 us to 1.010 ms"


def test_a_wide_interval_convicts_nobody() -> None:
    found = same_level([_seen("a", 0.001), _seen("b", 0.001), _seen("c", 0.00105, half=0.08)])
    assert found.alike == ("a", "b", "c")
    restless = samples.measurement(samples.result(median_s=0.002, verdict=Verdict.UNSTABLE))
    told = same_level([_seen("a", 0.001), dataclasses.replace(_seen("b", 0.001), look=restless)])
    assert told.alike == ("a", "b")
    assert told.level == "1.000 ms to 1.000 ms"


def test_a_sentinel_that_fails_leaves_its_board_out_and_none_at_all_does_not() -> None:
    failing = dataclasses.replace(_seen("a", 0.001), look=samples.measurement(samples.failure()))
    without = Seen(name="b", description=_description())
    found = same_level([failing, without, _seen("c", 0.001)])
    assert found.alike == ("b", "c")
    assert "its sentinel failed: crashed" in found.left_out["a"]


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveledDevice]:
    with leveled_agent(tmp_path_factory.mktemp("leveled")) as running:
        yield running


@pytest.fixture
def client(device: LeveledDevice) -> Iterator[AgentClient]:
    made = AgentClient(RemoteAddress(device.wire.address), lost_after_s=5.0)
    yield made
    made.close()


def test_a_board_comes_back_only_as_what_it_was(
    device: LeveledDevice, client: AgentClient, tmp_path: Path
) -> None:
    before = client.describe()
    with MeasurementStore(tmp_path / "store.db") as store:
        test = SelfTest(backend="level", options={"time_s": "0.01"}, store=store, look=LOOK)
        look = test.time(client, before)
        assert look is not None
        assert look.result is not None
        assert look.result.verdict is Verdict.OK
        joined = Seen(name="board", description=before, look=look)
        test.check(client, before, joined)
        device.set(1.05)
        # However often: the level that counts is the one with which it joined.
        for _ in range(2):
            with pytest.raises(UnfitBoardError, match=r"takes 10.50 ms, before it took 10.00 ms"):
                test.check(client, before, joined)
        # Nor do such looks become the level of the drift sentinel: it has to find the shift.
        good = store.recent(device_id=before.device_id, key=look.key, verdict=Verdict.OK, limit=9)
        level = next(one.result for one in good if not one.quarantined)
        assert level is not None
        assert level.statistics.median_s == pytest.approx(0.01, rel=0.005)
        changed = dataclasses.replace(before, fingerprint="0" * 64)
        with pytest.raises(UnfitBoardError, match="is not the bench that it was"):
            test.check(client, changed, joined)
        # No verdict, no conviction.
        device.set(1.05, noise=1.0)
        test.check(client, before, joined)
    device.set(1.0)


def test_this_machine_is_known_by_the_agents_own_rule(tmp_path: Path) -> None:
    root = tmp_path / "etc"
    root.mkdir()
    (root / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    assert own_device_id(root / "machine-id") == read_device_id(tmp_path, root=tmp_path)
    assert own_device_id(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("origin", "address", "own_id", "expected"),
    [
        (Origin.MEASURED, "192.168.1.20:50051", "other", True),
        (Origin.MEASURED, "127.0.0.1:50051", "other", True),  # behind a tunnel
        (Origin.MEASURED, "192.168.1.20:50051", "device-1", False),
        (Origin.PROGRAMMED, "127.0.0.1:50051", "device-1", True),
        (Origin.MEASURED, "127.0.0.1:50051", None, False),
        (Origin.MEASURED, "192.168.1.20:50051", None, True),
    ],
)
def test_only_another_machine_or_a_programme_may_be_overlapped(
    origin: Origin, address: str, own_id: str | None, *, expected: bool
) -> None:
    description = _description(origin=origin)
    assert may_overlap(description, "onnxruntime", address, own_id=own_id) is expected
