"""ET-NAS networks as torch modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from typing_extensions import override

from boardfront.search.spaces.conv_norm import ConvNorm

if TYPE_CHECKING:
    from boardfront.search.spaces.etnas.plan import BlockPlan, NetworkPlan, SkipPlan, StemPlan


class EtnasBlock(nn.Module):
    """A block at its place: one to three operators, their skips, and the residual."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__()
        self.plan = plan
        self.operators = nn.ModuleList(ConvNorm(conv) for conv in plan.operators)
        self.skips = nn.ModuleDict(
            {skip.name: ConvNorm(skip.projection) for skip in plan.skips if skip.projection}
        )
        self.squeeze = ConvNorm(plan.squeeze) if plan.squeeze else None
        self.residual = ConvNorm(plan.residual) if plan.residual else None

    @override
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height / stride, ...)."""
        nodes = [features]
        last = len(self.operators)
        for node, operator in enumerate(self.operators, start=1):
            value = self._join(node, operator(nodes[-1]), nodes)
            nodes.append(torch.relu_(value) if node < last else value)
        out = nodes[-1] if self.squeeze is None else self.squeeze(nodes[-1])
        residual = features if self.residual is None else self.residual(features)
        return torch.relu_(out + residual)

    def _join(self, node: int, value: torch.Tensor, nodes: list[torch.Tensor]) -> torch.Tensor:
        for skip in self.plan.skips_into(node, added=True):
            value = value + self._skipped(skip, nodes)
        widening = self.plan.skips_into(node, added=False)
        if not widening:
            return value
        return torch.cat((value, *(self._skipped(skip, nodes) for skip in widening)), dim=1)

    def _skipped(self, skip: SkipPlan, nodes: list[torch.Tensor]) -> torch.Tensor:
        source = nodes[skip.source]
        if skip.projection is None:
            return source
        return cast("torch.Tensor", self.skips[skip.name](source))


class EtnasNetwork(nn.Module):
    """One architecture, with torch's default initial weights."""

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__()
        self.stem = _build_stem(plan.stem)
        self.blocks = nn.Sequential(*(EtnasBlock(block) for block in plan.blocks))
        self.classifier = nn.Linear(plan.features, plan.classes)

    @override
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (batch, in_channels, resolution, resolution) to logits (batch, classes)."""
        features = self.blocks(self.stem(images))
        return cast("torch.Tensor", self.classifier(features.mean(dim=(2, 3))))


def _build_stem(plan: StemPlan) -> nn.Sequential:
    layers: list[nn.Module] = [ConvNorm(conv) for conv in plan.layers]
    if plan.pooled:
        layers.append(nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(*layers)
