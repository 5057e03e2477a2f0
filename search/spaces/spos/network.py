"""SPOS networks as torch modules: the stand-alone network and the supernet share the blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from typing_extensions import override

from boardfront.protos.errors import WrongInputError
from boardfront.search.spaces.conv_norm import ConvNorm
from boardfront.search.spaces.spos.alignment import align_choices
from boardfront.search.spaces.spos.encoding import CHOICES, parse_choices
from boardfront.search.spaces.spos.plan import (
    block_places,
    plan_block,
    plan_head,
    plan_network,
    plan_stem,
)

if TYPE_CHECKING:
    from boardfront.search.spaces.spos.plan import BlockPlan
    from boardfront.search.spaces.spos.settings import SposSettings


class ChoiceBlock(nn.Module):
    """One choice at one place: shuffle and split with stride 1, projection with stride 2.

    The shuffle stands at the block's entrance, as in the authors' code: even channels pass, odd
    ones go through the main branch.
    """

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__()
        self.main = nn.Sequential(*(ConvNorm(conv) for conv in plan.main))
        self.projection = nn.Sequential(*(ConvNorm(conv) for conv in plan.projection))
        self.stride = plan.stride

    @override
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height / stride, ...)."""
        if self.stride == 1:
            passed, worked = features[:, 0::2], self.main(features[:, 1::2])
        else:
            passed, worked = self.projection(features), self.main(features)
        return torch.cat((passed, worked), dim=1)


class SposNetwork(nn.Module):
    """One architecture on its own."""

    def __init__(self, encoding: str, settings: SposSettings) -> None:
        super().__init__()
        plan = plan_network(encoding, settings)
        self.stem = ConvNorm(plan.stem)
        self.blocks = nn.Sequential(*(ChoiceBlock(block) for block in plan.blocks))
        self.head = ConvNorm(plan.head)
        self.classifier = nn.Linear(plan.head.outputs, plan.classes, bias=False)

    @override
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (batch, in_channels, resolution, resolution) to logits (batch, classes)."""
        features = self.head(self.blocks(self.stem(images)))
        return cast("torch.Tensor", self.classifier(features.mean(dim=(2, 3))))


class SposSupernet(nn.Module):
    """Every choice at every place; a forward pass runs one path.

    Deviation from SPOS: batch norms are affine here, so that a path and the stand-alone network
    have the same parameters; Guo et al. train the supernet without scale and shift. The dropout
    of 0.1 before the classifier is left out. The choices of a place start aligned, see
    `align_choices`.
    """

    def __init__(self, settings: SposSettings) -> None:
        super().__init__()
        self.settings = settings
        self.stem = ConvNorm(plan_stem(settings))
        self.blocks = nn.ModuleList(
            nn.ModuleDict({choice: ChoiceBlock(plan_block(choice, place)) for choice in CHOICES})
            for place in block_places(settings)
        )
        for place in self.blocks:
            align_choices(cast("nn.ModuleDict", place))
        self.head = ConvNorm(plan_head(settings))
        self.classifier = nn.Linear(settings.last_channels, settings.classes, bias=False)

    @override
    def forward(self, images: torch.Tensor, encoding: str) -> torch.Tensor:
        """Run the path that `encoding` selects.

        Args:
            images: (batch, in_channels, resolution, resolution).
            encoding: The architecture.

        Returns:
            Logits (batch, classes).
        """
        choices = parse_choices(encoding, self.settings.repeats)
        features = self.stem(images)
        for choice, place in zip(choices, self.blocks, strict=True):
            features = cast("nn.ModuleDict", place)[choice](features)
        return cast("torch.Tensor", self.classifier(self.head(features).mean(dim=(2, 3))))


def inherit_path(supernet: nn.Module, encoding: str, settings: SposSettings) -> SposNetwork:
    """Copy the weights and batch-norm statistics of one path into a stand-alone network.

    Args:
        supernet: A `SposSupernet` of the same settings.
        encoding: The architecture.
        settings: Size of the space.

    Raises:
        WrongInputError: `supernet` is of another space or other settings.
    """
    if not isinstance(supernet, SposSupernet) or supernet.settings != settings:
        held = getattr(supernet, "settings", type(supernet).__name__)
        raise WrongInputError(
            f"expected the supernet of {settings}, got that of {held}: "
            "build it with this space's build_supernet()"
        )
    choices = parse_choices(encoding, settings.repeats)
    device = supernet.classifier.weight.device
    with torch.device("meta"):
        network = SposNetwork(encoding, settings)
    network.to_empty(device=device)
    held_state = supernet.state_dict()
    network.load_state_dict(
        {name: held_state[_name_in_supernet(name, choices)] for name in network.state_dict()}
    )
    return network.train(supernet.training)


def _name_in_supernet(name: str, choices: str) -> str:
    parts = name.split(".")
    if parts[0] == "blocks":
        parts.insert(2, choices[int(parts[1])])
    return ".".join(parts)
