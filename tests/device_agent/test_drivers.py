"""Versions of drivers are read where they stand, and are part of what a time is true for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.device_agent import boards

from boardfront.device_agent import environment
from boardfront.device_agent.drivers import read_drivers

if TYPE_CHECKING:
    from pathlib import Path


def test_a_board_tells_its_drivers(tmp_path: Path) -> None:
    root = boards.rk3588(tmp_path)
    assert read_drivers(root)["rknpu"].endswith("0.9.8")
    assert "librknnrt" not in read_drivers(root)
    library = root / "usr/lib/librknnrt.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\x7fELF\0librknnrt version: 2.3.0 (c949ad889d@2024-11-07)\0")
    assert read_drivers(root)["librknnrt"] == "2.3.0"


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    assert read_drivers(tmp_path) == {}


def test_another_driver_is_another_target(tmp_path: Path) -> None:
    root = boards.rk3588(tmp_path)

    def fingerprint() -> str:
        return environment.fingerprint(
            environment.read_hardware(root), environment.read_system(root)
        )

    before = fingerprint()
    (root / "sys/kernel/debug/rknpu/version").write_text("RKNPU driver: v0.9.9\n")
    assert fingerprint() != before
