"""Common initial weights for the choices of one place.

Blocks of this space have no residual connection: what one choice puts out on a channel need not
resemble what another does, and the blocks after it see a different code at every step until the
choices agree. Starting them as nearly the same function spares the supernet that search.

Deviation from SPOS: Guo et al. draw every choice on its own and train 150,000 steps; this start
matters where there are some hundred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from boardfront.search.spaces.conv_norm import ConvNorm

RING_SCALE = 0.1


def align_choices(place: nn.ModuleDict) -> None:
    """Make the choices of one place start as nearly the same function; choice 3 leads.

    Larger kernels take the 3x3 kernel as their centre, with their own drawn values at a tenth
    of the scale around it. The Xception-like block takes the same pointwise convolutions at both
    ends; what it has beyond that starts as the identity plus a tenth of its drawn values.

    Args:
        place: Choice -> block, for the choices 3, 5, 7 and x.
    """
    leader = place["3"]
    with torch.no_grad():
        for choice in ("5", "7"):
            for branch in ("main", "projection"):
                for from_layer, to_layer in zip(
                    _layers(leader, branch), _layers(place[choice], branch), strict=True
                ):
                    _embed_kernel(from_layer.conv.weight, to_layer.conv.weight)
        pairs = zip(_layers(leader, "projection"), _layers(place["x"], "projection"), strict=True)
        for from_layer, to_layer in pairs:
            _embed_kernel(from_layer.conv.weight, to_layer.conv.weight)
        _align_xception(_layers(leader, "main"), _layers(place["x"], "main"))


def _layers(block: nn.Module, branch: str) -> list[ConvNorm]:
    return cast("list[ConvNorm]", list(block.get_submodule(branch).children()))


def _embed_kernel(source: torch.Tensor, target: torch.Tensor) -> None:
    rim = (target.shape[-1] - source.shape[-1]) // 2
    target.mul_(RING_SCALE)
    size = source.shape[-1]
    target[..., rim : rim + size, rim : rim + size] = source


def _align_xception(leader: list[ConvNorm], layers: list[ConvNorm]) -> None:
    first, depthwise, last = (layer.conv.weight for layer in leader)
    lead_in, narrow, middle, mix, lead_out, widen = (layer.conv.weight for layer in layers)
    for kernel in (lead_in, lead_out):
        kernel.mul_(RING_SCALE)
        kernel[..., 1, 1] += 1
    mix.mul_(RING_SCALE).add_(torch.eye(len(mix), device=mix.device)[:, :, None, None])
    narrow.copy_(first)
    middle.copy_(depthwise)
    widen.copy_(last)
