"""Each reader on each board's tree, and on trees where things are missing or odd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.device_agent import boards

from boardfront.device_agent import power, sysfs

if TYPE_CHECKING:
    from pathlib import Path


def test_an_rk3588_has_three_policies(tmp_path: Path) -> None:
    little, big, other = sysfs.cpu_policies(boards.rk3588(tmp_path))
    assert [policy.cpus for policy in (little, big, other)] == [(0, 1, 2, 3), (4, 5), (6, 7)]
    assert (big.bottom_hz, big.current_hz, big.top_hz) == (408e6, 2.256e9, 2.4e9)
    assert (big.min_hz, big.max_hz) == (408e6, 2.4e9)
    assert big.governor == "schedutil"
    assert "performance" in big.available_governors
    assert sysfs.time_in_state(little.path) == {408e6: 902.1, 1.8e9: 12.5}
    assert sysfs.time_in_state(big.path) is None
    assert sysfs.cpu_capacities(tmp_path)[7] == 1003


def test_a_policy_counts_only_cores_that_are_on(tmp_path: Path) -> None:
    boards.rk3588(tmp_path)
    policy = f"{boards.CPU}/cpufreq/policy"
    boards.write(tmp_path, {f"{policy}4/affected_cpus": "4", f"{policy}6/affected_cpus": ""})
    (tmp_path / f"{policy}6/related_cpus").unlink()
    assert [found.cpus for found in sysfs.cpu_policies(tmp_path)] == [(0, 1, 2, 3), (4,)]


def test_heat_and_cooling_of_an_rk3588(tmp_path: Path) -> None:
    zones = sysfs.thermal_zones(boards.rk3588(tmp_path))
    assert [zone.kind for zone in zones][:3] == [
        "soc-thermal",
        "bigcore0-thermal",
        "bigcore1-thermal",
    ]
    assert zones[0].temperature_c == pytest.approx(44.384)
    assert zones[0].trips_c == (("passive", 75.0), ("critical", 115.0))
    assert zones[1].trips_c == ()
    devices = sysfs.cooling_devices(tmp_path)
    assert [(d.kind, d.brakes) for d in devices][-2:] == [
        ("devfreq-fb000000.gpu", True),
        ("pwm-fan", False),
    ]
    assert {(device.state, device.max_state) for device in devices} == {(0, 8)}


def test_clocks_beside_the_cores(tmp_path: Path) -> None:
    found = {device.kind: device for device in sysfs.devfreqs(boards.rk3588(tmp_path / "rk"))}
    assert set(found) == {"npu", "gpu", "memory"}
    assert found["npu"].path.name == "fdab0000.npu"
    assert (found["npu"].current_hz, found["npu"].max_hz) == (300e6, 1e9)
    assert found["memory"].available_hz == (528e6, 1068e6, 1560e6, 2112e6)
    assert sysfs.rknpu_version(tmp_path / "rk") == "0.9.8"
    assert sysfs.rknpu_load(tmp_path / "rk") == (0.12, 0.0, 0.0)
    (gpu,) = sysfs.devfreqs(boards.jetson(tmp_path / "jetson"))
    assert (gpu.kind, gpu.governor) == ("gpu", "nvhost_podgov")


def test_threads_and_throttle_counters_of_a_laptop(tmp_path: Path) -> None:
    boards.laptop(tmp_path)
    assert sysfs.online_cpus(tmp_path) == tuple(range(8))
    assert sysfs.physical_cores(tmp_path) == 4
    counters = sysfs.throttle_counters(tmp_path)
    # One of each thread, and one of the package, which every thread of it shows.
    assert len(counters) == 8 + 1
    assert sum(sysfs.read_count(path) or 0 for path in counters) == 8 * 3 + 17
    kinds = [(device.kind, device.brakes) for device in sysfs.cooling_devices(tmp_path)]
    assert kinds == [("Processor", True), ("Fan", False), ("intel_powerclamp", True)]
    # The kernel says -1 while the clamp is not in use.
    assert sysfs.cooling_devices(tmp_path)[2].state is None
    assert list(sysfs.temperature_files(tmp_path)) == [
        "acpitz",
        "x86_pkg_temp",
        "coretemp (hwmon1)",
    ]


def test_zones_of_one_kind_are_told_apart(tmp_path: Path) -> None:
    boards.laptop(tmp_path)
    boards.write(tmp_path, {f"{boards.THERMAL}/thermal_zone1/type": "acpitz"})
    names = list(sysfs.temperature_files(tmp_path))
    assert names[:2] == ["acpitz", "acpitz (thermal_zone1)"]


@pytest.mark.parametrize(("with_meter", "watts"), [(True, 4.25), (False, None)])
def test_power_of_an_rk3588_needs_a_meter(
    tmp_path: Path, *, with_meter: bool, watts: float | None
) -> None:
    rails = power.power_rails(boards.rk3588(tmp_path, hwmon=with_meter))
    assert power.read_power_w(rails) == watts


def test_the_rail_that_feeds_the_others_stands_for_all(tmp_path: Path) -> None:
    rails = power.power_rails(boards.jetson(tmp_path))
    assert [rail.name for rail in rails] == ["ina3221/VDD_IN"]
    assert power.read_power_w(rails) == pytest.approx(5.04 * 1.104)


def test_rails_without_a_total_are_added(tmp_path: Path) -> None:
    boards.jetson(tmp_path)
    boards.write(tmp_path, {f"{boards.HWMON}/hwmon0/in1_label": "VDD_GPU_SOC"})
    rails = power.power_rails(tmp_path)
    # Not in it: channel 4, which is the sum of the shunts.
    assert power.read_power_w(rails) == pytest.approx(5.04 * (1.104 + 0.160 + 0.288))
    (tmp_path / f"{boards.HWMON}/hwmon0/curr2_input").unlink()
    assert power.read_power_w(rails) is None


def test_a_battery_is_no_meter(tmp_path: Path) -> None:
    assert power.power_rails(boards.laptop(tmp_path)) == ()


def test_rapl_domains_do_not_overlap(tmp_path: Path) -> None:
    (package,) = power.rapl_domains(boards.laptop(tmp_path))
    assert package.name == "package-0"
    assert package.read_j() == pytest.approx(812.345678)
    assert package.range_j == pytest.approx(262_143.32885)


def test_processor_times_are_in_seconds(tmp_path: Path) -> None:
    boards.laptop(tmp_path, cpus=2)
    boards.proc_stat(tmp_path, [300, 500], [10, 20])
    times = sysfs.cpu_times(tmp_path)
    assert set(times) == {None, 0, 1}
    assert (times[1].busy_s, times[1].steal_s) == (5.0, 0.2)
    assert times[None].busy_s == 8.0
    assert times[None].steal_s == pytest.approx(0.3)
    assert sysfs.load_average(tmp_path) == 0.31
    memory = sysfs.memory_bytes(tmp_path)
    assert memory["MemTotal"] == 16_021_996 * 1024
    assert memory["SwapTotal"] == 0


def test_an_empty_tree_tells_nothing_and_never_zero(tmp_path: Path) -> None:
    assert sysfs.online_cpus(tmp_path) == ()
    assert sysfs.physical_cores(tmp_path) is None
    assert sysfs.cpu_policies(tmp_path) == ()
    assert sysfs.cpu_capacities(tmp_path) == {}
    assert sysfs.thermal_zones(tmp_path) == ()
    assert sysfs.cooling_devices(tmp_path) == ()
    assert sysfs.throttle_counters(tmp_path) == ()
    assert sysfs.devfreqs(tmp_path) == ()
    assert sysfs.rknpu_version(tmp_path) is None
    assert sysfs.rknpu_load(tmp_path) is None
    assert power.read_power_w(power.power_rails(tmp_path)) is None
    assert power.rapl_domains(tmp_path) == ()
    assert sysfs.cpu_times(tmp_path) == {}
    assert sysfs.memory_bytes(tmp_path) == {}
    assert sysfs.load_average(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "number", "count", "hertz", "celsius"),
    [
        ("", None, None, None, None),
        ("<unknown>", None, None, None, None),
        ("nan", None, None, None, None),
        ("inf", None, None, None, None),
        ("0", 0.0, 0, None, 0.0),
        ("-1", -1.0, None, None, -0.001),
        ("-274000", -274000.0, None, None, None),
        ("408000", 408000.0, 408000, 408e6, None),
        ("45307", 45307.0, 45307, 45307e3, 45.307),
    ],
)
def test_nonsense_is_none(
    tmp_path: Path,
    text: str,
    number: float | None,
    count: int | None,
    hertz: float | None,
    celsius: float | None,
) -> None:
    path = tmp_path / "file"
    path.write_text(text + "\n")
    assert sysfs.read_number(path) == number
    assert sysfs.read_count(path) == count
    assert sysfs.read_hz(path, 1e3) == hertz
    assert sysfs.read_celsius(path) == celsius


def test_what_is_no_readable_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("absent", ".", "loop"):
        assert sysfs.read_text(tmp_path / name) is None


def test_long_files_are_read_whole(tmp_path: Path) -> None:
    text = "x" * 200_000
    (tmp_path / "long").write_text(text)
    assert sysfs.read_text(tmp_path / "long") == text
