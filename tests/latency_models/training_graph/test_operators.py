"""Every other operator's gradient against torch's in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.latency_models.training_graph.networks import Case, check, node

from boardfront.latency_models.training_graph.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Mapping

    Learned = Mapping[str, torch.Tensor]

# float32 sums of some hundred terms; float64 shows that nothing but rounding is left.
FLOAT32 = 1e-5
FLOAT64 = 1e-12

# ONNX keeps the 1/6 of hard sigmoid in float32, in a float64 graph too.
ROUNDED = {"hard sigmoid": 1e-7, "hard swish": 1e-7, "squeeze and excite, h-swish": 1e-7}

F = torch.nn.functional
RNG = np.random.default_rng(7)


def _drawn(*shape: int) -> Any:
    return RNG.standard_normal(shape)


def _number(value: float) -> Any:
    return np.array(value, dtype=np.float32)


def _ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def _of(kind: str, forward: Any, **how: Any) -> Case:
    """A case of one operator of x alone."""
    shape = how.pop("shape", (2, 4, 6, 6))
    return Case(nodes=[node(kind, ["x"], **how)], forward=lambda x, _: forward(x), shape=shape)


def _with(kind: str, inputs: list[str], forward: Any, **more: Any) -> Case:
    """A case of one operator of x and of learned or constant arrays."""
    how = more.pop("how", {})
    return Case(nodes=[node(kind, inputs, **how)], forward=forward, **more)


def _pooled(size: int, stride: int, padding: int, **more: Any) -> dict[str, Any]:
    how = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
    return {**how, **more}


def _six(x: torch.Tensor) -> torch.Tensor:
    return F.relu6(3 * x)


def _clip_below(x: torch.Tensor) -> torch.Tensor:
    return torch.clamp(x, max=0.5)


SIX = {"factor": _number(3), "low": _number(0), "high": _number(6)}

ACTIVATIONS = {
    "relu": _of("Relu", torch.relu),
    "leaky relu": _of("LeakyRelu", lambda x: F.leaky_relu(x, 0.25), alpha=0.25),
    "sigmoid": _of("Sigmoid", torch.sigmoid),
    "tanh": _of("Tanh", torch.tanh),
    "hard sigmoid": Case(
        nodes=[
            node("Mul", ["x", "factor"], ["wide"]),
            node("HardSigmoid", ["wide"], alpha=1 / 6, beta=0.5),
        ],
        forward=lambda x, _: F.hardsigmoid(3 * x),
        constants=SIX,
    ),
    "hard swish": Case(
        nodes=[node("Mul", ["x", "factor"], ["wide"]), node("HardSwish", ["wide"])],
        forward=lambda x, _: F.hardswish(3 * x),
        constants=SIX,
    ),
    "relu6": Case(
        nodes=[
            node("Mul", ["x", "factor"], ["wide"]),
            node("Clip", ["wide", "low", "high"]),
        ],
        forward=lambda x, _: _six(x),
        constants=SIX,
    ),
    "clip above only": _with(
        "Clip",
        ["x", "", "high"],
        lambda x, _: _clip_below(x),
        constants={"high": _number(0.5)},
    ),
    "clip of nothing": _with("Clip", ["x"], lambda x, _: x),
    "h-swish written out": Case(
        nodes=[
            node("Add", ["x", "three"], ["moved"]),
            node("Clip", ["moved", "low", "high"], ["gate"]),
            node("Mul", ["x", "gate"], ["product"]),
            node("Div", ["product", "high"]),
        ],
        forward=lambda x, _: F.hardswish(x),
        constants={**SIX, "three": _number(3)},
    ),
}

POOLS = {
    "resnet's": _of("MaxPool", lambda x: F.max_pool2d(x, 3, 2, 1), **_pooled(3, 2, 1)),
    "odd": _of(
        "MaxPool", lambda x: F.max_pool2d(x, 3, 2, 1), **_pooled(3, 2, 1), shape=(2, 3, 7, 9)
    ),
    "apart": _of("MaxPool", lambda x: F.max_pool2d(x, 2, 2), **_pooled(2, 2, 0)),
    "close": _of("MaxPool", lambda x: F.max_pool2d(x, 3, 1, 1), **_pooled(3, 1, 1)),
    "wider apart than wide": _of(
        "MaxPool", lambda x: F.max_pool2d(x, 2, 3), **_pooled(2, 3, 0), shape=(2, 3, 8, 8)
    ),
    "dilated": _of(
        "MaxPool",
        lambda x: F.max_pool2d(x, 3, 2, 1, dilation=2),
        **_pooled(3, 2, 1, dilations=[2, 2]),
        shape=(2, 3, 9, 8),
    ),
    "rounding up": _of(
        "MaxPool",
        lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
        **_pooled(3, 2, 0, ceil_mode=1),
    ),
    "equal values": Case(
        nodes=[node("Relu", ["x"], ["r"]), node("MaxPool", ["r"], **_pooled(3, 2, 1))],
        forward=lambda x, _: F.max_pool2d(torch.relu(x), 3, 2, 1),
    ),
    "average": _of("AveragePool", lambda x: F.avg_pool2d(x, 2, 2), **_pooled(2, 2, 0)),
    "average, padding not counted": _of(
        "AveragePool",
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        **_pooled(3, 2, 1),
    ),
    "average, padding counted": _of(
        "AveragePool",
        lambda x: F.avg_pool2d(x, 3, 2, 1),
        **_pooled(3, 2, 1, count_include_pad=1),
    ),
    "global average": _of("GlobalAveragePool", lambda x: x.mean((2, 3), keepdim=True)),
    "mean": _with(
        "ReduceMean",
        ["x", "axes"],
        lambda x, _: x.mean((2, 3)),
        constants={"axes": _ints(-1, 2)},
        how={"keepdims": 0},
    ),
    "mean of old": Case(
        nodes=[node("ReduceMean", ["x"], axes=[2, 3], keepdims=1)],
        forward=lambda x, _: x.mean((2, 3), keepdim=True),
        opset=13,
    ),
    "sum": _with(
        "ReduceSum",
        ["x", "axes"],
        lambda x, _: x.sum(1, keepdim=True),
        constants={"axes": _ints(1)},
    ),
}

ARITHMETIC = {
    "add broadcast": _with(
        "Add", ["x", "a"], lambda x, w: x + w["a"], learned={"a": _drawn(4, 1, 1)}
    ),
    "add twice": Case(
        nodes=[
            node("Relu", ["x"], ["r"]),
            node("Add", ["r", "x"], ["s"]),
            node("Add", ["s", "r"]),
        ],
        forward=lambda x, _: torch.relu(x) * 2 + x,
    ),
    "sum of three": Case(
        nodes=[node("Tanh", ["x"], ["t"]), node("Sum", ["x", "t", "x"])],
        forward=lambda x, _: 2 * x + torch.tanh(x),
    ),
    "subtract": _with(
        "Sub", ["a", "x"], lambda x, w: w["a"] - x, learned={"a": _drawn(1, 4, 1, 6)}
    ),
    "multiply broadcast": _with(
        "Mul", ["a", "x"], lambda x, w: w["a"] * x, learned={"a": _drawn(4, 1, 1)}
    ),
    "square": _with("Mul", ["x", "x"], lambda x, _: x * x),
    "divide": _with(
        "Div", ["x", "a"], lambda x, w: x / w["a"], learned={"a": 2 + RNG.random((4, 1, 6))}
    ),
    "divided": Case(
        nodes=[node("Sigmoid", ["x"], ["s"]), node("Div", ["a", "s"])],
        forward=lambda x, w: w["a"] / torch.sigmoid(x),
        learned={"a": _drawn(6)},
    ),
    "matrices": _with("MatMul", ["x", "a"], lambda x, w: x @ w["a"], learned={"a": _drawn(6, 5)}),
    "matrix on the left": _with(
        "MatMul", ["a", "x"], lambda x, w: w["a"] @ x, learned={"a": _drawn(4, 5, 6)}
    ),
}
for turned_a, turned_b in ((0, 0), (0, 1), (1, 0), (1, 1)):
    ARITHMETIC[f"gemm {turned_a}{turned_b}"] = Case(
        nodes=[
            node("Gemm", ["x", "a", "c"], transA=turned_a, transB=turned_b, alpha=0.5, beta=2.0)
        ],
        forward=lambda x, w, ta=turned_a, tb=turned_b: (  # type: ignore[misc]
            0.5 * (x.T if ta else x) @ (w["a"].T if tb else w["a"]) + 2 * w["c"]
        ),
        shape=(6, 6),
        learned={"a": _drawn(6, 6), "c": _drawn(6)},
    )
ARITHMETIC["gemm of an activation"] = Case(
    nodes=[node("Tanh", ["x"], ["t"]), node("Gemm", ["t", "x"], transB=1)],
    forward=lambda x, _: torch.tanh(x) @ x.T,
    shape=(6, 6),
)

LAYOUT = {
    "reshape": _with(
        "Reshape",
        ["x", "to"],
        lambda x, _: x.reshape(2, 8, 3, 6),
        constants={"to": _ints(2, 8, 3, 6)},
    ),
    "flatten": _of("Flatten", lambda x: x.flatten(1), axis=1),
    "squeeze": Case(
        nodes=[node("ReduceMean", ["x", "axes"], ["m"]), node("Squeeze", ["m", "axes"])],
        forward=lambda x, _: x.mean(2),
        constants={"axes": _ints(2)},
    ),
    "unsqueeze": _with(
        "Unsqueeze", ["x", "at"], lambda x, _: x[:, :, None], constants={"at": _ints(2)}
    ),
    "identity": _of("Identity", lambda x: x),
    "transpose": _of("Transpose", lambda x: x.permute(0, 3, 1, 2) ** 1, perm=[0, 3, 1, 2]),
    "transpose all": Case(
        nodes=[node("Transpose", ["x"], ["t"]), node("Tanh", ["t"])],
        forward=lambda x, _: torch.tanh(x.T),
        shape=(6, 6),
    ),
    "concat": Case(
        nodes=[
            node("Relu", ["x"], ["r"]),
            node("Concat", ["r", "images", "x", "r"], axis=-3),
        ],
        forward=lambda x, w: torch.cat((torch.relu(x), x - w["offset"], x, torch.relu(x)), dim=1),
    ),
    "split": Case(
        nodes=[
            node("Split", ["x", "sizes"], ["s", "unused", "t"], axis=1),
            node("Relu", ["t"], ["r"]),
            node("Add", ["s", "r"]),
        ],
        forward=lambda x, _: x[:, :1] + torch.relu(x[:, 3:]),
        constants={"sizes": _ints(1, 2, 1)},
    ),
    "shuffle": Case(
        nodes=[
            node("Reshape", ["x", "pairs"], ["p"]),
            node("Transpose", ["p"], ["q"], perm=[0, 2, 1, 3]),
            node("Reshape", ["q", "whole"], ["h"]),
            node("Split", ["h"], ["first", "second"], axis=1, num_outputs=2),
            node("Tanh", ["second"], ["t"]),
            node("Concat", ["t", "first"], axis=1),
        ],
        forward=lambda x, _: torch.cat((torch.tanh(x[:, 1::2]), x[:, 0::2]), dim=1),
        constants={"pairs": _ints(2, 2, 2, 36), "whole": _ints(2, 4, 6, 6)},
    ),
    "slice": _with(
        "Slice",
        ["x", "from", "to", "axes"],
        lambda x, _: x[:, 1:3, :, -4:-1],
        constants={"from": _ints(1, -4), "to": _ints(3, -1), "axes": _ints(1, 3)},
    ),
    "slice of every second": Case(
        nodes=[
            node("Slice", ["x", "one", "end", "axes", "two"], ["odd"]),
            node("Slice", ["x", "zero", "end", "axes", "two"], ["even"]),
            node("Tanh", ["odd"], ["t"]),
            node("Concat", ["even", "t"], axis=1),
        ],
        forward=lambda x, _: torch.cat((x[:, 0::2], torch.tanh(x[:, 1::2])), dim=1),
        constants={
            "zero": _ints(0),
            "one": _ints(1),
            "two": _ints(2),
            "end": _ints(2**31),
            "axes": _ints(1),
        },
        shape=(2, 5, 3, 3),
    ),
    "slice of two axes in steps": _with(
        "Slice",
        ["x", "from", "to", "axes", "steps"],
        lambda x, _: x[:, :, 1:6:3, 0:5:2],
        constants={
            "from": _ints(1, 0),
            "to": _ints(6, 5),
            "axes": _ints(2, 3),
            "steps": _ints(3, 2),
        },
    ),
    "pad": _with(
        "Pad",
        ["x", "pads"],
        lambda x, _: F.pad(x, (3, 0, 1, 2)),
        constants={"pads": _ints(0, 0, 1, 3, 0, 0, 2, 0)},
    ),
    "pad of some axes": _with(
        "Pad",
        ["x", "pads", "", "axes"],
        lambda x, _: F.pad(x, (1, 2)),
        constants={"pads": _ints(1, 2), "axes": _ints(-1)},
    ),
}

NORM = ["weight", "bias", "mean", "var"]


def _norm(x: torch.Tensor, w: Learned) -> torch.Tensor:
    statistics, affine = (w["mean"], w["var"]), (w["weight"], w["bias"])
    return F.batch_norm(x, *statistics, *affine, training=True, momentum=0.25, eps=2**-10)


def _statistics(channels: int) -> dict[str, Any]:
    return {
        "mean": RNG.standard_normal(channels),
        "var": 1 + RNG.random(channels),
    }


def _squeeze_excite(x: torch.Tensor, w: Learned) -> torch.Tensor:
    pooled = x.mean((2, 3), keepdim=True)
    gate = F.hardsigmoid(F.conv2d(torch.relu(F.conv2d(pooled, w["down"])), w["up"]))
    return F.hardswish(x * gate)


BLOCKS = {
    "batch norm": Case(
        nodes=[node("BatchNormalization", ["x", *NORM], epsilon=2**-10, momentum=0.75)],
        forward=_norm,
        learned={"weight": _drawn(4), "bias": _drawn(4)},
        statistics=_statistics(4),
    ),
    "batch norm of features": Case(
        nodes=[node("BatchNormalization", ["x", *NORM], epsilon=2**-10, momentum=0.75)],
        forward=_norm,
        shape=(8, 6),
        learned={"weight": _drawn(6), "bias": _drawn(6)},
        statistics=_statistics(6),
    ),
    "squeeze and excite, h-swish": Case(
        nodes=[
            node("GlobalAveragePool", ["x"], ["pooled"]),
            node("Conv", ["pooled", "down"], ["small"]),
            node("Relu", ["small"], ["active"]),
            node("Conv", ["active", "up"], ["large"]),
            node("HardSigmoid", ["large"], ["gate"], alpha=1 / 6, beta=0.5),
            node("Mul", ["x", "gate"], ["gated"]),
            node("HardSwish", ["gated"]),
        ],
        forward=_squeeze_excite,
        learned={"down": _drawn(2, 4, 1, 1), "up": _drawn(4, 2, 1, 1)},
    ),
    "same padding": Case(
        nodes=[node("Conv", ["x", "k"], auto_pad="SAME_UPPER", strides=[2, 2])],
        forward=lambda x, w: F.conv2d(F.pad(x, (0, 1, 0, 1)), w["k"], stride=2),
        learned={"k": _drawn(3, 4, 3, 3) / 6},
    ),
    "same padding, the other way": Case(
        nodes=[node("Conv", ["x", "k"], auto_pad="SAME_LOWER", strides=[2, 2])],
        forward=lambda x, w: F.conv2d(F.pad(x, (1, 0, 1, 0)), w["k"], stride=2),
        learned={"k": _drawn(3, 4, 3, 3) / 6},
    ),
    "one kernel twice": Case(
        nodes=[
            node("Conv", ["x", "k"], ["a"], pads=[1, 1, 1, 1]),
            node("Relu", ["a"], ["b"]),
            node("Conv", ["b", "k"], pads=[1, 1, 1, 1]),
        ],
        forward=lambda x, w: F.conv2d(
            torch.relu(F.conv2d(x, w["k"], padding=1)), w["k"], padding=1
        ),
        learned={"k": _drawn(4, 4, 3, 3) / 6},
    ),
}

CASES = {**ACTIVATIONS, **POOLS, **ARITHMETIC, **LAYOUT, **BLOCKS}


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    single, double = check(CASES[name])
    assert single < FLOAT32
    assert double < ROUNDED.get(name, FLOAT64)


def test_no_operator_is_left_out() -> None:
    assert {one.op_type for case in CASES.values() for one in case.nodes} == set(RULES)
