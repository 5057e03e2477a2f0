"""Comparing a network's outputs with what ONNX Runtime computes from the same file."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from boardfront.device_agent.backends.base import BackendError
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import onnx

    Array = npt.NDArray[Any]

TOLERANCE = 1e-3
"""Largest norm of an output's error over the output's norm.

Float32 networks of our spaces came out at 1e-7 to 4e-6; a wrong kernel gives 1e-1 and more.
"""

UNCHECKED = "outputs are not checked against ONNX Runtime, which is not installed"


def can_check() -> bool:
    """Return whether ONNX Runtime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def check_outputs(
    model: onnx.ModelProto, drawn: Mapping[str, Array], outputs: Sequence[Array]
) -> float:
    """Return the largest relative error of an output, by norm.

    Args:
        model: The network.
        drawn: Its inputs by name.
        outputs: What TVM made of them, in the network's order.

    Raises:
        BackendError: `unsupported`, if the outputs are wrong; `invalid_artifact`, if ONNX Runtime
            refuses the network.
    """
    expected = _reference(model, drawn)
    pairs = zip(outputs, expected, strict=False)
    error = max((_relative(found, wanted) for found, wanted in pairs), default=float("inf"))
    if len(outputs) != len(expected):
        error = float("inf")
    if error > TOLERANCE:
        raise BackendError(
            FailureKind.UNSUPPORTED,
            f"TVM's output differs from ONNX Runtime's by {error:.2g} of its norm, expected at "
            f"most {TOLERANCE:g}: measure this network with another backend, or with tuning=off "
            "if a tuned schedule is wrong",
        )
    return error


def _reference(model: onnx.ModelProto, drawn: Mapping[str, Array]) -> list[Array]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    # Constants are folded, nothing is fused: closest to what the file says.
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        found: list[Array] = session.run(None, dict(drawn))
    except Exception as error:
        text = " ".join(str(error).split())
        raise BackendError(
            FailureKind.INVALID_ARTIFACT,
            f"ONNX Runtime, which TVM's output is checked against, refuses the network: {text}",
        ) from error
    return found


def _relative(found: Array, wanted: Array) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    error = np.linalg.norm((found.astype(np.float64) - wanted.astype(np.float64)).ravel())
    if not np.isfinite(error):
        return float("inf")
    # An output of zeros has no norm of its own to compare with.
    return float(error / max(float(np.linalg.norm(wanted.astype(np.float64).ravel())), 1e-12))
