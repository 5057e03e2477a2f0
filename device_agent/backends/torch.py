"""torch: training steps and inference of a network that is rebuilt from its ONNX graph.

Timed region: one step of torch_step.py on inputs and labels that lie on the device, begun when
the step before has finished. On CUDA it is timed by events on the stream, on a processor by the
clock; sums are taken in the same way. Frozen stages count from the input and begin with the stem:
`frozen_stages=k` trains nothing in the first k of them, which NASOA (appendix A.1) calls k - 1.

fp32 is full single precision everywhere: TF32 is off. cuDNN chooses its algorithms by rule, not
by trying (`cudnn.benchmark` is off), so that two processes run the same ones.
"""

from __future__ import annotations

import contextlib
import os
import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, cast

from boardfront.device_agent.backends.base import BackendError, RealClock, parse_options
from boardfront.device_agent.backends.input_shapes import resolve_shapes
from boardfront.device_agent.backends.torch_devices import Devices, find_devices
from boardfront.protos.records import (
    BackendInfo,
    CacheState,
    FailureKind,
    OptionInfo,
    Origin,
    TaskKind,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import torch

    from boardfront.device_agent.backends.torch_graph import Input, Network
    from boardfront.device_agent.backends.torch_step import Step, Stopwatch
    from boardfront.protos.records import Task

_OLDEST = (2, 4)
_INSTALL = "pip install 'boardfront[torch]'"
_COMPILE = ("off", "default", "reduce-overhead", "max-autotune")
_PRECISIONS = ("fp32", "amp")
_FORMATS = ("contiguous", "channels_last")
_TASKS = (TaskKind.INFERENCE, TaskKind.TRAINING_STEP)
_FIRST_RUNS = 2
"""Runs that belong to compiling: memory is taken, kernels are chosen or compiled."""
_SEED = 0

_KINDS = (
    (FailureKind.OUT_OF_MEMORY, ("out of memory", "can't allocate memory", "bad_alloc")),
    (FailureKind.UNSUPPORTED, ("no kernel image is available", "Expected more than 1 value per")),
    (FailureKind.DEVICE_LOST, ("CUDA error: unspecified launch failure", "GPU is lost")),
)


class TorchBackend:
    """Trains or runs a network eagerly or by torch.compile, on a processor or on CUDA."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self.clock = RealClock()
        self._options = dict(options)
        self._task: Task | None = None
        self._network: Network | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._step: Step | None = None
        self._stopwatch: Stopwatch | None = None

    @classmethod
    def probe(cls) -> BackendInfo:
        """Describe the installed torch, or say how to install it.

        Where torch is there but cannot use a GPU that is here, `reason` says why and what to do.
        """
        try:
            found = version("torch")
            version("onnx")
        except PackageNotFoundError as error:
            return _unavailable(f"{error.name} is not installed: {_INSTALL}")
        numbers = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
        if numbers < _OLDEST:
            return _unavailable(f"torch {found} is too old: pip install 'torch>=2.4'")
        return _info(found, find_devices())

    @classmethod
    def resolve(cls, options: Mapping[str, str], info: BackendInfo) -> dict[str, str]:
        """Complete and check options."""
        devices = next(one for one in info.options if one.name == "device").allowed.split(" | ")
        return parse_options(
            options,
            info,
            {
                "threads": lambda text: text.isdecimal() and 1 <= int(text) <= 1024,
                "device": devices.__contains__,
                "compile": _COMPILE.__contains__,
                "precision": _PRECISIONS.__contains__,
                "memory_format": _FORMATS.__contains__,
            },
        )

    def load(self, artifact: Path, task: Task, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Read the graph and rebuild the network."""
        _check(task)
        _prepare(threads=int(self._options["threads"]))
        from boardfront.device_agent.backends import torch_graph
        from boardfront.device_agent.network import read_network

        self._task = task
        model = read_network(artifact)
        with _failures():
            self._network = torch_graph.rebuild(model, frozen_stages=task.frozen_stages)
        inputs = {one.name: one.shape for one in self._network.inputs}
        self._shapes = resolve_shapes(inputs, shapes, task.batch)

    def compile(self) -> None:
        """Bring everything to the device, compile where asked, and run twice."""
        from boardfront.device_agent.backends.torch_step import ClockStopwatch, EventStopwatch

        on_cuda = self._options["device"].startswith("cuda")
        self._stopwatch = EventStopwatch() if on_cuda else ClockStopwatch(self.clock)
        with _failures():
            self._step = self._make_step()
            for _ in range(_FIRST_RUNS):
                self.run_timed(1)
        self._network = None

    def run(self) -> None:
        """Do the task once, and return when the device has finished."""
        self.run_timed(1)

    def run_timed(self, loops: int) -> float:
        """Return the seconds that the device took for `loops` runs.

        The same protocol for every device: each run begins when the one before has finished.
        """
        from boardfront.device_agent.backends.torch_step import time_runs

        step, stopwatch = self._ready()
        with _failures():
            return time_runs(step, stopwatch, loops)

    def timed_parts(self, runs: int) -> dict[str, float]:
        """Return the median seconds of forward, backward and update over `runs` further steps.

        Apart from the timed runs, whose only marks are at their ends. Empty for inference,
        which has no parts.
        """
        from boardfront.device_agent.backends.torch_step import time_parts

        step, stopwatch = self._ready()
        if len(step.parts) == 1:
            return {}
        with _failures():
            return time_parts(step, stopwatch, runs)

    def _ready(self) -> tuple[Step, Stopwatch]:
        if self._step is None or self._stopwatch is None:
            raise RuntimeError("a backend needs load and compile first")
        return self._step, self._stopwatch

    def _make_step(self) -> Step:
        import torch

        from boardfront.device_agent.backends import torch_step

        if self._network is None or self._task is None:
            raise RuntimeError("a backend needs load first")
        device = torch.device(self._options["device"])
        if device.type == "cuda":
            torch.cuda.set_device(device)
        generator = torch.Generator().manual_seed(_SEED)
        inputs = [
            self._placed(_draw(one, self._shapes[one.name], generator), device)
            for one in self._network.inputs
        ]
        training = self._task.kind is TaskKind.TRAINING_STEP
        network: torch.nn.Module = self._network.module.train(training).to(device)
        if self._options["memory_format"] == "channels_last":
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        half = self._options["precision"] == "amp"
        precision = torch_step.autocast(device.type, half=half)
        labels = _draw_labels(network, inputs, generator) if training else None
        if self._options["compile"] != "off":
            compiled = torch.compile(
                network, mode=self._options["compile"], fullgraph=True, dynamic=False
            )
            network = cast("torch.nn.Module", compiled)
        if labels is None:
            return torch_step.Inference(network, inputs, precision)
        scaled = half and device.type == "cuda"
        return torch_step.TrainingStep(network, inputs, labels, precision, scaled=scaled)

    def _placed(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        import torch

        if self._options["memory_format"] == "channels_last" and tensor.dim() == 4:
            return tensor.to(device, memory_format=torch.channels_last)
        return tensor.to(device)


def _check(task: Task) -> None:
    if task.kind not in _TASKS:
        raise BackendError(
            FailureKind.UNSUPPORTED,
            "backend torch times inference and training-step, asked was "
            f"{task.kind.value}: choose one of these tasks",
        )
    if task.cache is not CacheState.WARM:
        raise BackendError(
            FailureKind.UNSUPPORTED,
            f"backend torch times with warm caches only, asked was {task.cache.value}",
        )
    if task.frozen_stages and task.kind is not TaskKind.TRAINING_STEP:
        raise BackendError(
            FailureKind.UNSUPPORTED,
            f"{task.frozen_stages} frozen stages with {task.kind.value}: they are a part of the "
            "task training-step only",
        )


def _prepare(*, threads: int) -> None:
    """Import torch and set what is one for the whole process."""
    # Idle threads must sleep soon: spinning, they fall into what is timed beside them.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # torch.compile starts a pool of compilers otherwise, which would outlive what needs it.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    try:
        import torch
    except Exception as error:
        raise BackendError(
            FailureKind.UNSUPPORTED, f"torch does not import: {error}: {_INSTALL}"
        ) from error
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        with contextlib.suppress(RuntimeError):  # it can be set once, before the first use
            torch.set_num_interop_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False


def _draw(given: Input, shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """Draw an input: normal-scale floats, because zeros and denormals distort times."""
    import torch

    if given.floating:
        return torch.randn(tuple(shape), generator=generator)
    return torch.randint(0, 2, tuple(shape), generator=generator)


def _draw_labels(
    network: torch.nn.Module, inputs: Sequence[torch.Tensor], generator: torch.Generator
) -> torch.Tensor:
    """Draw classes for the network's first output."""
    import torch

    with torch.no_grad():
        outputs = network(*inputs)
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    if logits.dim() < 2:
        raise BackendError(
            FailureKind.UNSUPPORTED,
            f"a training step needs logits (batch, classes), got shape {tuple(logits.shape)}: "
            "measure inference, or write a network that classifies",
        )
    shape = (logits.shape[0], *logits.shape[2:])
    return torch.randint(0, logits.shape[1], shape, generator=generator).to(logits.device)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Raise what torch raises as a typed failure."""
    try:
        yield
    except (BackendError, MemoryError):
        raise
    except Exception as error:
        raise _translated(error) from error


def _translated(error: Exception) -> BackendError:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    for kind, signs in _KINDS:
        if any(sign in text for sign in signs):
            return BackendError(kind, text[:2000])
    # The graph was taken whole: what torch still refuses are shapes that do not fit, or what its
    # compiler lacks.
    compiling = any(part in type(error).__module__ for part in ("_inductor", "_dynamo"))
    kind = FailureKind.UNSUPPORTED if compiling else FailureKind.INVALID_ARTIFACT
    return BackendError(kind, text[:2000])


def _unavailable(reason: str) -> BackendInfo:
    return BackendInfo(name="torch", version="", available=False, reason=reason)


def _info(found: str, devices: Devices) -> BackendInfo:
    return BackendInfo(
        name="torch",
        version=found,
        available=True,
        origin=Origin.MEASURED,
        tasks=_TASKS,
        reason="; ".join(devices.findings),
        options=(
            OptionInfo(
                name="threads",
                default="1",
                allowed="a whole number from 1 to 1024",
                description="threads inside one operator",
            ),
            _choice("device", devices.usable, "where it computes"),
            _choice("compile", _COMPILE, "torch.compile and its mode; the update stays eager"),
            _choice("precision", _PRECISIONS, "amp: autocast, float16 on CUDA, else bfloat16"),
            _choice("memory_format", _FORMATS, "of images and kernels"),
        ),
    )


def _choice(name: str, allowed: Sequence[str], description: str) -> OptionInfo:
    return OptionInfo(
        name=name, default=allowed[0], allowed=" | ".join(allowed), description=description
    )
