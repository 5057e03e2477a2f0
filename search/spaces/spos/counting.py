"""Parameters, multiply-accumulates and activations of a planned network, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.search.space import Counts

if TYPE_CHECKING:
    from boardfront.search.spaces.spos.plan import NetworkPlan


def count_network(plan: NetworkPlan) -> Counts:
    """Count a network for one image.

    Batch norms count two trainable parameters a channel and no multiply-accumulates: in
    deployment they are folded into the convolution before them.
    """
    params = plan.head.outputs * plan.classes
    macs = params
    activations = 0
    for conv, resolution in plan.convolutions():
        weights = conv.outputs * (conv.inputs // conv.groups) * conv.kernel**2
        pixels = conv.output_resolution(resolution) ** 2
        params += weights + 2 * conv.outputs
        macs += weights * pixels
        activations += conv.outputs * pixels
    return Counts(params=params, macs=macs, activations=activations)
