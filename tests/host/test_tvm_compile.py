"""Compiling for a device on this machine: the right target, a library, and no process left."""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.device_agent.onnx_files import conv_net, unknown_operator

from boardfront.host import tvm_compile
from boardfront.host.tvm_compile import CompileFailedError, compile_library, device_target
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Hardware

if TYPE_CHECKING:
    from pathlib import Path

_ELF_AARCH64 = 183
"""e_machine of an ELF file. Source: ELF for the Arm 64-bit Architecture, section 5.2."""

needs_tvm = pytest.mark.skipif(
    importlib.util.find_spec("tvm") is None or shutil.which("aarch64-linux-gnu-gcc") is None,
    reason="needs TVM and gcc-aarch64-linux-gnu",
)


def _hardware(cpu_model: str, machine: str = "aarch64") -> Hardware:
    return Hardware(
        machine=machine,
        cpu_model=cpu_model,
        soc=None,
        logical_cores=8,
        physical_cores=8,
        max_frequency_hz=None,
        memory_bytes=8 << 30,
    )


@pytest.mark.parametrize(
    ("cpu_model", "mcpu", "features"),
    [
        ("arm 0x41 0xd05 0xd0b", "cortex-a76", ["+neon", "+dotprod"]),  # RK3588
        ("arm 0x41 0xd03 0xd08", "cortex-a72", ["+neon"]),  # RK3399
        ("arm 0x41 0xd03 0xd0b", "cortex-a53", ["+neon"]),  # one core has no dot products
        ("arm 0x41 0xd42", "cortex-a78ae", ["+neon", "+dotprod"]),  # Jetson Orin
        ("arm 0x41 0xd05 0xfff", "generic", ["+neon"]),
        ("arm 0x61 0xd05", "generic", ["+neon"]),
        ("Some Board", "generic", ["+neon"]),
    ],
)
def test_the_target_is_what_all_cores_run(cpu_model: str, mcpu: str, features: list[str]) -> None:
    assert device_target(_hardware(cpu_model)) == {
        "kind": "llvm",
        "mtriple": "aarch64-linux-gnu",
        "mcpu": mcpu,
        "mattr": features,
    }


def test_another_kind_of_processor_compiles_for_itself() -> None:
    with pytest.raises(
        WrongInputError, match="expected an aarch64 or x86_64 device, this is riscv64"
    ):
        device_target(_hardware("riscv", "riscv64"))


def test_a_missing_cross_compiler_is_named(tmp_path: Path) -> None:
    target = {"kind": "llvm", "mtriple": "mips64-linux-nowhere"}
    with pytest.raises(WrongInputError, match="apt install gcc-mips64-linux-nowhere"):
        compile_library(tmp_path / "model.onnx", tmp_path / "library", target)


@needs_tvm
@pytest.mark.timeout(120)
def test_a_library_for_an_arm_board_is_made_here(tmp_path: Path) -> None:
    model, library = tmp_path / "model.onnx", tmp_path / "model.library"
    model.write_bytes(conv_net(channels=4))
    compile_library(model, library, device_target(_hardware("arm 0x41 0xd05 0xd0b")))
    with zipfile.ZipFile(library) as packed:
        code = packed.read("library.so")
        assert packed.read("model.onnx") == model.read_bytes()
        assert b"cortex-a76" in packed.read("about.json")
    assert code[:4] == b"\x7fELF"
    assert int.from_bytes(code[18:20], "little") == _ELF_AARCH64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.library", "model.onnx"]


@needs_tvm
@pytest.mark.timeout(120)
def test_what_tvm_cannot_compile_says_so(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(unknown_operator())
    with pytest.raises(CompileFailedError, match=r"TVM cannot compile it: .*Frobnicate"):
        compile_library(model, tmp_path / "library", device_target(_hardware("Some Board")))
    assert not (tmp_path / "library").exists()


@needs_tvm
def test_a_compile_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(conv_net(channels=4))
    with pytest.raises(CompileFailedError, match=r"took longer than 0\.2 s"):
        compile_library(
            model, tmp_path / "library", device_target(_hardware("Some Board")), deadline_s=0.2
        )
    commands = [" ".join(one.cmdline()) for one in psutil.Process().children(recursive=True)]
    assert not [command for command in commands if tvm_compile._COMMAND in command]
