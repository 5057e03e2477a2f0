"""Running a step's graph, in float32 by ONNX Runtime and in float64 by the onnx reference.

The reference evaluator has no grouped transposed convolution; torch's, in float64, stands in for
it and for the convolution, which it computes slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from typing_extensions import override

from boardfront.latency_models.training_graph import LABELS, Sgd, momentum_name, next_name
from boardfront.protos.weightless import is_note

Array = npt.NDArray[Any]
Values = dict[str, Array]
Run = Callable[[Mapping[str, Array]], Values]


class Conv(OpRun):
    """By torch, in the precision of its inputs."""

    op_domain = ""

    @override
    def _run(self, images: Array, kernel: Array, bias: Array | None = None, **how: Any) -> Any:
        (top, left, bottom, right) = _same_pads(images, kernel, how) or how.get("pads") or [0] * 4
        padded = np.pad(images, ((0, 0), (0, 0), (top, bottom), (left, right)))
        found = torch.nn.functional.conv2d(
            torch.tensor(padded),
            torch.tensor(kernel),
            None if bias is None else torch.tensor(bias),
            stride=tuple(how.get("strides") or (1, 1)),
            dilation=tuple(how.get("dilations") or (1, 1)),
            groups=how.get("group") or 1,
        )
        return (found.numpy(),)


class ConvTranspose(OpRun):
    """By torch, in the precision of its inputs; asymmetric padding is cut off afterwards."""

    op_domain = ""

    @override
    def _run(self, images: Array, kernel: Array, bias: Array | None = None, **how: Any) -> Any:
        assert bias is None
        full = torch.nn.functional.conv_transpose2d(
            torch.tensor(images),
            torch.tensor(kernel),
            stride=tuple(how["strides"]),
            dilation=tuple(how["dilations"]),
            groups=how.get("group") or 1,
        ).numpy()
        below, beside = how["output_padding"]
        full = np.pad(full, ((0, 0), (0, 0), (0, below), (0, beside)))
        top, left, bottom, right = how["pads"]
        height, width = full.shape[2:]
        return (full[:, :, top : height - bottom, left : width - right],)


def _same_pads(images: Array, kernel: Array, how: Mapping[str, Any]) -> list[int] | None:
    """Pads of auto_pad SAME_*, for which a result has ceil(size / stride) pixels a side."""
    mode = how.get("auto_pad") or "NOTSET"
    if not mode.startswith("SAME"):
        return None
    strides = how["strides"]
    totals = [
        max(
            0,
            (-(-images.shape[2 + i] // strides[i]) - 1) * strides[i]
            + kernel.shape[2 + i]
            - images.shape[2 + i],
        )
        for i in (0, 1)
    ]
    less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return [*less, *more] if mode == "SAME_UPPER" else [*more, *less]


def open_float32(step: onnx.ModelProto) -> Run:
    """Return what runs a step by ONNX Runtime on one thread."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        step.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]

    def run(values: Mapping[str, Array]) -> Values:
        single = {
            name: value.astype(np.float32) if value.dtype == np.float64 else value
            for name, value in values.items()
        }
        return dict(zip(names, session.run(names, single), strict=True))

    return run


def open_float64(step: onnx.ModelProto) -> Run:
    """Return what runs a step of an `as_double` network by the onnx package's reference."""
    evaluator = ReferenceEvaluator(step, new_ops=[Conv, ConvTranspose])
    names = list(evaluator.output_names)

    def run(values: Mapping[str, Array]) -> Values:
        return dict(zip(names, evaluator.run(names, dict(values)), strict=True))

    return run


def as_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a network in float64; a note in place of weights, which a step never reads, stays."""
    double = onnx.ModelProto()
    double.CopyFrom(model)
    for value in (*double.graph.input, *double.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in double.graph.initializer:
        if is_note(tensor.raw_data):
            tensor.data_type = TensorProto.DOUBLE
        elif tensor.data_type == TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return double


def start(
    model: onnx.ModelProto, state: Mapping[str, Array], images: Array, labels: Array
) -> Values:
    """Return the inputs of a first step: zero momentum."""
    names = [value.name for value in model.graph.input]
    values: Values = {"images": images, LABELS: labels}
    for name in names:
        if name in state:
            values[name] = state[name]
            if momentum_name(name) in names:
                values[momentum_name(name)] = np.zeros_like(state[name])
    return values


def after(values: Mapping[str, Array], results: Mapping[str, Array]) -> Values:
    """Return the inputs of the step behind one."""
    return {name: results.get(next_name(name), value) for name, value in values.items()}


def distance(found: Array, true: Array) -> float:
    """Relative Frobenius error; absolute where the truth is zero."""
    norm = float(np.linalg.norm(true))
    return float(np.linalg.norm(found.astype(np.float64) - true)) / (norm or 1.0)


def train(
    forward: Callable[[torch.Tensor], torch.Tensor],
    parameters: Mapping[str, torch.Tensor],
    data: tuple[Array, Array],
    sgd: Sgd,
    steps: int = 1,
) -> tuple[list[float], Values]:
    """Train in float64 with torch; return each loss, and all parameters and their momentum."""
    images, labels = (torch.from_numpy(part) for part in data)
    optimiser = torch.optim.SGD(
        parameters.values(),
        lr=sgd.learning_rate,
        momentum=sgd.momentum,
        weight_decay=sgd.weight_decay,
    )
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(forward(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    results = {name: value.detach().numpy() for name, value in parameters.items()}
    for name, value in parameters.items():
        results[momentum_name(name)] = optimiser.state[value]["momentum_buffer"].numpy()
    return losses, results
