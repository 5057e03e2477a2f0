"""Parameters, multiply-accumulates and activations of a planned network, without torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from boardfront.search.spaces.conv import count_layers

if TYPE_CHECKING:
    from boardfront.search.space import Counts
    from boardfront.search.spaces.conv import ConvPlan
    from boardfront.search.spaces.spos.plan import NetworkPlan


def count_network(plan: NetworkPlan) -> Counts:
    """Count a network for one image."""
    return _with_classifier(count_layers(plan.convolutions()), plan.head, plan.classes)


def count_head(head: ConvPlan, resolution: int, classes: int) -> Counts:
    """Count the last convolution and the classifier for one image.

    Args:
        head: The convolution.
        resolution: Height and width that go into it, pixels.
        classes: Outputs of the classifier.
    """
    return _with_classifier(count_layers([(head, resolution)]), head, classes)


def _with_classifier(layers: Counts, head: ConvPlan, classes: int) -> Counts:
    matrix = head.outputs * classes
    return replace(layers, params=layers.params + matrix, macs=layers.macs + matrix)
