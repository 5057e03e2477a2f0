"""Gradients of a two-dimensional convolution.

Image: the transposed convolution, with exactly the output padding that gives back the resolution.
Kernel: for every tap, the product of the output's gradient with what the windows see there, as
one matrix product; batched over groups; for depthwise convolutions a sum of products.
Source: Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning", chapter 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.latency_models.training_graph.windows import Window, read_window

if TYPE_CHECKING:
    from boardfront.latency_models.training_graph.share import Share
    from boardfront.latency_models.training_graph.writer import StepWriter


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """Sizes of a convolution."""

    window: Window
    batch: int
    inputs: int
    outputs: int
    groups: int

    @property
    def pixels(self) -> int:
        """Output pixels of a channel in all images of the batch."""
        return self.batch * self.window.outputs[0] * self.window.outputs[1]

    @property
    def depthwise(self) -> bool:
        return self.inputs == self.outputs == self.groups


def conv(share: Share) -> list[str | None]:
    """Write the gradients of image, kernel and bias."""
    step, node = share.step, share.node
    shape = share.shape(1)
    batch, inputs = share.shape(0)[:2]
    groups = share.attribute("group", 1)
    window = read_window(step.network, node, shape[2:])
    layer = _Layer(window=window, batch=batch, inputs=inputs, outputs=shape[0], groups=groups)
    gradients: list[str | None] = [None] * len(share.wanted)
    if share.wanted[0]:
        gradients[0] = step.op(
            "ConvTranspose", share.slope, node.input[1], group=groups, **window.transposed()
        )
    if share.wanted[1]:
        kernel = _kernel(step, layer, node.input[0], share.slope)
        gradients[1] = step.reshape(kernel, shape)
    if len(share.wanted) > 2 and share.wanted[2]:
        gradients[2] = step.total(share.slope, (0, 2, 3))
    return gradients


def _kernel(step: StepWriter, layer: _Layer, images: str, slope: str) -> str:
    """Return the elements of the kernel's gradient in order; the shape is the caller's."""
    # Channels first: then each side of every product is one matrix over all pixels.
    images = step.transpose(layer.window.pad(step, images), (1, 0, 2, 3))
    slope = step.transpose(slope, (1, 0, 2, 3))
    if layer.depthwise:
        product = _depthwise
        slope = step.reshape(slope, (layer.outputs, layer.pixels))
    elif layer.groups == 1:
        product = _ungrouped
        slope = step.reshape(slope, (layer.outputs, layer.pixels))
    else:
        product = _grouped
        slope = step.reshape(slope, (layer.groups, layer.outputs // layer.groups, layer.pixels))
    if layer.window.pointwise:
        return product(step, layer, images, slope)
    taps = [
        product(step, layer, layer.window.tap(step, images, tap), slope)
        for tap in layer.window.taps
    ]
    if len(taps) == 1:
        return taps[0]
    inputs = layer.inputs // layer.groups
    # Side by side the taps are (outputs, taps, inputs); a kernel has them last.
    together = step.op("Concat", *taps, axis=-1)
    if inputs == 1:
        return together
    return step.transpose(step.reshape(together, (layer.outputs, len(taps), inputs)), (0, 2, 1))


def _ungrouped(step: StepWriter, layer: _Layer, seen: str, slope: str) -> str:
    seen = step.reshape(seen, (layer.inputs, layer.pixels))
    return step.op("Gemm", slope, seen, transB=1)


def _grouped(step: StepWriter, layer: _Layer, seen: str, slope: str) -> str:
    seen = step.reshape(seen, (layer.groups, layer.inputs // layer.groups, layer.pixels))
    return step.op("MatMul", slope, step.transpose(seen, (0, 2, 1)))


def _depthwise(step: StepWriter, layer: _Layer, seen: str, slope: str) -> str:
    seen = step.reshape(seen, (layer.inputs, layer.pixels))
    return step.total(step.op("Mul", slope, seen), (1,), keep=True)
