"""A network compiled elsewhere: one file with machine code, and how it is made and read.

Made by `python -m boardfront.device_agent.backends.tvm_library MODEL LIBRARY TARGET`, in a process
of its own that can be killed; further arguments see `main`. The file is a zip of `about.json`,
`model.onnx` (to check outputs with) and `library.so`. Running it needs TVM's runtime only. It is
native code: whoever sends it can do what the agent's user can.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boardfront.device_agent import network
from boardfront.device_agent.backends import tvm_compile, tvm_graph
from boardfront.device_agent.backends.base import BackendError
from boardfront.device_agent.backends.input_shapes import resolve_shapes
from boardfront.device_agent.backends.tvm_import import import_tvm
from boardfront.device_agent.backends.tvm_tasks import UNTUNED, TaskDatabase
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAGIC = b"PK\x03\x04"
_FILES = ("about.json", "model.onnx", "library.so")
_MAX_BYTES = 1 << 31


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What a library was made from and for.

    Args:
        format: Of this file; 1.
        versions: Of TVM, where it was compiled.
        target: As TVM writes it.
        opt_level: Of TVM's passes.
        shapes: Of the inputs, in order.
        tuning: Which schedules it has, or "untuned".
        tuned_fraction: The share of its distinct fused tasks that have one.
    """

    format: int
    versions: str
    target: str
    opt_level: int
    shapes: Mapping[str, tuple[int, ...]]
    tuning: str
    tuned_fraction: float


def is_library(artifact: Path) -> bool:
    """Return whether a file is a compiled library and no ONNX model."""
    with artifact.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def unpack(artifact: Path, folder: Path) -> About:
    """Put a library's files into a folder and return what it is.

    Raises:
        BackendError: `invalid_artifact`, if it is no such file or a broken one.
    """
    try:
        with zipfile.ZipFile(artifact) as packed:
            sizes_bytes = [packed.getinfo(name).file_size for name in _FILES]
            if sum(sizes_bytes) > _MAX_BYTES:
                raise zipfile.BadZipFile(f"{sum(sizes_bytes)} bytes")  # noqa: TRY301 - same end
            for name in _FILES:
                (folder / name).write_bytes(packed.read(name))
        told = json.loads((folder / "about.json").read_text())
        shapes = {name: tuple(shape) for name, shape in told["shapes"].items()}
        about = About(**{**told, "shapes": shapes})
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise BackendError(
            FailureKind.INVALID_ARTIFACT,
            f"this is no library of a compiled network ({error}): compile it again",
        ) from error
    if about.format != 1:
        raise BackendError(
            FailureKind.INVALID_ARTIFACT,
            f"the library has format {about.format}, expected 1: bring host and agent to one "
            "version",
        )
    return about


def main(arguments: list[str] | None = None) -> int:
    """Compile; the last line on standard error says why that failed, and exit code 3 that TVM did.

    Args:
        arguments: Of the command line; None: the process's.
    """
    parser = argparse.ArgumentParser(prog="tvm_library")
    parser.add_argument("model", type=Path)
    parser.add_argument("library", type=Path)
    parser.add_argument("target", help="a JSON object as TVM takes it")
    parser.add_argument("--compiler", help="links for the target, e.g. aarch64-linux-gnu-gcc")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--shapes", default="{}", help="a JSON object of dynamic inputs' shapes")
    parser.add_argument("--opt-level", type=int, default=3)
    parser.add_argument("--database", type=Path, help="a target's folder of tuned schedules")
    options = parser.parse_args(arguments)
    try:
        _make(options)
    except BackendError as error:
        sys.stderr.write(f"{error.kind.value}: {error}\n")
        return 3
    return 0


def _make(options: argparse.Namespace) -> None:
    model = network.read_network(options.model)
    asked = {name: tuple(shape) for name, shape in json.loads(options.shapes).items()}
    shapes = resolve_shapes(tvm_graph.open_shapes(model), asked, options.batch)
    target = tvm_compile.make_target(options.target, options.threads)
    lowered = tvm_compile.lower(model, shapes, target)
    module, tuning, fraction = lowered.module, UNTUNED, 0.0
    if options.database is not None:
        database = TaskDatabase(options.database)
        module = tvm_compile.schedule(module, database.best(lowered.tasks), target)
        tuning, fraction = database.digest(lowered.tasks)
    built = tvm_compile.build(module, target, options.opt_level)
    about = About(
        format=1,
        versions=tvm_compile.versions(),
        target=str(target),
        opt_level=options.opt_level,
        shapes=shapes,
        tuning=tuning,
        tuned_fraction=fraction,
    )
    _pack(options, built, about)


def _pack(options: argparse.Namespace, built: Any, about: About) -> None:
    import_tvm()
    from tvm.support import cc

    code = options.library.with_suffix(".so")
    compile_with = cc.cross_compiler(options.compiler) if options.compiler else cc.create_shared
    built.export_library(str(code), fcompile=compile_with)
    part = options.library.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("about.json", json.dumps(asdict(about)))
        # As it came: with notes in place of weights it is small.
        packed.write(options.model, "model.onnx")
        packed.write(code, "library.so")
    code.unlink()
    part.replace(options.library)


if __name__ == "__main__":
    sys.exit(main())
