"""ONNX Runtime: inference of an ONNX file, or a training step that is one ONNX graph.

Timed region: one `run_with_iobinding` on inputs and outputs that are bound to the device. A step's
parameters live in two sets of tensors on the device; it reads one and writes the other, and the
next step goes the other way, so that nothing is copied between steps.
"""

from __future__ import annotations

import itertools
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from boardfront.device_agent import network
from boardfront.device_agent.backends import step_graph
from boardfront.device_agent.backends.base import BackendError, RealClock, parse_options
from boardfront.protos.records import (
    BackendInfo,
    CacheState,
    FailureKind,
    OptionInfo,
    Origin,
    Task,
    TaskKind,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

_TASKS = (TaskKind.INFERENCE, TaskKind.TRAINING_STEP_GRAPH)

_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

_LIMITS = network.NetworkLimits(
    # One serialised model holds less than 2 GiB; the nodes need some of it.
    filled_bytes=2**31 - 2**24,
    # What its optimiser and its quantiser write.
    domains=frozenset({"com.microsoft"}),
)

_UNKNOWN_OPERATOR = ("is not a registered function/op", "No Op registered for")

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


class OnnxRuntimeBackend:
    """Runs an ONNX file in an InferenceSession."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self.clock = RealClock()
        self._options = dict(options)
        self._model = b""
        self._shapes: Mapping[str, tuple[int, ...]] = {}
        self._task = Task()
        self._session: Any = None
        self._turns: Iterator[Any] = iter(())

    @classmethod
    def probe(cls) -> BackendInfo:
        """Describe the installed ONNX Runtime, or say how to install it."""
        try:
            found = version("onnxruntime")
        except PackageNotFoundError:
            try:
                found = version("onnxruntime-gpu")
            except PackageNotFoundError:
                return _unavailable("not installed: pip install 'boardfront[onnxruntime]'")
        try:
            import onnxruntime
        except Exception as error:  # noqa: BLE001 - whatever a broken runtime raises
            return _unavailable(f"onnxruntime {found} does not import: {error}")
        return _info(found, tuple(onnxruntime.get_available_providers()))

    @classmethod
    def resolve(cls, options: Mapping[str, str], info: BackendInfo) -> dict[str, str]:
        """Complete and check options."""
        providers = next(option for option in info.options if option.name == "provider").allowed
        return parse_options(
            options,
            info,
            {
                "threads": lambda text: text.isdecimal() and 1 <= int(text) <= 1024,
                "graph_optimization": _LEVELS.__contains__,
                "provider": providers.split(" | ").__contains__,
                "spinning": {"on", "off"}.__contains__,
            },
        )

    def load(self, artifact: Path, task: Task, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Read the file, refuse what is unsafe in it, and fill a weightless one."""
        if task.kind not in _TASKS:
            raise BackendError(
                FailureKind.UNSUPPORTED,
                f"backend onnxruntime times {' and '.join(kind.value for kind in _TASKS)} only, "
                f"asked was {task.kind.value}",
            )
        if task.cache is not CacheState.WARM:
            raise BackendError(
                FailureKind.UNSUPPORTED,
                f"backend onnxruntime times with warm caches only, asked was {task.cache.value}",
            )
        self._model = network.read_bytes(artifact, limits=_LIMITS)
        self._shapes = shapes
        self._task = task

    def compile(self) -> None:
        """Create the session and bind inputs and outputs."""
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = int(self._options["threads"])
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        settings.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, _LEVELS[self._options["graph_optimization"]]
        )
        spinning = "1" if self._options["spinning"] == "on" else "0"
        settings.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        try:
            self._session = onnxruntime.InferenceSession(
                self._model, settings, providers=[self._options["provider"]]
            )
        except Exception as error:
            raise _translated(error) from error
        self._model = b""
        self._bind()

    def run(self) -> None:
        """Execute the network, or the step, once."""
        self._session.run_with_iobinding(next(self._turns))

    def _bind(self) -> None:
        device = "cuda" if self._options["provider"].startswith("CUDA") else "cpu"
        metadata = self._session.get_modelmeta().custom_metadata_map
        step_graph.check_task(metadata, self._task)
        try:
            if self._task.kind is TaskKind.TRAINING_STEP_GRAPH:
                bindings = self._bind_step(device, step_graph.read_draws(metadata))
            else:
                bindings = [self._bind_inference(device)]
            self._turns = itertools.cycle(bindings)
            for _ in bindings:
                self.run()
        except BackendError:
            raise
        except Exception as error:
            raise _translated(error) from error

    def _bind_inference(self, device: str) -> Any:
        binding = self._session.io_binding()
        generator = np.random.default_rng(0)
        known = {node.name for node in self._session.get_inputs()}
        unknown = sorted(set(self._shapes) - known)
        if unknown:
            raise BackendError(
                FailureKind.INVALID_ARTIFACT,
                f"no input is called {unknown[0]!r}: expected one of {sorted(known)}",
            )
        import onnxruntime

        for node in self._session.get_inputs():
            values = _draw(node.type, self._shape_of(node), generator)
            on_device = onnxruntime.OrtValue.ortvalue_from_numpy(values, device, 0)
            binding.bind_ortvalue_input(node.name, on_device)
        for node in self._session.get_outputs():
            binding.bind_output(node.name, device)
        return binding

    def _bind_step(self, device: str, draws: Mapping[str, step_graph.Draw]) -> list[Any]:
        """Bind a step from one set of its state to another, and back."""
        import onnxruntime

        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = [node.name for node in self._session.get_outputs()]
        back = step_graph.returned(inputs, outputs)
        moved = set(back.values())
        generator = np.random.default_rng(0)
        first: dict[str, Any] = {}
        second: dict[str, Any] = {}
        for name, values in self._step_values(inputs, draws, generator):
            first[name] = onnxruntime.OrtValue.ortvalue_from_numpy(values, device, 0)
            if name in moved:
                second[name] = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                    list(values.shape), values.dtype, device, 0
                )
        bindings = []
        for source, target in ((first, second), (second, first)):
            binding = self._session.io_binding()
            for name, value in {**first, **source}.items():
                binding.bind_ortvalue_input(name, value)
            for name in outputs:
                if name in back:
                    binding.bind_ortvalue_output(name, target[back[name]])
                else:
                    binding.bind_output(name, device)
            bindings.append(binding)
        return bindings

    def _step_values(
        self,
        inputs: Mapping[str, Any],
        draws: Mapping[str, step_graph.Draw],
        generator: np.random.Generator,
    ) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        for name, node in inputs.items():
            if name not in draws or node.type not in _DTYPES:
                raise BackendError(
                    FailureKind.INVALID_ARTIFACT,
                    f"input {name!r} of type {node.type}: expected a tensor that the metadata "
                    f"{step_graph.INPUTS_KEY} describe: write the step again",
                )
            shape = self._shape_of(node)
            if name == step_graph.LABELS and shape != (self._task.batch,):
                raise BackendError(
                    FailureKind.INVALID_ARTIFACT,
                    f"the step is of batch {shape}, asked was {self._task.batch}: write it for "
                    "that batch",
                )
            yield name, draws[name].values(_DTYPES[node.type], shape, generator)

    def _shape_of(self, node: Any) -> tuple[int, ...]:
        asked = self._shapes.get(node.name)
        fixed = [d if isinstance(d, int) and d > 0 else None for d in node.shape]
        if asked is not None:
            return _matching(node.name, asked, fixed)
        if fixed and fixed[0] is None:
            fixed[0] = self._task.batch
        if any(d is None for d in fixed):
            text = "x".join("?" if d is None else str(d) for d in fixed)
            raise BackendError(
                FailureKind.INVALID_ARTIFACT,
                f"input {node.name!r} has dynamic dimensions {text}: "
                f"give them by --shape {node.name}={text.replace('?', 'N')}",
            )
        return tuple(d for d in fixed if d is not None)


