"""The torch module of a `ConvPlan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from typing_extensions import override

if TYPE_CHECKING:
    from boardfront.search.spaces.conv import ConvPlan


class ConvNorm(nn.Module):
    """A convolution, its batch norm, and a ReLU where the plan has one."""

    def __init__(self, plan: ConvPlan) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            plan.inputs,
            plan.outputs,
            plan.kernel,
            plan.stride,
            plan.kernel // 2,
            groups=plan.groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(plan.outputs)
        self.relu = plan.relu

    @override
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height', width')."""
        out = cast("torch.Tensor", self.norm(self.conv(features)))
        return torch.relu_(out) if self.relu else out
