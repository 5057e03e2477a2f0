"""A latency table: what it predicts, what it is of, and its file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.latency_models.table_samples import CALL_S, KINDS, MEMBERS, block_s, chain_s, table

from boardfront.latency_models.blocks import BlockKey, Decomposition
from boardfront.latency_models.table import (
    Calibration,
    Table,
    TableEntry,
    TargetChangedError,
    missing_of,
    to_json,
)
from boardfront.protos import records
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_block_reads_back_from_its_text() -> None:
    key = BlockKey(kind="020-", in_channels=48, out_channels=96, stride=2, resolution=16)
    assert key.text == "020- 48->96 /2 @16"
    assert BlockKey.parse(key.text) == key
    assert (key.out_resolution, key.is_stackable) == (8, False)
    assert replace(key, resolution=15).out_resolution == 8


@pytest.mark.parametrize(
    "text", ["", "5 48-96 /2 @16", "5 48->96 /2", "a b 1->2 /1 @3", "5 0->1 /1 @1"]
)
def test_what_is_no_block_is_refused(text: str) -> None:
    with pytest.raises(WrongInputError, match="expected a block"):
        BlockKey.parse(text)


def test_a_decomposition_counts_its_blocks() -> None:
    first, second = KINDS[1:3]
    counts = Decomposition(blocks=(first, second, first)).counts
    assert list(counts.items()) == [(first, 2), (second, 1)]


def test_a_network_is_the_sum_of_its_blocks() -> None:
    made = table()
    for one in MEMBERS:
        decomposition = Decomposition(blocks=one.chain)
        assert made.covers(decomposition)
        assert made.sum_s(decomposition) == pytest.approx(chain_s(one.chain), rel=1e-12)
    calibrated = replace(made, calibration=Calibration(offset_s=1e-6, slope=1.1, networks=5))
    sum_s = chain_s(MEMBERS[0].chain)
    predicted_s = calibrated.predict_s(Decomposition(blocks=MEMBERS[0].chain))
    assert predicted_s == pytest.approx(1e-6 + 1.1 * sum_s, rel=1e-12)


def test_a_block_without_an_entry_is_named() -> None:
    made = replace(table(), entries=table().entries[:-1])
    last = table().entries[-1].block
    network = next(one for one in MEMBERS if last in one.chain)
    assert not made.covers(Decomposition(blocks=network.chain))
    with pytest.raises(WrongInputError, match=last.text.replace(">", ".")):
        made.sum_s(Decomposition(blocks=network.chain))
    assert missing_of(KINDS, made.entries) == (last.text,)


def test_a_file_holds_all_of_a_table(tmp_path: Path) -> None:
    made = table()
    path = tmp_path / "toy.json"
    made.save(path)
    assert Table.load(path) == made
    data = json.loads(path.read_text())
    assert (data["format"], data["version"], data["unit"]) == ("boardfront-latency-table", 1, "s")
    assert made.residual is not None
    assert data["residual"]["networks"] == made.residual.networks
    # Nothing is left beside it.
    assert [one.name for one in tmp_path.iterdir()] == ["toy.json"]


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    def damage(data: dict[str, Any]) -> None:
        del data[name]

    return damage


def _with(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def damage(data: dict[str, Any]) -> None:
        data[name] = value

    return damage


def _turned(data: dict[str, Any]) -> None:
    entry = data["entries"][0]
    entry["low_s"], entry["high_s"] = entry["high_s"], entry["low_s"]


def _twice(data: dict[str, Any]) -> None:
    data["entries"].append(data["entries"][0])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_with("format", "something"), "expected a latency table"),
        (_with("version", 2), "version 1, got 2"),
        (_with("unit", "ms"), "seconds"),
        (_without("target"), "the key 'target'"),
        (_with("surprise", 1), "surprise"),
        (_with("fixed_s", "40"), "fixed_s"),
        (_with("base_s", 0.0), "base_low_s <= base_s"),
        (_turned, "low_s <= time_s <= high_s"),
        (_twice, "each block once"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None], says: str
) -> None:
    data = to_json(table())
    damage(data)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data))
    with pytest.raises(WrongInputError) as caught:
        Table.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_setting_that_is_yes_or_no_reads_back(tmp_path: Path) -> None:
    made = replace(table(), space_settings={"residual": True, "resolution": 32})
    made.save(tmp_path / "board.json")
    assert Table.load(tmp_path / "board.json") == made


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"fixed_s": NaN}', b"[" * 9999]
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(WrongInputError, match="expected a latency table"):
        Table.load(path)
    with pytest.raises(WrongInputError, match="No such file"):
        Table.load(tmp_path / "none.json")


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    with pytest.raises(WrongInputError, match="expected a place to write to"):
        table().save(tmp_path / "no" / "toy.json")


def test_an_entry_is_an_interval_around_its_time() -> None:
    entry = table().entries[0]
    with pytest.raises(WrongInputError, match=r"block .*: expected low_s"):
        replace(entry, low_s=entry.high_s)
    # A block too fast to be seen is no error.
    assert isinstance(replace(entry, time_s=-1e-9, low_s=-1e-6), TableEntry)


def _description(**changes: object) -> records.DeviceDescription:
    description = records.DeviceDescription(
        device_id="other",
        name="board",
        hardware=records.Hardware(
            machine="x",
            cpu_model="y",
            soc=None,
            logical_cores=2,
            physical_cores=2,
            max_frequency_hz=None,
            memory_bytes=1,
        ),
        system=records.OperatingSystem(name="Linux", kernel="6", distribution=None, governor=None),
        fingerprint="f" * 16,
        agent_version="0.1.0",
        protocol_version=1,
        measurement_protocol_version=2,
        backends=(records.BackendInfo(name="fake", version="1", available=True),),
        queued_jobs=0,
    )
    return replace(description, **changes)  # type: ignore[arg-type]


def test_a_table_holds_for_devices_of_its_kind_only() -> None:
    made = table()
    assert made.check_target(_description()) == ()
    other = _description(fingerprint="0" * 16)
    with pytest.raises(TargetChangedError, match=r"fingerprint 000000000000.*--force"):
        made.check_target(other)
    (mark,) = made.check_target(other, force=True)
    assert "000000000000" in mark


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"backends": ()}, "no backend 'fake'"),
        (
            {"backends": (records.BackendInfo(name="fake", version="2", available=True),)},
            "fake is 2",
        ),
        ({"measurement_protocol_version": 3}, "version 3, the table's 2"),
    ],
)
def test_what_else_changes_a_target(changes: dict[str, object], says: str) -> None:
    with pytest.raises(TargetChangedError, match=says):
        table().check_target(_description(**changes))


def test_the_residual_is_of_networks_that_built_nothing() -> None:
    skewed = table(skew=1.08)
    found = skewed.residual
    assert found is not None
    assert found.networks == len(MEMBERS) - 7
    # Predicted over measured: 1 / 1.08 - 1.
    assert found.bias == pytest.approx(1 / 1.08 - 1, abs=1e-9)
    assert found.mape == pytest.approx(1 - 1 / 1.08, abs=1e-9)
    assert (found.within_5, found.within_10) == (0.0, 1.0)
    assert found.within_5_high < 0.4
    assert found.noise_floor == pytest.approx(0.01, abs=1e-9)
    assert found.spearman == pytest.approx(1.0)
    assert skewed.is_finished
    assert not replace(skewed, residual=None).is_finished
    assert not replace(skewed, missing=("a 1->1 /1 @1",)).is_finished


def test_the_calibration_needs_networks_and_a_reason() -> None:
    from boardfront.latency_models.table_residual import calibrate

    exact = calibrate(table())
    if exact is not None:
        assert exact.slope == pytest.approx(1.0)
    slow = table()
    slow = replace(
        slow,
        networks=tuple(
            replace(one, time_s=one.time_s * 1.2, high_s=one.high_s * 1.2) for one in slow.networks
        ),
    )
    found = calibrate(slow)
    assert found is not None
    decomposition = Decomposition(blocks=MEMBERS[9].chain)
    predicted_s = found.offset_s + found.slope * slow.sum_s(decomposition)
    assert predicted_s == pytest.approx(1.2 * chain_s(MEMBERS[9].chain), rel=1e-6)
    assert calibrate(replace(slow, networks=slow.networks[:2])) is None


def test_samples_are_as_they_say() -> None:
    assert chain_s(MEMBERS[0].chain) == pytest.approx(
        CALL_S + sum(block_s(key) for key in MEMBERS[0].chain)
    )
