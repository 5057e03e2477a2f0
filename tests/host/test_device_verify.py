"""`boardfront device verify`: a device that changed is found out."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.device_agent.onnx_files import conv_net
from tests.host.fleet.leveled import LeveledDevice, leveled_agent

from boardfront.host.commands.device import _bins
from boardfront.host.fleet.kept_artifacts import KeptArtifacts
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos.records import Precision, Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.host.searching import Place

    from boardfront.latency_models.base import Measurement

    Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(120)

NETS = 3
FAST = ("--duration", "0.1", "--precision", "0.3")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveledDevice]:
    with leveled_agent(tmp_path_factory.mktemp("leveled")) as running:
        yield running


@pytest.fixture
def device(shared: LeveledDevice) -> LeveledDevice:
    shared.set(1.0)
    return shared


@pytest.fixture
def verify(boardfront: Command, device: LeveledDevice) -> Command:
    """Verify the running agent."""

    def call(*arguments: str) -> tuple[int, str, str]:
        return boardfront("device", "verify", device.wire.address, *arguments)

    return call


@pytest.fixture
def measure(
    boardfront: Command, device: LeveledDevice, place: Place
) -> Callable[..., dict[str, Any]]:
    """Measure the net of this many channels; return the JSON."""

    def call(channels: int, *arguments: str) -> dict[str, Any]:
        path = place.folder / f"net{channels}.onnx"
        path.write_bytes(conv_net(channels))
        code, out, told = boardfront(
            *("measure", path.name, "--device", device.wire.address, "--backend", "level"),
            *("--no-sentinel", "--json", *FAST, *arguments),
        )
        assert (code, told) == (0, "")
        content: dict[str, Any] = json.loads(out)
        return content

    return call


@pytest.mark.slow
def test_a_device_that_is_as_it_was(
    measure: Callable[..., dict[str, Any]], verify: Command, device: LeveledDevice, place: Place
) -> None:
    ids = [measure(channels)["id"] for channels in range(4, 4 + NETS)]
    code, out, told = verify()
    assert (code, told) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"bench: {NETS} of {NETS} agree within 2%, {NETS} within 5%"
    assert "difference  median 0." in lines[1]
    assert [line.split()[-1] for line in lines if "#" in line] == ["#" * NETS]
    with MeasurementStore(place.store) as store:
        stored = store.recent(device_id=device.wire.describe().device_id)
    assert len(stored) == 2 * NETS
    assert {one.purpose for one in stored[:NETS]} == {Purpose.AUDIT}
    assert {one.key.digest for one in stored[:NETS]} == {one.key.digest for one in stored[NETS:]}
    # Audits are not audited, and a smaller sample is a function of its seed.
    samples = [
        [
            check["id"]
            for check in json.loads(verify("--json", "--sample", "2", *seed)[1])["checks"]
        ]
        for seed in ((), ("--seed", "0"))
    ]
    assert samples[0] == samples[1]
    assert len(samples[0]) == 2
    assert set(samples[0]) < set(ids)


@pytest.mark.slow
def test_a_device_that_changed(
    measure: Callable[..., dict[str, Any]], verify: Command, device: LeveledDevice
) -> None:
    first = measure(4)
    device.set(1.03)
    measure(5)
    code, out, told = verify("--json")
    assert (code, told) == (1, "")
    content = json.loads(out)
    assert content["compared"] == 2
    assert (content["within_2_percent"], content["within_5_percent"]) == (1, 2)
    assert content["worst_relative_difference"] == pytest.approx(0.03, abs=1e-3)
    assert content["median_relative_difference"] == pytest.approx(0.015, abs=1e-3)
    assert sum(content["histogram"]["counts"]) == 2
    (changed,) = [check for check in content["checks"] if check["id"] == first["id"]]
    assert changed["relative_difference"] == pytest.approx(0.03, abs=1e-3)
    text = verify("--sample", "9")[1]
    assert "1 of 2 agree within 2%" in text
    assert "worst +3.0" in text
    assert f"(number {first['id']}: " in text


def test_what_was_divided_is_compared_as_a_ratio(
    measure: Callable[..., dict[str, Any]], verify: Command, device: LeveledDevice, place: Place
) -> None:
    (place.folder / "other.onnx").write_bytes(conv_net(7))
    divided = measure(5, "--reference", "other.onnx")
    # All is slower, and the ratio of two stays what it was.
    device.set(1.5)
    content = json.loads(verify("--json")[1])
    by_id = {check["id"]: check for check in content["checks"]}
    assert by_id[divided["id"]]["is_ratio"]
    assert by_id[divided["id"]]["relative_difference"] == pytest.approx(0.0, abs=0.01)
    (alone,) = [check for check in content["checks"] if not check["is_ratio"]]
    assert alone["relative_difference"] == pytest.approx(0.5, abs=0.01)


def test_a_check_that_is_not_ok_is_no_disagreement(
    measure: Callable[..., dict[str, Any]], verify: Command, device: LeveledDevice, place: Place
) -> None:
    measured = measure(4)
    with MeasurementStore(place.store) as store:
        (stored,) = store.get([measured["id"]])
        assert stored.result is not None
        # As if it had been asked for closely, and for no longer than a test can wait.
        close = Precision(relative_half_width=0.001, min_duration_s=0.1, max_duration_s=0.3)
        result = dataclasses.replace(stored.result, precision=close)
        store.append(dataclasses.replace(stored, id=None, job_id="close", outcome=result))
        store.quarantine([measured["id"]], "its copy is wanted alone")
    device.set(1.5, noise=1.0)
    code, out, _ = verify()
    assert code == 1
    assert "bench: nothing could be compared" in out
    assert "counted apart: 1 unstable this time" in out


def test_what_cannot_be_measured_again_is_counted(
    measure: Callable[..., dict[str, Any]],
    verify: Command,
    device: LeveledDevice,
    place: Place,
) -> None:
    measure(4)
    gone = measure(5)
    with MeasurementStore(place.store) as store:
        (lost,) = store.get([gone["id"]])
        store.append(_elsewhere(lost))
    assert lost.result is not None
    path = device.agent.artifacts.path(lost.result.artifact_sha256)
    assert path is not None
    path.unlink()
    code, out, _ = verify()
    assert code == 0
    assert "1 of 1 agree" in out
    assert "passed over: 1 whose networks the agent no longer has" in out
    assert "not comparable: 1 measured under another kernel, governor" in out


def test_nothing_to_verify(
    verify: Command, measure: Callable[..., dict[str, Any]], device: LeveledDevice, place: Place
) -> None:
    code, out, told = verify()
    assert (code, out) == (1, "")
    assert "nothing to verify: " in told
    assert "measure something first, e.g. boardfront measure net.onnx" in told
    assert len(told.splitlines()) == 1
    gone = measure(6)
    with MeasurementStore(place.store) as store:
        (lost,) = store.get([gone["id"]])
    assert lost.result is not None
    path = device.agent.artifacts.path(lost.result.artifact_sha256)
    assert path is not None
    path.unlink()
    assert "the agent no longer has the networks of 1" in verify()[2]


def test_an_interrupted_audit_says_how_far_it_came(
    measure: Callable[..., dict[str, Any]],
    verify: Command,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for channels in (4, 5):
        measure(channels)
    left = iter([True, False])
    whole = KeptArtifacts.measure

    def until_interrupted(*arguments: Any) -> Any:
        if not next(left):
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(KeptArtifacts, "measure", until_interrupted)
    code, out, told = verify()
    assert code == 130
    assert out.startswith("bench: 1 of 1 agree within 2%")
    assert told == ""
    assert "interrupted after 1 of 2" in out
    with MeasurementStore(place.store) as store:
        assert [one.purpose for one in store.get([3])] == [Purpose.AUDIT]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("there",), "expected 'local' or HOST:PORT"),
        (("local", "--sample", "0"), "--sample"),
        ((), "HOST:PORT|local"),
    ],
)
def test_wrong_input(boardfront: Command, arguments: tuple[str, ...], expected: str) -> None:
    code, out, told = boardfront("device", "verify", *arguments)
    assert (code, out) == (2, "")
    assert expected in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.0, 0.01, -0.01], [0, 0, 0, 3, 0, 0, 0]),
        ([0.02, -0.02, 0.05, -0.05], [0, 1, 1, 0, 1, 1, 0]),
        ([0.051, -0.2], [1, 0, 0, 0, 0, 0, 1]),
        ([], [0] * 7),
    ],
)
def test_bins_take_an_edge_to_the_inner_side(
    differences: list[float], expected: list[int]
) -> None:
    assert _bins(differences) == expected


def _elsewhere(measurement: Measurement) -> Measurement:
    """Return the measurement as if another kernel had been there."""
    key = dataclasses.replace(measurement.key, fingerprint="another kernel")
    return dataclasses.replace(measurement, id=None, key=key, job_id="elsewhere")
