"""ONNX operators as torch calls: one function each, `OPERATORS` lists them all.

An operator that is not here, or an attribute that torch has no like of, is refused: a network
that computes something else has another time.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.device_agent.backends.torch_graph import GraphBuilder
    from boardfront.device_agent.backends.torch_node import Node

    Operator = Callable[["GraphBuilder", "Node"], Sequence[fx.Node]]

FRESH = frozenset({"Add", "BatchNormalization", "Concat", "Conv"})
"""Operators whose output is their own and is not read again by their backward."""


def _conv(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    outputs, inputs, *size = _weight(build, node, 1, rank=4)
    groups = node.attributes.get("group", 1)
    features, padding = _padded(build, node, fill=0.0)
    conv = nn.Conv2d(
        inputs * groups,
        outputs,
        _pair(size),
        stride=_pair(node.attributes.get("strides", (1, 1))),
        padding=padding,
        dilation=_pair(node.attributes.get("dilations", (1, 1))),
        groups=groups,
        bias=node.has(2),
        device="meta",
    )
    return [build.module(conv, features, _tensors(node, {"weight": 1, "bias": 2}))]


def _batch_norm(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    (channels,) = _weight(build, node, 1, rank=1)
    # ONNX keeps the share of the old statistics, torch that of the new ones.
    share = 1.0 - node.attributes.get("momentum", 0.9)
    norm = nn.BatchNorm2d(channels, eps=node.attributes.get("epsilon", 1e-5), momentum=share)
    places = {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4}
    for index in places.values():
        _weight(build, node, index, rank=1)
    return [build.module(norm, build.value(node, 0), _tensors(node, places))]


def _gemm(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    for name, expected in plain.items():
        if node.attributes.get(name, expected) != expected:
            raise node.refused(f"{name}={node.attributes[name]}, expected {expected}")
    if node.has(2):
        _weight(build, node, 2, rank=1)
    return _linear(build, node, transposed=not node.attributes.get("transB", 0))


def _matmul(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    if build.weight_shape(node, 1) is None:
        return [build.call(torch.matmul, build.value(node, 0), build.value(node, 1))]
    return _linear(build, node, transposed=True)


def _linear(build: GraphBuilder, node: Node, *, transposed: bool) -> Sequence[fx.Node]:
    rows, columns = _weight(build, node, 1, rank=2)
    inputs, outputs = (rows, columns) if transposed else (columns, rows)
    linear = nn.Linear(inputs, outputs, bias=node.has(2), device="meta")
    tensors = {"weight": (node.inputs[1], transposed)}
    if node.has(2):
        tensors["bias"] = (node.inputs[2], False)
    return [build.module(linear, build.value(node, 0), tensors)]


def _relu(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    return [build.call(torch.relu_ if node.overwrites else torch.relu, build.value(node, 0))]


def _clip(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    bounds = []
    for index, name in ((1, "min"), (2, "max")):
        given = build.numbers(node, index)
        bounds.append(given[0] if given else node.attributes.get(name))
    features = build.value(node, 0)
    if bounds == [0, 6]:
        return [build.call(functional.relu6, features)]
    return [build.call(torch.clamp, features, min=bounds[0], max=bounds[1])]


def _hard_sigmoid(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    slope = node.attributes.get("alpha", 0.2)
    offset = node.attributes.get("beta", 0.5)
    features = build.value(node, 0)
    if abs(slope - 1 / 6) < 1e-6 and offset == 0.5:
        return [build.call(functional.hardsigmoid, features)]
    line = build.call(operator.add, build.call(operator.mul, features, slope), offset)
    return [build.call(torch.clamp, line, min=0.0, max=1.0)]


def _leaky_relu(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    slope = node.attributes.get("alpha", 0.01)
    return [build.call(functional.leaky_relu, build.value(node, 0), slope)]


def _softmax(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    axis = node.attributes.get("axis", -1)
    return [build.call(torch.softmax, build.value(node, 0), axis)]


def _max_pool(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    if len(node.outputs) > 1:
        raise node.refused("indices are asked for, expected one output")
    features, padding = _padded(build, node, fill=float("-inf"), most=_half_kernel(node))
    return [
        build.call(
            functional.max_pool2d,
            features,
            _kernel(node),
            stride=_pair(node.attributes.get("strides", (1, 1))),
            padding=padding,
            dilation=_pair(node.attributes.get("dilations", (1, 1))),
            ceil_mode=bool(node.attributes.get("ceil_mode", 0)),
        )
    ]


def _average_pool(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    top, left, bottom, right = node.attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right) or node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise node.refused("uneven or automatic padding, expected the same on both sides")
    if _pair(node.attributes.get("dilations", (1, 1))) != (1, 1):
        raise node.refused("dilations, expected none")
    return [
        build.call(
            functional.avg_pool2d,
            build.value(node, 0),
            _kernel(node),
            stride=_pair(node.attributes.get("strides", (1, 1))),
            padding=(top, left),
            ceil_mode=bool(node.attributes.get("ceil_mode", 0)),
            count_include_pad=bool(node.attributes.get("count_include_pad", 0)),
        )
    ]


def _global_average_pool(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    return [build.call(torch.mean, build.value(node, 0), (2, 3), keepdim=True)]


def _reduce_mean(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    axes = _axes(build, node)
    if axes is None:
        raise node.refused("no axes, expected them to be given")
    keep = bool(node.attributes.get("keepdims", 1))
    return [build.call(torch.mean, build.value(node, 0), axes, keepdim=keep)]


def _flatten(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    axis = node.attributes.get("axis", 1)
    if axis != 1:
        raise node.refused(f"axis={axis}, expected 1")
    return [build.call(torch.flatten, build.value(node, 0), 1)]


def _reshape(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    features = build.value(node, 0)
    sizes: list[Any] = list(build.numbers(node, 1) or [])
    if not node.attributes.get("allowzero", 0):
        # A 0 takes over the input's size.
        sizes = [
            size or build.call(torch.Tensor.size, features, axis)
            for axis, size in enumerate(sizes)
        ]
    return [build.call(torch.reshape, features, tuple(sizes))]


def _transpose(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    order = node.attributes.get("perm")
    if order is None:
        raise node.refused("no perm, expected it to be given")
    return [build.call(torch.permute, build.value(node, 0), tuple(order))]


def _split(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    axis = node.attributes.get("axis", 0)
    sizes = build.numbers(node, 1) or node.attributes.get("split")
    features = build.value(node, 0)
    if sizes is None:
        parts = build.call(torch.chunk, features, len(node.outputs), dim=axis)
    else:
        parts = build.call(torch.split, features, list(sizes), dim=axis)
    return [build.call(operator.getitem, parts, i) for i in range(len(node.outputs))]


def _slice(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    starts, ends = build.numbers(node, 1), build.numbers(node, 2)
    if starts is None or ends is None:
        raise node.refused("no starts or ends, expected them as inputs")
    axes = build.numbers(node, 3) or list(range(len(starts)))
    steps = build.numbers(node, 4) or [1] * len(starts)
    if min(axes) < 0 or min(steps) < 1:
        raise node.refused(f"axes={axes}, steps={steps}, expected no negative ones")
    slices = [slice(None)] * (max(axes) + 1)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        slices[axis] = slice(start, end, step)
    return [build.call(operator.getitem, build.value(node, 0), tuple(slices))]


def _concat(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    parts = [build.value(node, index) for index in range(len(node.inputs))]
    return [build.call(torch.cat, parts, dim=node.attributes["axis"])]


def _squeeze(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    axes = _axes(build, node)
    if axes is None:
        raise node.refused("no axes, expected them to be given")
    return [build.call(torch.squeeze, build.value(node, 0), axes)]


def _identity(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    return [build.value(node, 0)]


def _dropout(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
    given = build.numbers(node, 1)
    share = given[0] if given else node.attributes.get("ratio", 0.5)
    return [build.module(nn.Dropout(share), build.value(node, 0), {})]


def _arithmetic(function: Callable[..., Any]) -> Operator:
    def build_it(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
        return [build.call(function, build.operand(node, 0), build.operand(node, 1))]

    return build_it


def _of_one(function: Callable[..., Any]) -> Operator:
    def build_it(build: GraphBuilder, node: Node) -> Sequence[fx.Node]:
        return [build.call(function, build.value(node, 0))]

    return build_it


def _weight(build: GraphBuilder, node: Node, index: int, *, rank: int) -> tuple[int, ...]:
    """Return the shape of the weights that a node reads."""
    shape = build.weight_shape(node, index)
    if shape is None:
        raise node.refused(f"input {index} is computed, expected weights")
    if len(shape) != rank:
        raise node.refused(f"weights of shape {shape}, expected rank {rank}")
    return shape


def _tensors(node: Node, places: dict[str, int]) -> dict[str, tuple[str, bool]]:
    return {name: (node.inputs[index], False) for name, index in places.items() if node.has(index)}


def _padded(
    build: GraphBuilder, node: Node, *, fill: float, most: tuple[int, int] | None = None
) -> tuple[fx.Node, tuple[int, int]]:
    """Return the input and the padding that is left to the operator.

    It takes the same on both sides, and a pool no more than half of its kernel (`most`);
    otherwise the input is padded before.
    """
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic not in {"NOTSET", "VALID"}:
        raise node.refused(f"auto_pad={automatic}, expected pads")
    top, left, bottom, right = node.attributes.get("pads", (0, 0, 0, 0))
    features = build.value(node, 0)
    if (top, left) == (bottom, right) and (most is None or (top <= most[0] and left <= most[1])):
        return features, (top, left)
    return build.call(functional.pad, features, [left, right, top, bottom], value=fill), (0, 0)


def _kernel(node: Node) -> tuple[int, int]:
    return _pair(node.attributes.get("kernel_shape", ()), node)


def _half_kernel(node: Node) -> tuple[int, int]:
    height, width = _kernel(node)
    return height // 2, width // 2


def _pair(values: Sequence[int], node: Node | None = None) -> tuple[int, int]:
    if node is not None and len(values) != 2:
        raise node.refused(f"a kernel of {len(values)} dimensions, expected 2")
    return int(values[0]), int(values[1])


def _axes(build: GraphBuilder, node: Node) -> tuple[int, ...] | None:
    axes = build.numbers(node, 1) or node.attributes.get("axes")
    return None if axes is None else tuple(axes)


OPERATORS: dict[str, Operator] = {
    "Add": _arithmetic(operator.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _arithmetic(operator.truediv),
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _of_one(functional.hardswish),
    "Identity": _identity,
    "LeakyRelu": _leaky_relu,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _arithmetic(operator.mul),
    "ReduceMean": _reduce_mean,
    "Relu": _relu,
    "Reshape": _reshape,
    "Sigmoid": _of_one(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _arithmetic(operator.sub),
    "Tanh": _of_one(torch.tanh),
    "Transpose": _transpose,
}
