"""What a board is, read from a fixture tree of its files."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from tests.device_agent import boards

from boardfront.device_agent import environment, sysfs

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.protos.records import Hardware, OperatingSystem

_POLICIES = f"{boards.CPU}/cpufreq"


def _read(root: Path) -> tuple[Hardware, OperatingSystem]:
    return environment.read_hardware(root), environment.read_system(root)


def _print(root: Path, **changes: object) -> str:
    """Return an RK3588's fingerprint after changes to its files."""
    boards.write(boards.rk3588(root), changes)
    return environment.fingerprint(*_read(root))


def test_an_rk3588_is_read(tmp_path: Path) -> None:
    hardware, system = _read(boards.rk3588(tmp_path))
    assert hardware.cpu_model == "arm 0x41 0xd05 0xd0b"
    assert hardware.soc == "rockchip,rk3588"
    assert hardware.machine == "aarch64"
    assert (hardware.logical_cores, hardware.physical_cores) == (8, 8)
    assert hardware.max_frequency_hz == 2.4e9
    assert hardware.memory_bytes == 16_128_084 * 1024
    assert [cluster.cpus for cluster in hardware.clusters] == ["0-3", "4-5", "6-7"]
    assert system.name == "Linux"
    assert system.kernel == "6.1.84-8-rk2410"
    assert system.governor == "schedutil"
    assert system.distribution == "Debian GNU/Linux 12 (bookworm)"
    # Of the big cores, which are timed by default, and of the hottest zone.
    assert environment.read_frequency_hz(tmp_path) == 2.304e9
    assert environment.read_temperature_c(tmp_path) == pytest.approx(44.384 + 6 * 0.925)


def test_a_laptop_is_read(tmp_path: Path) -> None:
    hardware, system = _read(boards.laptop(tmp_path))
    assert hardware.cpu_model == "Intel(R) Core(TM) i7-1185G7 @ 3.00GHz"
    assert (hardware.logical_cores, hardware.physical_cores) == (8, 4)
    assert hardware.soc is None
    assert (hardware.machine, hardware.max_frequency_hz) == ("x86_64", 4.8e9)
    assert system.governor == "powersave"
    assert environment.read_temperature_c(tmp_path) == 52.0


def test_a_jetson_is_read(tmp_path: Path) -> None:
    hardware, system = _read(boards.jetson(tmp_path))
    assert hardware.soc == "nvidia,tegra234"
    assert system.kernel == "5.15.148-tegra"
    # Its third zone is switched off.
    assert environment.read_temperature_c(tmp_path) == 49.5


def test_what_is_absent_is_none_and_never_zero(tmp_path: Path) -> None:
    hardware, system = _read(tmp_path)
    assert (hardware.soc, hardware.max_frequency_hz) == (None, None)
    assert (hardware.physical_cores, hardware.clusters) == (None, ())
    assert hardware.logical_cores == 1
    assert (system.distribution, system.governor) == (None, None)
    assert environment.read_frequency_hz(tmp_path) is None
    assert environment.read_temperature_c(tmp_path) is None
    assert hardware.cpu_model
    assert len(environment.fingerprint(hardware, system)) == 16


def test_what_is_no_number_is_none(tmp_path: Path) -> None:
    boards.laptop(tmp_path, cpus=2)
    changes = {
        f"{_POLICIES}/policy{cpu}/{name}": text
        for cpu in range(2)
        for name, text in (("scaling_cur_freq", "<unknown>"), ("scaling_governor", ""))
    }
    boards.write(tmp_path, changes)
    assert environment.read_frequency_hz(tmp_path) is None
    assert environment.read_governor(tmp_path) is None


def test_two_boards_of_a_kind_share_a_fingerprint_but_no_identity(tmp_path: Path) -> None:
    one = boards.rk3588(tmp_path / "a")
    two = boards.rk3588(tmp_path / "b")
    boards.write(two, {"etc/machine-id": "fedcba9876543210fedcba9876543210"})
    assert environment.fingerprint(*_read(one)) == environment.fingerprint(*_read(two))
    ids = [environment.read_device_id(tmp_path / "state", root) for root in (one, two)]
    assert ids[0] != ids[1]
    assert "0123456789abcdef" not in ids[0]
    assert environment.read_device_id(tmp_path / "other-state", one) == ids[0]


def test_another_set_up_has_another_fingerprint(tmp_path: Path) -> None:
    changes: list[dict[str, object]] = [
        {},
        {"proc/sys/kernel/osrelease": "6.1.84-8-rk2410-rt"},
        {"proc/device-tree/compatible": "radxa,rock-5a\0rockchip,rk3588s\0"},
        {"proc/meminfo": f"MemTotal: {8 * 2**20} kB"},
        {f"{boards.CPU}/online": "0-6"},
    ]
    for number in (0, 4, 6):
        policy = f"{_POLICIES}/policy{number}"
        changes.append({f"{policy}/scaling_governor": "performance"})
        changes.append({f"{policy}/cpuinfo_max_freq": 1_416_000})
    prints = [_print(tmp_path / str(index), **each) for index, each in enumerate(changes)]
    assert len(set(prints)) == len(changes)


def test_what_moves_by_itself_is_not_in_the_fingerprint(tmp_path: Path) -> None:
    changes: dict[str, object] = {
        **{f"{_POLICIES}/policy{n}/scaling_cur_freq": 816_000 for n in (0, 4, 6)},
        f"{boards.THERMAL}/thermal_zone0/temp": 81_000,
        f"{boards.THERMAL}/cooling_device1/cur_state": 3,
        f"{boards.DEVFREQ}/fdab0000.npu/cur_freq": 10**9,
        "proc/loadavg": "7.31 5.22 1.10 9/321 4711",
        # A kernel that reserves a little more.
        "proc/meminfo": f"MemTotal: {16_128_084 - 90 * 1024} kB",
    }
    assert _print(tmp_path / "a") == _print(tmp_path / "b", **changes)


def test_where_a_clock_is_held_is_in_the_fingerprint(tmp_path: Path) -> None:
    hardware, system = _read(boards.rk3588(tmp_path))
    little, big, other = hardware.clusters
    held = dataclasses.replace(
        hardware, clusters=(little, dataclasses.replace(big, locked_hz=1.8e9), other)
    )
    assert environment.fingerprint(held, system) != environment.fingerprint(hardware, system)


@pytest.mark.parametrize("machine_id", [None, ""])
def test_a_board_without_machine_id_keeps_one_of_its_own(
    tmp_path: Path, machine_id: str | None
) -> None:
    root = tmp_path / "root"
    boards.write(root, {} if machine_id is None else {"etc/machine-id": machine_id})
    states = [tmp_path / "one", tmp_path / "two"]
    for state in states:
        state.mkdir()
    first, second = (environment.read_device_id(state, root) for state in states)
    assert first != second
    assert environment.read_device_id(states[0], root) == first


def test_this_machine_is_described() -> None:
    hardware, system = _read(sysfs.ROOT)
    assert hardware.logical_cores >= 1
    assert hardware.memory_bytes > 2**28
    assert system.kernel
