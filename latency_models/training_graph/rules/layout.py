"""Gradients of what moves elements without computing: shapes, orders, pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from boardfront.latency_models.training_graph.share import Share
    from boardfront.latency_models.training_graph.writer import StepWriter


def same(share: Share) -> list[str | None]:
    """Pass on."""
    return [share.slope]


def reshape(share: Share) -> list[str | None]:
    """Give the argument's shape back; also for Flatten, Squeeze and Unsqueeze."""
    gradient = share.step.reshape(share.slope, share.shape(0))
    return [gradient, *[None] * (len(share.wanted) - 1)]


def transpose(share: Share) -> list[str | None]:
    """Transpose back."""
    rank = len(share.shape(0))
    order = share.attribute("perm", None) or list(reversed(range(rank)))
    return [share.step.transpose(share.slope, [order.index(axis) for axis in range(rank)])]


def concat(share: Share) -> list[str | None]:
    """Cut out each part."""
    axis = share.attribute("axis", 0) % len(share.result_shape)
    gradients: list[str | None] = []
    start = 0
    for index, wanted in enumerate(share.wanted):
        end = start + share.shape(index)[axis]
        cut = share.step.cut(share.slope, (start,), (end,), (axis,)) if wanted else None
        gradients.append(cut)
        start = end
    return gradients


def split(share: Share) -> list[str | None]:
    """Join the parts; one that nothing depends on is zero."""
    step = share.step
    axis = share.attribute("axis", 0) % len(share.shape(0))
    parts = [
        _zeros(step, step.network.shape(name)) if gradient is None else gradient
        for name, gradient in zip(share.node.output, share.outputs, strict=True)
    ]
    joined = parts[0] if len(parts) == 1 else step.op("Concat", *parts, axis=axis)
    return [joined, *[None] * (len(share.wanted) - 1)]


def pad(share: Share) -> list[str | None]:
    """Cut the padding off."""
    step, shape = share.step, share.shape(0)
    if share.attribute("mode", "constant") != "constant":
        raise share.unsupported("expected constant padding")
    pads = [int(value) for value in _given(share, 1)]
    given = step.network.values(share.node, 3)
    axes = range(len(shape)) if given is None else [int(axis) % len(shape) for axis in given]
    if min(pads) < 0:
        raise share.unsupported(f"expected pads of at least 0, got {pads}")
    before = dict(zip(axes, pads, strict=False))
    starts = [before.get(axis, 0) for axis in range(len(shape))]
    ends = [start + size for start, size in zip(starts, shape, strict=True)]
    cut = step.cut(share.slope, starts, ends, range(len(shape)))
    return [cut, *[None] * (len(share.wanted) - 1)]


def cut(share: Share) -> list[str | None]:
    """Put a slice back where it was cut from, zeros around and between."""
    step, shape = share.step, share.shape(0)
    starts, _ = _given(share, 1), _given(share, 2)
    axes = step.network.values(share.node, 3)
    steps = step.network.values(share.node, 4)
    gradient, have = share.slope, list(share.result_shape)
    for place, start in enumerate(starts):
        axis = place if axes is None else int(axes[place]) % len(shape)
        stride = 1 if steps is None else int(steps[place])
        if stride < 1:
            raise share.unsupported(f"expected steps of at least 1, got {stride}")
        gradient = _put_back(
            step, gradient, (have, shape[axis]), axis, (_first(start, shape[axis]), stride)
        )
        have[axis] = shape[axis]
    return [gradient, *[None] * (len(share.wanted) - 1)]


def _first(start: int, size: int) -> int:
    return int(np.clip(start + size if start < 0 else start, 0, size))


def _put_back(
    step: StepWriter, piece: str, sizes: tuple[list[int], int], axis: int, place: tuple[int, int]
) -> str:
    """Undo a slice of one axis: of `sizes`, (shape of the piece, size of the whole axis)."""
    (have, whole), (start, stride) = sizes, place
    count, rank = have[axis], len(have)
    if stride > 1:
        apart = [*have[: axis + 1], 1, *have[axis + 1 :]]
        piece = step.reshape(piece, apart)
        pads = [0] * (2 * rank + 2)
        pads[rank + 1 + axis + 1] = stride - 1
        piece = step.pad(piece, pads)
        piece = step.reshape(piece, [*have[:axis], count * stride, *have[axis + 1 :]])
        count *= stride
        if start + count > whole:
            piece = step.cut(piece, (0,), (whole - start,), (axis,))
            count = whole - start
    pads = [0] * (2 * rank)
    pads[axis], pads[rank + axis] = start, whole - start - count
    return step.pad(piece, pads)


def _zeros(step: StepWriter, shape: tuple[int, ...]) -> str:
    return step.op("Expand", step.number(0), step.integers(shape))


def _given(share: Share, index: int) -> list[int]:
    values = share.step.network.values(share.node, index)
    if values is None:
        raise share.unsupported(f"expected input {index} to be given: use ONNX operators 13")
    return [int(value) for value in np.asarray(values).ravel()]
