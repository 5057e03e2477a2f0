"""Gradients of poolings and of averages over axes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from boardfront.latency_models.training_graph.windows import read_window

if TYPE_CHECKING:
    from boardfront.latency_models.training_graph.share import Share
    from boardfront.latency_models.training_graph.windows import Window


def max_pool(share: Share) -> list[str | None]:
    """Send each gradient to the first largest value of its window, in row-major order.

    The first of equal ones is what torch takes; behind a ReLU many are equal.
    """
    step, result = share.step, share.node.output[0]
    if len([name for name in share.node.output if name]) > 1:
        raise share.unsupported("expected one output, got the indices as well")
    window = read_window(step.network, share.node, tuple(share.attribute("kernel_shape", ())))
    lowest = float(np.finfo(step.network.dtype).min)
    padded = window.pad(step, share.node.input[0], lowest)
    parts = []
    taken = ""
    for tap in window.taps:
        first = largest = step.op("Equal", window.tap(step, padded, tap), result)
        if taken:
            first = step.op("And", largest, step.op("Not", taken))
        taken = step.op("Or", taken, largest) if taken else largest
        parts.append(step.op("Mul", share.slope, step.to_number(first)))
    return [_scatter(share, window, parts)]


def average_pool(share: Share) -> list[str | None]:
    """Spread each gradient evenly over the pixels that its window averaged."""
    step = share.step
    if share.attribute("ceil_mode", 0):
        raise share.unsupported("expected ceil_mode 0: export the network with floor")
    window = read_window(step.network, share.node, tuple(share.attribute("kernel_shape", ())))
    padding_counts = bool(share.attribute("count_include_pad", 0))
    counts = _count(window, padding_counts=padding_counts)
    each = step.tensor((1 / counts).astype(step.network.dtype))
    slope = step.op("Mul", share.slope, each)
    batch, channels = share.shape(0)[:2]
    slope = step.reshape(slope, (batch * channels, 1, *window.outputs))
    kernel = step.tensor(np.ones((1, 1, *window.kernel), dtype=step.network.dtype))
    spread = step.op("ConvTranspose", slope, kernel, **window.transposed())
    return [step.reshape(spread, share.shape(0))]


def global_average_pool(share: Share) -> list[str | None]:
    """Spread the gradient evenly over all pixels."""
    shape = share.shape(0)
    slope = share.step.scale(share.slope, 1 / math.prod(shape[2:]))
    return [share.step.op("Expand", slope, share.step.integers(shape))]


def reduce_mean(share: Share) -> list[str | None]:
    """Spread the gradient evenly over the axes."""
    return _reduced(share, average=True)


def reduce_sum(share: Share) -> list[str | None]:
    """Copy the gradient along the axes."""
    return _reduced(share, average=False)


def _reduced(share: Share, *, average: bool) -> list[str | None]:
    step, shape = share.step, share.shape(0)
    given = step.network.values(share.node, 1)
    axes = share.attribute("axes", None) if given is None else [int(axis) for axis in given]
    if not axes:
        if share.attribute("noop_with_empty_axes", 0):
            return [share.slope, None]
        axes = range(len(shape))
    axes = {axis % len(shape) for axis in axes}
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
    slope = step.reshape(share.slope, kept)
    if average:
        slope = step.scale(slope, 1 / math.prod(shape[axis] for axis in axes))
    return [step.op("Expand", slope, step.integers(shape)), None]


def _scatter(share: Share, window: Window, parts: list[str]) -> str:
    """Add up what each tap gives to its pixels: a transposed convolution by unit kernels."""
    step = share.step
    batch, channels = share.shape(0)[:2]
    planes = batch * channels
    taps = [step.reshape(part, (planes, 1, *window.outputs)) for part in parts]
    stacked = taps[0] if len(taps) == 1 else step.op("Concat", *taps, axis=1)
    units = np.eye(len(parts), dtype=step.network.dtype)
    kernel = step.tensor(units.reshape(len(parts), 1, *window.kernel))
    spread = step.op("ConvTranspose", stacked, kernel, **window.transposed())
    return step.reshape(spread, share.shape(0))


def _count(
    window: Window, *, padding_counts: bool
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return how many pixels each window averages, (1, 1, *outputs)."""
    counts = [
        np.array(
            [
                sum(
                    padding_counts or 0 <= place < window.inputs[axis]
                    for place in _places(window, axis, index)
                )
                for index in range(window.outputs[axis])
            ],
            dtype=np.float64,
        )
        for axis in (0, 1)
    ]
    return np.outer(counts[0], counts[1])[None, None]


def _places(window: Window, axis: int, index: int) -> range:
    start = index * window.strides[axis] - window.before[axis]
    step = window.dilations[axis]
    return range(start, start + step * window.kernel[axis], step)
