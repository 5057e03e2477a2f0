"""What is done to an ONNX graph before TVM imports it: batch norms folded, structure named.

TVM folds constants by compiling and running a function for each of them, 0.1 s a constant: a
network's batch norms cost it a quarter of a minute, and its convolutions are left with four
operations each. Folded in numpy first, they cost milliseconds and leave one addition.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import onnx

    Values = dict[str, npt.NDArray[Any]]

_SMALL = 64
"""Constants of at most so many integers are shapes and axes: they belong to the structure."""


def fold_batch_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the batch norms of its convolutions folded into them.

    Constant biases become additions, which TVM fuses; it would reshape each by a function that it
    compiles for that. Batch norms elsewhere stay.
    """
    from onnx import ModelProto, numpy_helper

    folded = ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    values = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    given = set(values)
    used = _use_counts(graph)
    convs: dict[str, onnx.NodeProto] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        conv = convs.get(node.input[0]) if node.input else None
        if conv is not None and used[node.input[0]] == 1 and _is_foldable_norm(node, values):
            _fold(node, conv, values)
            convs[node.output[0]] = conv
            continue
        if node.op_type == "Conv" and set(node.input[1:]) <= values.keys():
            convs[node.output[0]] = node
        nodes.append(node)
    rewritten = [one for node in nodes for one in _bias_added(node, values)]
    del graph.node[:]
    graph.node.extend(rewritten)
    _keep_initializers(graph, values, given)
    return folded


def inputs(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    """Return the type of every input that is no constant, by name, in order."""
    constant = {one.name for one in model.graph.initializer}
    return {
        one.name: one.type.tensor_type for one in model.graph.input if one.name not in constant
    }


def open_shapes(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Return the shape of every input, None for an open dimension."""
    return {
        name: tuple(
            one.dim_value if one.HasField("dim_value") and one.dim_value > 0 else None
            for one in kind.shape.dim
        )
        for name, kind in inputs(model).items()
    }


def draw_inputs(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, npt.NDArray[Any]]:
    """Draw an array for every input, floats of normal scale: zeros and denormals distort times."""
    from onnx import helper

    generator = np.random.default_rng(0)
    drawn = {}
    for name, kind in inputs(model).items():
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
        if np.issubdtype(dtype, np.floating):
            drawn[name] = generator.standard_normal(shapes[name]).astype(dtype)
        else:
            drawn[name] = generator.integers(0, 2, shapes[name]).astype(dtype)
    return drawn


def structure(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return a hash of the graph and its shapes; weights do not change it."""
    from onnx import ModelProto

    bare = ModelProto()
    bare.CopyFrom(model)
    for one in bare.graph.initializer:
        if np.prod(one.dims, dtype=np.int64) > _SMALL or one.data_type in {1, 10, 11}:
            for field in ("raw_data", "float_data", "double_data", "int32_data"):
                one.ClearField(field)
    text = bare.SerializeToString(deterministic=True) + repr(sorted(shapes.items())).encode()
    return hashlib.sha256(text).hexdigest()


def _use_counts(graph: onnx.GraphProto) -> dict[str, int]:
    used = dict.fromkeys((one.name for one in graph.output), 1)
    for node in graph.node:
        for name in node.input:
            used[name] = used.get(name, 0) + 1
    return used


def _is_foldable_norm(node: onnx.NodeProto, values: Values) -> bool:
    training = any(one.name == "training_mode" and one.i for one in node.attribute)
    return (
        node.op_type == "BatchNormalization"
        and not training
        and len([name for name in node.output if name]) == 1
        and all(name in values for name in node.input[1:])
    )


def _fold(norm: onnx.NodeProto, conv: onnx.NodeProto, values: Values) -> None:
    """Put a batch norm into the convolution before it, which takes its place.

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", section 3.2, equation 14.
    """
    gamma, beta, mean, variance = (values[name].astype(np.float64) for name in norm.input[1:5])
    epsilon = next((one.f for one in norm.attribute if one.name == "epsilon"), 1e-5)
    scale = gamma / np.sqrt(variance + epsilon)
    weight = values[conv.input[1]]
    bias = values[conv.input[2]] if len(conv.input) == 3 else np.zeros_like(scale)
    output = norm.output[0]
    # Under new names: another convolution may share the old ones.
    names = f"{output}.folded_weight", f"{output}.folded_bias"
    scaled = weight * scale.reshape((-1,) + (1,) * (weight.ndim - 1))
    values[names[0]] = scaled.astype(weight.dtype)
    values[names[1]] = (bias * scale + beta - mean * scale).astype(weight.dtype)
    inputs = [conv.input[0], *names]
    del conv.input[:], conv.output[:]
    conv.input.extend(inputs)
    conv.output.append(output)


def _bias_added(node: onnx.NodeProto, values: Values) -> list[onnx.NodeProto]:
    """Return a convolution with a constant bias as a convolution and an addition."""
    from onnx import helper

    if node.op_type != "Conv" or len(node.input) < 3 or not set(node.input[1:]) <= values.keys():
        return [node]
    features, weight, bias = node.input
    output = node.output[0]
    shape = (1, -1) + (1,) * (values[weight].ndim - 2)
    values[f"{output}.addend"] = values[bias].reshape(shape)
    raw = f"{output}.raw"
    del node.input[:], node.output[:]
    node.input.extend([features, weight])
    node.output.append(raw)
    return [node, helper.make_node("Add", [raw, f"{output}.addend"], [output])]


def _keep_initializers(graph: onnx.GraphProto, values: Values, given: set[str]) -> None:
    """Drop the initializers that nothing uses, add those that are new."""
    from onnx import numpy_helper

    used = {name for node in graph.node for name in node.input}
    used |= {one.name for one in graph.output}
    kept = [one for one in graph.initializer if one.name in used]
    kept += [
        numpy_helper.from_array(np.ascontiguousarray(values[name]), name)
        for name in sorted((used & values.keys()) - given)
    ]
    del graph.initializer[:]
    graph.initializer.extend(kept)
