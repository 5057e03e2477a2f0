"""Parameters, multiply-accumulates and activations of planned networks and blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.search.space import Counts
from boardfront.search.spaces.conv import count_layers

if TYPE_CHECKING:
    from boardfront.search.spaces.etnas.plan import BlockPlan, NetworkPlan


def count_network(plan: NetworkPlan) -> Counts:
    """Count a network for one image, the classifier's bias included in the parameters."""
    layers = count_layers(plan.convolutions())
    classifier = count_classifier(plan.features, plan.classes)
    return Counts(
        params=layers.params + classifier.params,
        macs=layers.macs + classifier.macs,
        activations=layers.activations,
    )


def count_classifier(features: int, classes: int) -> Counts:
    """Count the classifier for one image: a linear layer with bias, which is no convolution."""
    matrix = features * classes
    return Counts(params=matrix + classes, macs=matrix, activations=0)


def count_block(block: BlockPlan) -> Counts:
    """Count one block for one image."""
    return count_layers(block.convolutions())
