"""Networks compiled here for a device, where a request asks for `compile_on=host`.

A library is kept under the name of all that it was made from: a resumed run sends the same bytes,
so it meets its own jobs, and nothing is compiled twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.host import tvm_compile
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.latency_models.base import TimeRequest
    from boardfront.protos.records import DeviceDescription

_BACKEND = "tvm"
_KEPT_BYTES = 4 << 30
"""Libraries of so much stay; those that were not used for longest go first. One has its network's
weights."""


def is_compiled_here(backend: str, options: Mapping[str, str]) -> bool:
    """Return whether a target's networks travel as libraries."""
    return backend == _BACKEND and options.get("compile_on") == "host"


class HostCompiler:
    """Compiles for devices and keeps the libraries.

    Args:
        folder: Where they are kept; may be removed at any time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def library(
        self, request: TimeRequest, options: Mapping[str, str], description: DeviceDescription
    ) -> bytes:
        """Return a request's network as a library for a device.

        Args:
            request: Its model is an ONNX file.
            options: Of the backend, complete.
            description: Of the device.

        Raises:
            CompileFailedError: If TVM cannot compile it, crashed, or took too long.
            WrongInputError: If this host cannot compile for the device.
        """
        target, settings = _target(options, description), _settings(request, options)
        file = self._file(request, target, settings)
        try:
            library = file.read_bytes()
        except FileNotFoundError:
            return self._make(request, file, target, settings)
        # Its age counts from its last use; another process may have removed it since.
        with contextlib.suppress(FileNotFoundError):
            os.utime(file)
        return library

    def is_kept(
        self, request: TimeRequest, options: Mapping[str, str], description: DeviceDescription
    ) -> bool:
        """Return whether a request's network was compiled for a device, see `library`."""
        target = _target(options, description)
        return self._file(request, target, _settings(request, options)).is_file()

    def _file(
        self, request: TimeRequest, target: Mapping[str, object], settings: Mapping[str, str]
    ) -> Path:
        return self._folder / f"{_name(request.model, target, settings)}.library"

    def _make(
        self,
        request: TimeRequest,
        file: Path,
        target: Mapping[str, object],
        settings: Mapping[str, str],
    ) -> bytes:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
            model = Path(scratch) / f"{_file_name(request.label)}.onnx"
            model.write_bytes(request.model)
            made = Path(scratch) / "made.library"
            tvm_compile.compile_library(
                model, made, target, settings=settings, deadline_s=request.deadlines.compile_s
            )
            library = made.read_bytes()
            made.replace(file)
        self._evict()
        return library

    def _evict(self) -> None:
        kept_bytes = 0
        libraries: list[tuple[Path, os.stat_result]] = []
        for one in self._folder.glob("*.library"):
            # Others evict at the same time.
            with contextlib.suppress(FileNotFoundError):
                libraries.append((one, one.stat()))
        for library, told in sorted(libraries, key=lambda pair: pair[1].st_mtime, reverse=True):
            kept_bytes += told.st_size
            if kept_bytes > _KEPT_BYTES:
                library.unlink(missing_ok=True)


def _target(options: Mapping[str, str], description: DeviceDescription) -> dict[str, object]:
    """Return what code is made for: what the person said, else what the device says it is."""
    asked = options.get("target", "")
    if not asked:
        return tvm_compile.device_target(description.hardware)
    target = json.loads(asked)
    if not isinstance(target, dict) or "mtriple" not in target:
        raise WrongInputError(
            f"option target={asked}: expected a JSON object with mtriple for compile_on=host, "
            'e.g. {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a76"}'
        )
    return target


def _settings(request: TimeRequest, options: Mapping[str, str]) -> dict[str, str]:
    return {
        "threads": options.get("threads", "1"),
        "batch": str(request.task.batch),
        "shapes": json.dumps({n: list(s) for n, s in sorted(request.input_shapes.items())}),
        "opt-level": options.get("opt_level", "3"),
    }


def _name(model: bytes, target: Mapping[str, object], settings: Mapping[str, str]) -> str:
    told = [hashlib.sha256(model).hexdigest(), target, dict(settings), _versions()]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _versions() -> list[str]:
    return [_version(name) for name in ("boardfront", "apache-tvm", "apache-tvm-ffi")]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _file_name(label: str) -> str:
    """Return a label as a file's name, for the compiler's messages."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in label)[:80] or "network"
