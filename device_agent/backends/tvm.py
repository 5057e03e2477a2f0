"""TVM: inference of an ONNX file, compiled through `tvm.relax`, with tuned schedules where known.

Timed region: one call of the compiled `main` on inputs that lie on the device; its outputs lie
there afterwards. Without tuning TVM's code for a processor is naive, tens of times slower than a
tuned library's: such times say `untuned` in their target.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boardfront.device_agent import network
from boardfront.device_agent.backends import tvm_check, tvm_compile, tvm_graph, tvm_library
from boardfront.device_agent.backends.base import BackendError, RealClock, parse_options
from boardfront.device_agent.backends.input_shapes import resolve_shapes
from boardfront.device_agent.backends.tvm_import import import_tvm
from boardfront.device_agent.backends.tvm_tasks import UNTUNED, TaskDatabase
from boardfront.protos.records import (
    BackendInfo,
    CacheState,
    FailureKind,
    OptionInfo,
    Origin,
    TaskKind,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import onnx

    from boardfront.protos.records import Task

_NEEDED = ("tvm", "tvm_ffi", "onnx")


class TvmBackend:
    """Compiles an ONNX file with TVM and runs it on the processor.

    Args:
        options: As `probe` lists them.

    Attributes:
        state: Where tuned schedules are kept; set before `load`. None: nothing is tuned or kept.
        tuning: After `compile`: which schedules the network runs with, or "untuned".
        tuned_fraction: After `compile`: the share of its distinct fused tasks that have one.
        notes: After `compile`: what a reader of the times should know.
        native_code: Whether libraries that came compiled may run; set before `load`.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self.clock = RealClock()
        self.state: Path | None = None
        self.tuning = UNTUNED
        self.tuned_fraction: float | None = 0.0
        self.notes: tuple[str, ...] = ()
        self.native_code = False
        self._options = dict(options)
        self._model: onnx.ModelProto | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._lowered: tvm_compile.Lowered | None = None
        self._about: tvm_library.About | None = None
        self._library = Path()
        self._made_by = ""
        self._machine: Any = None
        self._main: Any = None
        self._inputs: list[Any] = []

    @classmethod
    def probe(cls) -> BackendInfo:
        """Describe the installed TVM, or say how to install it."""
        # TVM itself is not imported: that takes seconds, and it does not go well with what other
        # backends import into the same process.
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        try:
            found = version("apache-tvm")
        except PackageNotFoundError:
            missing.append("apache-tvm")
        if missing:
            return _unavailable(f"{missing[0]} is not installed: pip install 'boardfront[tvm]'")
        return _info(found, "" if tvm_check.can_check() else tvm_check.UNCHECKED)

    @classmethod
    def resolve(cls, options: Mapping[str, str], info: BackendInfo) -> dict[str, str]:
        """Complete and check options."""
        return parse_options(
            options,
            info,
            {
                "threads": lambda text: text.isdecimal() and 1 <= int(text) <= 1024,
                "opt_level": {"0", "1", "2", "3"}.__contains__,
                "target": _is_target,
                "tuning": {"on", "off"}.__contains__,
                "verify": {"on", "off"}.__contains__,
                "compile_on": {"device", "host"}.__contains__,
            },
        )

    def load(self, artifact: Path, task: Task, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Read the file and settle the shapes of its inputs."""
        if task.kind is not TaskKind.INFERENCE:
            raise BackendError(
                FailureKind.UNSUPPORTED,
                f"backend tvm times inference only, asked was {task.kind.value}",
            )
        if task.cache is not CacheState.WARM:
            raise BackendError(
                FailureKind.UNSUPPORTED,
                f"backend tvm times with warm caches only, asked was {task.cache.value}",
            )
        if self._options["compile_on"] == "host":
            artifact, shapes = self._unpack(artifact)
        elif tvm_library.is_library(artifact):
            raise BackendError(
                FailureKind.INVALID_ARTIFACT,
                "this is a compiled library: send the ONNX model, or set compile_on=host",
            )
        self._model = network.read_network(artifact)
        self._shapes = resolve_shapes(tvm_graph.open_shapes(self._model), shapes, task.batch)
        # Before TVM is imported: its thread pool reads them once.
        os.environ["TVM_NUM_THREADS"] = self._options["threads"]
        os.environ["TVM_BIND_THREADS"] = "0"

    def tune(self, budget_s: float, *, whole_space: bool = False) -> float:
        """Search faster schedules for this network's tasks, kept for all networks that share them.

        Call it after `load`, best in a worker of its own: the search leaves threads and memory
        behind. What was finished stays when the worker is killed.

        Args:
            budget_s: Stop after this long, in seconds; a candidate's build may go beyond it.
            whole_space: Tune the tasks of all networks seen here, most frequent first; else this
                network's own come first, in that order.

        Returns:
            The share of this network's distinct tasks that have a tuned schedule now.

        Raises:
            BackendError: `unsupported`, if there is no folder for the schedules or TVM cannot
                import the network.
        """
        if self.state is None:
            raise BackendError(
                FailureKind.UNSUPPORTED, "no folder for tuned schedules: give the worker a state"
            )
        if version("apache-tvm-ffi").startswith("0.1.15"):
            raise BackendError(
                FailureKind.UNSUPPORTED,
                f"apache-tvm-ffi {version('apache-tvm-ffi')} crashes when tuning: "
                "pip install apache-tvm-ffi==0.1.14.post0",
            )
        from boardfront.device_agent.backends.tvm_tuning import Tuner

        lowered = self._lower()
        database = self._database(lowered)
        own = () if whole_space else tuple(lowered.tasks)
        with Tuner(database, lowered.target) as tuner:
            tuner.tune(database.pending(first=own), budget_s=budget_s)
        return database.digest(lowered.tasks)[1]

    def compile(self) -> None:
        """Compile with the schedules that are known, and check the outputs once per structure."""
        model = self._loaded()
        tvm = import_tvm()
        built = self._compiled() if self._about is None else self._loaded_library(self._about)
        # From here, because TVM's runtime alone has it too.
        from tvm.runtime.vm import VirtualMachine

        self._machine = VirtualMachine(built, tvm.cpu())
        self._main = self._machine["main"]
        drawn = tvm_graph.draw_inputs(model, self._shapes)
        self._inputs = [tvm.runtime.tensor(values) for values in drawn.values()]
        outputs = self._main(*self._inputs)
        if self._options["verify"] == "on":
            self._verify(model, drawn, outputs)
        self._model = None
        self._lowered = None

    def run(self) -> None:
        """Execute the network once."""
        self._main(*self._inputs)

    def _loaded(self) -> onnx.ModelProto:
        if self._model is None:
            raise RuntimeError("load comes before tune and compile, and compile comes once")
        return self._model

    def _compiled(self) -> Any:
        lowered = self._lower()
        module = lowered.module
        if self._options["tuning"] == "on" and self.state is not None:
            database = self._database(lowered)
            module = tvm_compile.schedule(module, database.best(lowered.tasks), lowered.target)
            self.tuning, self.tuned_fraction = database.digest(lowered.tasks)
        opt_level = self._options["opt_level"]
        self._made_by = f"{tvm_compile.versions()} {lowered.target} {opt_level}"
        return tvm_compile.build(module, lowered.target, int(opt_level))

    def _unpack(self, artifact: Path) -> tuple[Path, Mapping[str, tuple[int, ...]]]:
        """Unpack a library into the worker's own folder; return its model and input shapes."""
        if not self.native_code:
            raise BackendError(
                FailureKind.UNSUPPORTED,
                "compile_on=host sends native code, which this agent does not run: start it with "
                "--run-native-code if you trust whoever reaches it, or set compile_on=device",
            )
        folder = Path.cwd()
        self._about = tvm_library.unpack(artifact, folder)
        self._library = folder / "library.so"
        os.environ["TVM_USE_RUNTIME_LIB"] = "1"
        return folder / "model.onnx", self._about.shapes

    def _loaded_library(self, about: tvm_library.About) -> Any:
        if about.versions != tvm_compile.versions():
            raise BackendError(
                FailureKind.UNSUPPORTED,
                f"the library was compiled with {about.versions}, here is "
                f"{tvm_compile.versions()}: install the same on host and device",
            )
        self.tuning, self.tuned_fraction = about.tuning, about.tuned_fraction
        self._made_by = f"{about.versions} {about.target} {about.opt_level} elsewhere"
        try:
            return import_tvm().runtime.load_module(str(self._library))
        except Exception as error:
            raise BackendError(
                FailureKind.UNSUPPORTED,
                f"the library for {about.target} does not load here: {error}",
            ) from error

    def _lower(self) -> tvm_compile.Lowered:
        """Import the network into TVM, once, and remember its tasks for the whole space."""
        if self._lowered is None:
            options = self._options
            target = tvm_compile.make_target(options["target"], int(options["threads"]))
            self._lowered = tvm_compile.lower(self._loaded(), self._shapes, target)
            if self.state is not None:
                self._database(self._lowered).note(
                    tvm_graph.structure(self._loaded(), self._shapes), self._lowered.tasks
                )
        return self._lowered

    def _database(self, lowered: tvm_compile.Lowered) -> TaskDatabase:
        if self.state is None:
            raise RuntimeError("a database needs a folder")
        text = f"{tvm_compile.versions()} {lowered.target}"
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        return TaskDatabase(self.state / "tvm" / name)

    def _verify(
        self, model: onnx.ModelProto, drawn: Mapping[str, npt.NDArray[Any]], outputs: Any
    ) -> None:
        """Compare with ONNX Runtime, once for each structure and set of schedules."""
        text = f"{tvm_graph.structure(model, self._shapes)} {self.tuning} {self._made_by}"
        name = hashlib.sha256(text.encode()).hexdigest()
        passed = None if self.state is None else self.state / "tvm" / "verified" / name
        if passed is not None and passed.exists():
            return
        if not tvm_check.can_check():
            self.notes = (*self.notes, tvm_check.UNCHECKED)
            return
        found = [outputs] if hasattr(outputs, "numpy") else list(outputs)
        error = tvm_check.check_outputs(model, drawn, [one.numpy() for one in found])
        if passed is not None:
            passed.parent.mkdir(parents=True, exist_ok=True)
            passed.write_text(f"{error:.3g}\n")


def _is_target(text: str) -> bool:
    if not text:
        return True
    try:
        wanted = json.loads(text)
    except ValueError:
        return False
    return isinstance(wanted, dict) and wanted.get("kind") == "llvm"


def _unavailable(reason: str) -> BackendInfo:
    return BackendInfo(name="tvm", version="", available=False, reason=reason)


def _info(found: str, reason: str) -> BackendInfo:
    return BackendInfo(
        name="tvm",
        version=found,
        available=True,
        origin=Origin.MEASURED,
        tasks=(TaskKind.INFERENCE,),
        reason=reason,
        options=(
            OptionInfo(
                name="threads",
                default="1",
                allowed="a whole number from 1 to 1024",
                description="threads inside one operator",
            ),
            OptionInfo(
                name="opt_level",
                default="3",
                allowed="0 | 1 | 2 | 3",
                description="which of TVM's passes run",
            ),
            OptionInfo(
                name="target",
                default="",
                allowed='a JSON object with "kind": "llvm", or nothing for this processor',
                description="what code is made for, e.g. with another mcpu",
            ),
            OptionInfo(
                name="tuning",
                default="on",
                allowed="on | off",
                description="use the tuned schedules that there are",
            ),
            OptionInfo(
                name="verify",
                default="on",
                allowed="on | off",
                description="compare outputs with ONNX Runtime's, once a structure",
            ),
            OptionInfo(
                name="compile_on",
                default="device",
                allowed="device | host",
                description="host: artifacts are compiled libraries, native code",
            ),
        ),
    )