def _matching(name: str, asked: tuple[int, ...], fixed: list[int | None]) -> tuple[int, ...]:
    fits = len(asked) == len(fixed) and all(
        d is None or d == a for d, a in zip(fixed, asked, strict=True)
    )
    if fits:
        return asked
    raise BackendError(
        FailureKind.INVALID_ARTIFACT,
        f"shape {'x'.join(map(str, asked))} does not fit input {name!r}: "
        f"the model has {'x'.join('?' if d is None else str(d) for d in fixed)}",
    )


def _draw(kind: str, shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[Any]:
    """Draw an input: normal-scale floats, because zeros and denormals distort times."""
    if kind not in _DTYPES:
        raise BackendError(
            FailureKind.UNSUPPORTED, f"input type {kind}: expected one of {sorted(_DTYPES)}"
        )
    dtype: Any = _DTYPES[kind]
    if np.issubdtype(dtype, np.floating):
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)


def _translated(error: Exception) -> BackendError:
    text = " ".join(str(error).split())
    name = type(error).__name__
    if isinstance(error, MemoryError) or "bad_alloc" in text or "out of memory" in text.lower():
        return BackendError(FailureKind.OUT_OF_MEMORY, text)
    if name == "NotImplemented" or any(words in text for words in _UNKNOWN_OPERATOR):
        return BackendError(FailureKind.UNSUPPORTED, text)
    return BackendError(FailureKind.INVALID_ARTIFACT, text)


def _unavailable(reason: str) -> BackendInfo:
    return BackendInfo(name="onnxruntime", version="", available=False, reason=reason)


def _info(found: str, providers: tuple[str, ...]) -> BackendInfo:
    default = "CPUExecutionProvider"
    return BackendInfo(
        name="onnxruntime",
        version=found,
        available=True,
        origin=Origin.MEASURED,
        tasks=_TASKS,
        options=(
            OptionInfo(
                name="threads",
                default="1",
                allowed="a whole number from 1 to 1024",
                description="threads inside one operator",
            ),
            OptionInfo(
                name="provider",
                default=default,
                allowed=" | ".join(providers),
                description="execution provider",
            ),
            OptionInfo(
                name="graph_optimization",
                default="all",
                allowed=" | ".join(_LEVELS),
                description="graph optimisation level",
            ),
            OptionInfo(
                name="spinning",
                default="off",
                allowed="on | off",
                description="idle threads spin; refused in jobs of several subjects",
            ),
        ),
    )
