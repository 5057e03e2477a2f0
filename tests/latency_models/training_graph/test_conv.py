"""Convolutions of every geometry: gradients against torch's in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from tests.latency_models.training_graph.networks import Case, check, node

# What float32 can give over sums of some hundred terms; the step's decompositions themselves are
# exact to the last digits of float64.
FLOAT32 = 1e-5
FLOAT64 = 1e-12

SIZES = ((6, 6), (7, 8))
KERNELS = ((1, 1), (2, 2), (3, 3), (3, 5), (5, 5))
STRIDES = ((1, 1), (2, 2), (3, 2))
GROUPS = ((4, 6, 1), (4, 6, 2), (8, 4, 4), (6, 6, 6), (3, 6, 3))

GEOMETRIES = [
    (size, kernel, stride, dilation, "same")
    for size, kernel, stride, dilation in itertools.product(SIZES, KERNELS, STRIDES, (1, 2))
    if dilation == 1 or max(kernel) == 3
]
# Every geometry once, the groups in turn; and every group with every stride of a 3x3 kernel.
CASES = [(*geometry, GROUPS[i % len(GROUPS)]) for i, geometry in enumerate(GEOMETRIES)]
CASES += [
    (size, (3, 3), stride, 1, "same", groups)
    for size, stride, groups in itertools.product(SIZES, STRIDES, GROUPS)
]
CASES += [
    ((7, 8), (3, 3), (2, 2), 1, padding, groups)
    for padding, groups in itertools.product(("none", "uneven"), GROUPS)
]
CASES = list(dict.fromkeys(CASES))


def _pads(kernel: tuple[int, int], dilation: int, padding: str) -> tuple[int, int, int, int]:
    if padding == "none":
        return (0, 0, 0, 0)
    if padding == "uneven":
        return (0, 1, 2, 0)
    height, width = (dilation * (size - 1) // 2 for size in kernel)
    return (height, width, height, width)


@pytest.mark.parametrize(("size", "kernel", "stride", "dilation", "padding", "groups"), CASES)
def test_conv(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: int,
    padding: str,
    groups: tuple[int, int, int],
) -> None:
    inputs, outputs, count = groups
    rng = np.random.default_rng(1)
    pads = _pads(kernel, dilation, padding)
    top, left, bottom, right = pads

    def forward(x: torch.Tensor, learned: dict[str, torch.Tensor]) -> torch.Tensor:
        padded = torch.nn.functional.pad(x, (left, right, top, bottom))
        return torch.nn.functional.conv2d(
            padded, learned["w"], learned["b"], stride, 0, dilation, count
        )

    conv = node(
        "Conv",
        ["x", "w", "b"],
        kernel_shape=kernel,
        strides=stride,
        dilations=[dilation] * 2,
        pads=pads,
        group=count,
    )
    shape = (outputs, inputs // count, *kernel)
    learned = {
        "w": rng.standard_normal(shape) / np.sqrt(math.prod(shape[1:])),
        "b": rng.standard_normal(outputs),
    }
    case = Case(nodes=[conv], forward=forward, shape=(2, inputs, *size), learned=learned)  # type: ignore[arg-type]
    single, double = check(case)
    assert single < FLOAT32
    assert double < FLOAT64
