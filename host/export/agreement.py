"""Whether the ONNX file computes what the torch module computes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import torch

from boardfront.host.finalists import write_deployable
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    import onnx

    from boardfront.search.space import NetworkSpace

RELATIVE_LIMIT = 1e-4
"""Largest norm of an output's error over its norm.

Float32 networks of our spaces came out below 1e-6; a wrong operator gives 1e-1 and more.
"""

BATCHES = (1, 2, 5)
"""Of the graphs that are compared beside the one that is written."""

_DRAWS = 4
_SEED = 20


class OutputsDifferError(BoardfrontError):
    """The ONNX file and the torch module give different outputs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far ONNX Runtime's outputs are from torch's.

    Args:
        inputs: How many images were compared; drawn from a normal distribution by `seed`.
        batches: Of the graphs; the first is the one that is written.
        max_abs_error: Of any output.
        max_relative_error: Norm of a batch's error over the norm of torch's outputs.
        limit: Of the relative error.
        seed: Of the inputs.
        onnxruntime: Its version.
        torch: Its version.
    """

    inputs: int
    batches: tuple[int, ...]
    max_abs_error: float
    max_relative_error: float
    limit: float = RELATIVE_LIMIT
    seed: int = _SEED
    onnxruntime: str
    torch: str


def compare(
    space: NetworkSpace, encoding: str, module: torch.nn.Module, model: onnx.ModelProto
) -> Agreement:
    """Compare a model with the module that it was written from, and graphs of other batches too.

    Args:
        space: Of the architecture.
        encoding: The architecture.
        module: On the CPU, in evaluation mode.
        model: What is written, of a fixed batch.

    Raises:
        BoardfrontError: If ONNX Runtime is not installed.
        OutputsDifferError: If the relative error is above its limit.
    """
    own = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    others = tuple(batch for batch in BATCHES if batch != own)
    graphs = [(own, model)]
    graphs += [(b, write_deployable(space, encoding, module, batch=b)) for b in others]
    errors = [
        error
        for batch, graph in graphs
        for error in _errors(module, graph, np.random.default_rng([_SEED, batch]))
    ]
    found = Agreement(
        inputs=_DRAWS * sum(batch for batch, _ in graphs),
        batches=tuple(batch for batch, _ in graphs),
        max_abs_error=max(absolute for absolute, _ in errors),
        max_relative_error=max(relative for _, relative in errors),
        onnxruntime=version("onnxruntime"),
        torch=version("torch"),
    )
    if not found.max_relative_error <= RELATIVE_LIMIT:
        raise OutputsDifferError(
            f"{encoding}: the ONNX file's outputs differ from torch's by "
            f"{found.max_relative_error:.2g} of their norm (at most {found.max_abs_error:.2g}): "
            f"expected at most {RELATIVE_LIMIT:g}; nothing was exported; report it"
        )
    return found


def run_onnx(
    model: onnx.ModelProto, images: Sequence[npt.NDArray[np.float32]]
) -> list[npt.NDArray[np.float32]]:
    """Return ONNX Runtime's first output for each input.

    Raises:
        BoardfrontError: If ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as problem:
        raise BoardfrontError(
            "outputs are compared by ONNX Runtime, which is not installed: "
            "pip install 'boardfront[onnxruntime]'"
        ) from problem
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return [session.run(None, {name: one})[0] for one in images]


def _errors(
    module: torch.nn.Module, graph: onnx.ModelProto, rng: np.random.Generator
) -> Iterator[tuple[float, float]]:
    """Yield absolute and relative error of each draw."""
    shape = [d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim]
    drawn = [rng.standard_normal(shape).astype(np.float32) for _ in range(_DRAWS)]
    for images, found in zip(drawn, run_onnx(graph, drawn), strict=True):
        with torch.no_grad():
            wanted = module(torch.from_numpy(images)).numpy()
        yield difference(found, wanted)


def difference(
    found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]
) -> tuple[float, float]:
    """Return the largest absolute error, and the norm of the error over the norm wanted."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("inf"), float("inf")
    error = found.astype(np.float64) - wanted.astype(np.float64)
    norm = max(float(np.linalg.norm(wanted.astype(np.float64))), 1e-12)
    return float(np.abs(error).max()), float(np.linalg.norm(error)) / norm
