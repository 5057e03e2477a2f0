"""Compiling for a device on this machine: TVM in a process of its own, for another processor."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boardfront.protos.records import Hardware

_COMMAND = "boardfront.device_agent.backends.tvm_library"

# Part numbers of Arm's own cores, slowest first: LLVM, llvm/lib/TargetParser/Host.cpp. The second
# entry says whether the core has the dot product instructions (Armv8.2 and later).
_ARM_CORES = {
    "0xd03": ("cortex-a53", False),
    "0xd07": ("cortex-a57", False),
    "0xd08": ("cortex-a72", False),
    "0xd09": ("cortex-a73", False),
    "0xd05": ("cortex-a55", True),
    "0xd0a": ("cortex-a75", True),
    "0xd0b": ("cortex-a76", True),
    "0xd0c": ("neoverse-n1", True),
    "0xd0d": ("cortex-a77", True),
    "0xd41": ("cortex-a78", True),
    "0xd42": ("cortex-a78ae", True),
    "0xd44": ("cortex-x1", True),
}


class CompileFailedError(BoardfrontError):
    """A network could not be compiled for a device.

    Args:
        message: In one line.
        kind: Of the failure that it is for the network.
    """

    def __init__(self, message: str, kind: FailureKind) -> None:
        super().__init__(message)
        self.kind = kind


def device_target(hardware: Hardware) -> dict[str, object]:
    """Return TVM's target for a device, from its description.

    Code is made for the fastest core of an Arm device that has no instruction which another
    lacks; for x86-64 for what every such processor since 2009 has, because a description does not
    list instructions.

    Raises:
        WrongInputError: If the processor is none that code can be made for here.
    """
    if hardware.machine == "x86_64":
        return {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v2"}
    if hardware.machine not in {"aarch64", "arm64"}:
        raise WrongInputError(
            f"compile_on = host: expected an aarch64 or x86_64 device, this is "
            f"{hardware.machine}: set compile_on = device"
        )
    # "arm IMPLEMENTER PART...", as the agent writes it where the kernel knows no name.
    _, _, parts = hardware.cpu_model.partition("arm 0x41 ")
    known = [core for part, core in _ARM_CORES.items() if part in parts.split()]
    common: dict[str, object] = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}
    if not known or len(known) < len(set(parts.split())):
        # Any 64-bit Arm runs this.
        return {**common, "mcpu": "generic", "mattr": ["+neon"]}
    dots = all(has_dots for _, has_dots in known)
    fastest = [name for name, has_dots in known if has_dots == dots][-1]
    features = ["+neon", "+dotprod"] if dots else ["+neon"]
    return {**common, "mcpu": fastest, "mattr": features}


def compile_library(
    model: Path,
    library: Path,
    target: Mapping[str, object],
    *,
    settings: Mapping[str, str] | None = None,
    deadline_s: float = 300.0,
) -> None:
    """Compile an ONNX file into a library for a device.

    Args:
        model: The network.
        library: Where the library goes; it appears whole or not at all.
        target: Of `device_target`.
        settings: Further options of the compiling command without their dashes: threads, batch,
            shapes (JSON), opt-level, database.
        deadline_s: The process and all below it are killed after so many seconds.

    Raises:
        WrongInputError: If there is no cross compiler here.
        CompileFailedError: If it took too long, crashed, or TVM cannot compile the network.
    """
    compiler = f"{target['mtriple']}-gcc"
    if shutil.which(compiler) is None:
        raise WrongInputError(
            f"compile_on = host: {compiler} is not installed: apt install gcc-{target['mtriple']}"
            ", or set compile_on = device"
        )
    extra = [word for name, value in (settings or {}).items() for word in (f"--{name}", value)]
    process = subprocess.Popen(  # noqa: S603 - our own module
        [
            *(sys.executable, "-m", _COMMAND, str(model), str(library), json.dumps(target)),
            *("--compiler", compiler, *extra),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, told = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        raise CompileFailedError(
            f"{model.name}: compiling took longer than {deadline_s:g} s: raise the compile "
            "deadline, or set compile_on = device",
            FailureKind.TIMEOUT,
        ) from None
    finally:
        # The group: a linker may outlive its parent.
        _kill_group(process)
        if process.stderr is not None:
            process.stderr.close()
    if process.returncode:
        lines = told.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        kind = FailureKind.UNSUPPORTED if process.returncode == 3 else FailureKind.CRASHED
        raise CompileFailedError(f"{model.name}: {_ending(process.returncode)}: {lines[-1]}", kind)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _ending(code: int) -> str:
    if code == 3:
        return "TVM cannot compile it"
    return (
        f"the compiler died by signal {-code}" if code < 0 else f"the compiler ended with {code}"
    )
