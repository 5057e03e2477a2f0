"""Parameters, multiply-accumulates and activations of planned networks and blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.search.space import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boardfront.search.spaces.conv import ConvPlan
    from boardfront.search.spaces.etnas.plan import BlockPlan, NetworkPlan


def count_network(plan: NetworkPlan) -> Counts:
    """Count a network for one image, the classifier's bias included in the parameters."""
    layers = count_layers(plan.convolutions())
    matrix = plan.features * plan.classes
    return Counts(
        params=layers.params + matrix + plan.classes,
        macs=layers.macs + matrix,
        activations=layers.activations,
    )


def count_block(block: BlockPlan) -> Counts:
    """Count one block for one image."""
    return count_layers(block.convolutions())


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
