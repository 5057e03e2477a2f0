"""The layer that every network here is made of: a convolution and its batch norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.search.space import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvPlan:
    """A convolution without bias, padded by kernel // 2, then a batch norm.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        kernel: Height and width of the kernel.
        stride: 1 or 2.
        groups: Divides inputs and outputs; equal to `inputs` for a depthwise convolution.
        relu: Whether a ReLU follows the batch norm.
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    groups: int = 1
    relu: bool = True

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the kernel: (outputs, inputs / groups, kernel, kernel)."""
        return (self.outputs, self.inputs // self.groups, self.kernel, self.kernel)

    @property
    def weights(self) -> int:
        """Number of weights of the kernel."""
        return self.outputs * (self.inputs // self.groups) * self.kernel**2

    def output_resolution(self, resolution: int) -> int:
        """Height and width that come out when `resolution` goes in."""
        return -(-resolution // self.stride)


def count_layers(layers: Iterable[tuple[ConvPlan, int]]) -> Counts:
    """Count convolutions with their batch norms for one image.

    Batch norms count two trainable parameters a channel and no multiply-accumulates: in
    deployment they are folded into the convolution before them.

    Args:
        layers: Each convolution with the resolution that goes into it, pixels.
    """
    params = macs = activations = 0
    for conv, resolution in layers:
        pixels = conv.output_resolution(resolution) ** 2
        params += conv.weights + 2 * conv.outputs
        macs += conv.weights * pixels
        activations += conv.outputs * pixels
    return Counts(params=params, macs=macs, activations=activations)
