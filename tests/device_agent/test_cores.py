"""Lists of cores, clusters, and which cores are timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.device_agent import boards

from boardfront.device_agent import cores
from boardfront.protos.core_lists import format_cpus
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import CpuCluster

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "cpus", "spelt"),
    [
        ("0-3,6", (0, 1, 2, 3, 6), "0-3,6"),
        ("6,0-2,2,3", (0, 1, 2, 3, 6), "0-3,6"),
        ("0 1 2 3", (0, 1, 2, 3), "0-3"),
        ("4,5", (4, 5), "4-5"),
        ("", (), ""),
    ],
)
def test_lists_are_read_and_written(text: str, cpus: tuple[int, ...], spelt: str) -> None:
    assert cores.parse_cpus(text) == cpus
    assert format_cpus(cpus) == spelt


def test_any_set_survives_the_way_there_and_back() -> None:
    rng = np.random.default_rng(7)
    for size in rng.integers(20, size=200):
        chosen = set(rng.integers(64, size=size).tolist())
        assert set(cores.parse_cpus(format_cpus(chosen))) == chosen


@pytest.mark.parametrize("text", ["a", "3-1", "-1", "1-", "0x3", "1-2-3", "²", "1;2"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(WrongInputError, match="expected a list such as 0-3,6"):
        cores.parse_cpus(text)


def test_an_rk3588_is_timed_on_its_big_cores(tmp_path: Path) -> None:
    boards.rk3588(tmp_path)
    little, big, other = cores.clusters(tmp_path)
    assert little == CpuCluster(
        cpus="0-3", capacity=414, max_frequency_hz=1.8e9, governor="schedutil"
    )
    assert (big.cpus, big.capacity, big.max_frequency_hz) == ("4-5", 1024, 2.4e9)
    assert (other.cpus, other.capacity, other.max_frequency_hz) == ("6-7", 1003, 2.352e9)
    assert cores.default_cpus(tmp_path) == "4-7"


@pytest.mark.parametrize(
    ("allowed", "expected"), [([0, 1, 2, 3], "0-3"), ([3, 4], "4"), ([0, 6, 7], "6-7")]
)
def test_the_default_stays_with_what_the_agent_may_use(
    tmp_path: Path, allowed: list[int], expected: str
) -> None:
    assert cores.default_cpus(boards.rk3588(tmp_path), allowed) == expected


def test_boards_of_one_kind_of_core_use_all(tmp_path: Path) -> None:
    assert cores.default_cpus(boards.laptop(tmp_path / "laptop")) == "0-7"
    assert cores.default_cpus(boards.jetson(tmp_path / "jetson")) == "0-5"
    assert [cluster.cpus for cluster in cores.clusters(tmp_path / "jetson")] == ["0-3", "4-5"]


def test_without_policies_the_capacity_makes_clusters(tmp_path: Path) -> None:
    boards.write(tmp_path, {f"{boards.CPU}/online": "0-3"})
    assert cores.clusters(tmp_path) == (CpuCluster(cpus="0-3"),)
    assert cores.default_cpus(tmp_path) == "0-3"
    capacities = {f"{boards.CPU}/cpu{cpu}/cpu_capacity": 400 + 624 * (cpu < 2) for cpu in range(4)}
    boards.write(tmp_path, capacities)
    assert cores.clusters(tmp_path) == (
        CpuCluster(cpus="0-1", capacity=1024),
        CpuCluster(cpus="2-3", capacity=400),
    )
    assert cores.default_cpus(tmp_path) == "0-1"


def test_this_machine_has_cores() -> None:
    allowed = cores.allowed_cpus()
    assert allowed
    assert set(cores.parse_cpus(cores.default_cpus())) <= set(allowed)


def test_an_explicit_set_is_spelt_one_way() -> None:
    assert cores.resolve_cpus("7,4-6", range(8)) == "4-7"


@pytest.mark.parametrize("text", ["8", "4-8", "", "0-9"])
def test_cores_that_are_not_there_are_refused(text: str) -> None:
    with pytest.raises(WrongInputError, match=r"expected some of 0-7"):
        cores.resolve_cpus(text, range(8))


def test_telemetry_stays_off_the_timed_cores() -> None:
    assert cores.telemetry_cpus([4, 5, 6, 7], range(8)) == (0, 1, 2, 3)
    assert cores.telemetry_cpus([0, 1], [0, 1]) == (0, 1)


def test_governors_that_differ_are_all_named(tmp_path: Path) -> None:
    boards.rk3588(tmp_path)
    path = f"{boards.CPU}/cpufreq/policy6/scaling_governor"
    boards.write(tmp_path, {path: "performance"})
    assert cores.governor(tmp_path, "4-7") == "performance+schedutil"
    assert cores.governor(tmp_path, "0-5") == "schedutil"
    assert cores.governor(tmp_path, "") == "performance+schedutil"
