"""Take the weights out of an ONNX model: times depend on its structure, not on what it learned."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

import onnx

from boardfront.protos.weightless import LARGE_BYTES, Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    # How a node reads a weight: (the node, the index of its input).
    Use = tuple[onnx.NodeProto, int]

SPREAD = 0.1
"""Standard deviation of biases, and of what a batch norm has around its means."""

_ELEMENT_BYTES: Mapping[int, int] = {
    onnx.TensorProto.FLOAT: 4,
    onnx.TensorProto.FLOAT16: 2,
    onnx.TensorProto.BFLOAT16: 2,
    onnx.TensorProto.DOUBLE: 8,
}
_KERNEL_INPUTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
_BIAS_INPUTS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
_NORM_MEANS = {1: 1.0, 2: 0.0, 3: 0.0, 4: 1.0}
"""Of the scale, bias, mean and variance of a BatchNormalization, by their index."""

_HALVING = frozenset({"Relu", "LeakyRelu", "PRelu", "Clip"})
_KEEPING = frozenset({"BatchNormalization", "Identity"})


def without_weights(model: onnx.ModelProto, *, seed: int = 0) -> bytes:
    """Return a model's file with notes in place of its large weights; the model stays as it is.

    Replaced are floating-point initializers of the main graph of at least 1 KiB that nothing
    reads but convolutions, matrix products and batch norms, as their weights. All else is kept:
    it may steer what is computed. A weight that lies in another file is replaced too, so that a
    model need not be loaded whole.

    The notes depend on the structure and `seed` alone. Filled by them (variance 2 / fan_in before
    a ReLU, else 1 / fan_in; batch norms near the identity) activations keep a normal scale.
    A model whose times do depend on its values, as by zeros that a runtime makes use of, must
    keep them.

    Args:
        model: An ONNX model; weights that lie in other files need not be loaded.
        seed: Of the notes, 0 to 2**43 - 1.

    Returns:
        A serialised ONNX model of the same structure hash, the same bytes for the same input.

    Source: He et al. 2015, "Delving Deep into Rectifiers", section 2.2.
    """
    light = onnx.ModelProto()
    light.CopyFrom(model)
    _note_weights(light.graph, seed << 20)
    return bytes(light.SerializeToString(deterministic=True))


def _note_weights(graph: onnx.GraphProto, first_seed: int) -> None:
    uses = _uses(graph)
    for place, tensor in enumerate(graph.initializer):
        if not _is_large(tensor):
            continue
        note = _note_of(tensor, uses.get(tensor.name, ()), uses, first_seed + place)
        if note is not None:
            _replace(tensor, note)


def _uses(graph: onnx.GraphProto) -> Mapping[str, list[Use | None]]:
    """Say by name who reads a value; None stands for a reader that is no node of this graph."""
    uses: dict[str, list[Use | None]] = defaultdict(list)
    for node in graph.node:
        for index, name in enumerate(node.input):
            uses[name].append((node, index))
        for name in _names_inside(node):
            uses[name].append(None)
    for value in graph.output:
        uses[value.name].append(None)
    return uses


def _names_inside(node: onnx.NodeProto) -> Iterator[str]:
    """Yield all that the nodes of a node's subgraphs read, and what these give."""
    pending = list(_subgraphs(node))
    while pending:
        graph = pending.pop()
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from inner.input
            pending.extend(_subgraphs(inner))


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _is_large(tensor: onnx.TensorProto) -> bool:
    element_bytes = _ELEMENT_BYTES.get(tensor.data_type, 0)
    return element_bytes * math.prod(tensor.dims) >= LARGE_BYTES


def _note_of(
    tensor: onnx.TensorProto,
    readers: Iterable[Use | None],
    uses: Mapping[str, list[Use | None]],
    seed: int,
) -> Note | None:
    """Return the note of a weight, or None for what is none in every reader's eyes."""
    note = None
    for use in readers:
        scales = None if use is None else _scales(tensor, use, uses)
        if scales is None:
            return None
        # Of several readers the first says what the weights are like.
        note = note or Note(mean=scales[0], scale=scales[1], seed=seed)
    return note


def _scales(
    tensor: onnx.TensorProto, use: Use, uses: Mapping[str, list[Use | None]]
) -> tuple[float, float] | None:
    """Return mean and standard deviation of the values of a weight as one node reads it."""
    node, index = use
    if node.domain not in {"", "ai.onnx"}:
        return None
    if node.op_type == "BatchNormalization" and index in _NORM_MEANS:
        return _NORM_MEANS[index], SPREAD
    if index == _BIAS_INPUTS.get(node.op_type):
        return 0.0, SPREAD
    if index != _KERNEL_INPUTS.get(node.op_type) or len(tensor.dims) < 2:
        return None
    gain = 2 if _meets_relu(node, uses) else 1
    return 0.0, math.sqrt(gain / _fan_in(tensor, node))


def _fan_in(tensor: onnx.TensorProto, node: onnx.NodeProto) -> int:
    """Return how many products are summed for one element of a node's output."""
    dims = list(tensor.dims)
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Conv":
        return math.prod(dims[1:])
    if node.op_type == "ConvTranspose":
        # Each input pixel spreads over the kernel; strides share the taps between outputs.
        groups = attributes["group"].i if "group" in attributes else 1
        strides = attributes["strides"].ints if "strides" in attributes else (1,)
        return max(1, dims[0] // groups * math.prod(dims[2:]) // math.prod(strides))
    if node.op_type == "Gemm" and "transB" in attributes and attributes["transB"].i:
        return dims[1]
    return dims[-2]


def _meets_relu(node: onnx.NodeProto, uses: Mapping[str, list[Use | None]]) -> bool:
    """Whether what a node gives goes into a ReLU, at once or through a batch norm."""
    seen = 0
    while seen < 3:
        readers = uses.get(node.output[0], [])
        if len(readers) != 1 or readers[0] is None:
            return False
        node, _ = readers[0]
        if node.op_type not in _KEEPING:
            return node.op_type in _HALVING
        seen += 1
    return False


def _replace(tensor: onnx.TensorProto, note: Note) -> None:
    name, kind, dims = tensor.name, tensor.data_type, list(tensor.dims)
    tensor.Clear()
    tensor.name, tensor.data_type, tensor.raw_data = name, kind, note.to_bytes()
    tensor.dims.extend(dims)
