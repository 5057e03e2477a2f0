"""The network as machine code for the target's processor, compiled here by TVM."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping  # noqa: TC003 - strict_json reads the annotations
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from boardfront.host import tvm_compile
from boardfront.host.export.agreement import difference, run_onnx
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.select import select
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    import onnx

    from boardfront.host.experiment import TargetSettings
    from boardfront.protos.records import DeviceDescription

NAME = "model.so"
RELATIVE_LIMIT = 1e-3
"""Largest norm of TVM's error over the output's norm; the agent's own check has the same."""

_CHECK = "boardfront.host.export.library_check"
_CHECK_WITHIN_S = 120.0
_SEED = 21


class LibraryDiffersError(BoardfrontError):
    """The compiled library computes something else than the network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """A compiled network.

    Args:
        file: Its name.
        device: That it was made for.
        target: What code was made for, as TVM takes it.
        threads: Inside one operator.
        tuning: Which schedules it has, or "untuned".
        versions: Of TVM; where it runs there must be the same.
        max_relative_error: Of its outputs against ONNX Runtime's, by norm; None: it cannot run
            here.
        unchecked: Why it was not run.
    """

    file: str
    device: str
    target: Mapping[str, object]
    threads: int
    tuning: str
    versions: str
    max_relative_error: float | None = None
    unchecked: str = ""

    def words(self) -> str:
        """Return what a person should know of it."""
        made = (
            f"`{self.file}` was compiled for {self.device} (`{self.target['mtriple']}`, "
            f"`{self.target.get('mcpu', 'generic')}`, {self.threads} "
            f"thread{'s' if self.threads != 1 else ''}), {self.tuning}, by {self.versions}; TVM's "
            "runtime of the same versions loads it (`tvm.runtime.load_module`). The promised time "
            "is its own only if the backend is tvm with the same tuning"
        )
        if self.max_relative_error is None:
            return f"{made}. It was not run: {self.unchecked}."
        return (
            f"{made}. Run here, its outputs differ from ONNX Runtime's by "
            f"{self.max_relative_error:.2g} of their norm."
        )


def compile_for(model: onnx.ModelProto, target: TargetSettings, folder: Path) -> Library:
    """Compile a model for a target's device into `folder`, and compare outputs where it can run.

    Raises:
        BoardfrontError: If the device does not answer, TVM cannot compile the model, or the
            library computes something else.
        WrongInputError: If there is no cross compiler for the device here.
    """
    description = describe(target)
    asked = _asked(target)
    code = asked if "mtriple" in asked else tvm_compile.device_target(description.hardware)
    threads = target.options.get("threads", "1") if target.backend == "tvm" else "1"
    with tempfile.TemporaryDirectory() as scratch:
        source, packed = Path(scratch) / "model.onnx", Path(scratch) / "model.library"
        source.write_bytes(model.SerializeToString())
        tvm_compile.compile_library(source, packed, code, settings={"threads": threads})
        with zipfile.ZipFile(packed) as archive:
            about = json.loads(archive.read("about.json"))
            (folder / NAME).write_bytes(archive.read("library.so"))
    reason = _why_not_here(str(code["mtriple"]))
    error = None
    if not reason:
        error, reason = _check(model, folder / NAME, threads)
    return Library(
        file=NAME,
        device=description.name,
        target=code,
        threads=int(threads),
        tuning=about["tuning"],
        versions=about["versions"],
        max_relative_error=error,
        unchecked=reason,
    )


def describe(target: TargetSettings) -> DeviceDescription:
    """Ask the first device of a target that answers what it is.

    Raises:
        BoardfrontError: If none answers.
    """
    devices = (target.device,) if isinstance(target.device, str) else target.device
    problem: BoardfrontError | None = None
    for selected in (one for device in devices for one in select(device)):
        client = AgentClient(selected.address)
        try:
            return client.describe()
        except BoardfrontError as error:
            problem = error
        finally:
            client.close()
            selected.address.close()
    raise BoardfrontError(f"target {target.name!r}: no device says what it is: {problem}")


def _asked(target: TargetSettings) -> Mapping[str, object]:
    if target.backend != "tvm" or not target.options.get("target"):
        return {}
    found = json.loads(target.options["target"])
    return found if isinstance(found, dict) else {}


def _why_not_here(triple: str) -> str:
    machine = triple.partition("-")[0]
    if sys.platform == "linux" and machine == platform.machine():
        return ""
    return f"this machine is {platform.machine()}, not {machine}"


def _check(model: onnx.ModelProto, library: Path, threads: str) -> tuple[float | None, str]:
    """Return the relative error, or None and why the library does not run here."""
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    images = np.random.default_rng(_SEED).standard_normal(shape).astype(np.float32)
    (wanted,) = run_onnx(model, [images])
    with tempfile.TemporaryDirectory() as scratch:
        given, made = Path(scratch) / "images.npy", Path(scratch) / "outputs.npy"
        np.save(given, images)
        try:
            # In a process of its own: what a compiler made may end it.
            done = subprocess.run(  # noqa: S603 - our own module
                [sys.executable, "-m", _CHECK, str(library), str(given), str(made)],
                env={**os.environ, "TVM_NUM_THREADS": threads, "TVM_USE_RUNTIME_LIB": "1"},
                capture_output=True,
                text=True,
                timeout=_CHECK_WITHIN_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None, f"it did not answer within {_CHECK_WITHIN_S:g} s here"
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return None, f"it does not run here (exit code {done.returncode}: {last})"
        _, error = difference(np.load(made), wanted)
    if not error <= RELATIVE_LIMIT:
        raise LibraryDiffersError(
            f"the library's outputs differ from ONNX Runtime's by {error:.2g} of their norm: "
            f"expected at most {RELATIVE_LIMIT:g}; export without --tvm"
        )
    return error, ""
