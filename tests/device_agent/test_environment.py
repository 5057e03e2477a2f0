"""What a board is, read from a fixture tree of its files."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from boardfront.device_agent import environment

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.protos.records import Hardware, OperatingSystem

_CPUINFO = "".join(
    f"processor\t: {core}\nBogoMIPS\t: 48.00\nFeatures\t: fp asimd\n"
    f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x2\nCPU part\t: {part}\n\n"
    for core, part in enumerate(["0xd05"] * 4 + ["0xd0b"] * 4)
)
# The layout of a Radxa ROCK 5B (RK3588) on Debian, as far as it is read.
_ROCK_5B = {
    "proc/cpuinfo": _CPUINFO,
    "proc/device-tree/compatible": "radxa,rock-5b\0rockchip,rk3588\0",
    "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1800000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
    "sys/class/thermal/thermal_zone0/temp": "45307\n",
    "sys/class/thermal/thermal_zone1/temp": "51769\n",
    "sys/class/thermal/thermal_zone2/temp": "",
}


def _plant(root: Path, **changes: str | None) -> Path:
    named = {key.rpartition("/")[2].replace("-", "_"): key for key in _ROCK_5B}
    files: dict[str, str | None] = {**_ROCK_5B, **{named[k]: v for k, v in changes.items()}}
    for path, text in files.items():
        if text is not None:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
    return root


def _read(root: Path) -> tuple[Hardware, OperatingSystem]:
    return environment.read_hardware(root), environment.read_system(root)


def test_a_board_is_read(tmp_path: Path) -> None:
    hardware, system = _read(_plant(tmp_path))
    assert hardware.cpu_model == "arm 0x41 0xd05 0xd0b"
    assert hardware.soc == "rockchip,rk3588"
    assert hardware.max_frequency_hz == 1.8e9
    assert system.governor == "performance"
    assert system.distribution == "Debian GNU/Linux 12 (bookworm)"
    assert environment.read_frequency_hz(tmp_path) == 1.8e9
    assert environment.read_temperature_c(tmp_path) == pytest.approx(51.769)


def test_a_pc_names_its_processor(tmp_path: Path) -> None:
    cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC 7B13\n\nprocessor\t: 1\nmodel name\t: AMD\n"
    hardware, _ = _read(_plant(tmp_path, cpuinfo=cpuinfo))
    assert hardware.cpu_model == "AMD EPYC 7B13"


def test_what_is_absent_is_none_and_never_zero(tmp_path: Path) -> None:
    hardware, system = _read(tmp_path)
    assert (hardware.soc, hardware.max_frequency_hz) == (None, None)
    assert (system.distribution, system.governor) == (None, None)
    assert environment.read_frequency_hz(tmp_path) is None
    assert environment.read_temperature_c(tmp_path) is None
    assert hardware.cpu_model
    assert len(environment.fingerprint(hardware, system)) == 16


def test_what_is_no_number_is_none(tmp_path: Path) -> None:
    root = _plant(tmp_path, scaling_cur_freq="<unknown>\n", scaling_governor="\n")
    assert environment.read_frequency_hz(root) is None
    assert environment.read_governor(root) is None


def test_two_boards_of_a_kind_share_a_fingerprint_but_no_identity(tmp_path: Path) -> None:
    one = _plant(tmp_path / "a")
    two = _plant(tmp_path / "b", machine_id="fedcba9876543210fedcba9876543210\n")
    assert environment.fingerprint(*_read(one)) == environment.fingerprint(*_read(two))
    ids = [environment.read_device_id(tmp_path / "state", root) for root in (one, two)]
    assert ids[0] != ids[1]
    assert "0123456789abcdef" not in ids[0]
    assert environment.read_device_id(tmp_path / "other-state", one) == ids[0]


def test_another_set_up_has_another_fingerprint(tmp_path: Path) -> None:
    hardware, system = _read(_plant(tmp_path / "a"))
    original = environment.fingerprint(hardware, system)
    others = [
        _read(_plant(tmp_path / "b", scaling_governor="ondemand\n")),
        _read(_plant(tmp_path / "c", cpuinfo_max_freq="1416000\n")),
        _read(_plant(tmp_path / "d", compatible="radxa,rock-5a\0rockchip,rk3588s\0")),
        (hardware, dataclasses.replace(system, kernel=system.kernel + "-rt")),
        (dataclasses.replace(hardware, memory_bytes=hardware.memory_bytes + 2**31), system),
    ]
    prints = {environment.fingerprint(*other) for other in others}
    assert len(prints) == len(others)
    assert original not in prints


def test_a_kernel_that_reserves_a_little_more_changes_nothing(tmp_path: Path) -> None:
    hardware, system = _read(_plant(tmp_path))
    eight = dataclasses.replace(hardware, memory_bytes=8 * 2**30)
    less = dataclasses.replace(hardware, memory_bytes=8 * 2**30 - 90 * 2**20)
    prints = {environment.fingerprint(variant, system) for variant in (eight, less)}
    assert len(prints) == 1


@pytest.mark.parametrize("machine_id", [None, ""])
def test_a_board_without_machine_id_keeps_one_of_its_own(
    tmp_path: Path, machine_id: str | None
) -> None:
    root = _plant(tmp_path / "root", machine_id=machine_id)
    states = [tmp_path / "one", tmp_path / "two"]
    for state in states:
        state.mkdir()
    first, second = (environment.read_device_id(state, root) for state in states)
    assert first != second
    assert environment.read_device_id(states[0], root) == first
