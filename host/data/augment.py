"""Random shifts and flips of a batch, on whatever device it lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """Which random changes a training image undergoes.

    Args:
        shift: Most pixels that an image moves along each axis; what comes in is background.
        flip: Whether half of the images are mirrored left to right (never for digits).
    """

    shift: int = 1
    flip: bool = False

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise WrongInputError(f"shift: expected at least 0 pixels, got {self.shift}")

    def apply(
        self, images: torch.Tensor, background: Sequence[float], generator: torch.Generator
    ) -> torch.Tensor:
        """Change each image of a batch on its own.

        The draws depend on the generator alone, not on the device of the images.

        Args:
            images: (batch, channels, height, width).
            background: Value to pad with, one a channel.
            generator: Source of all randomness, on any device.

        Returns:
            A new tensor of the same shape and device.
        """
        if self.shift:
            images = _shift(images, background, self.shift, generator)
        if self.flip:
            drawn = torch.rand(len(images), generator=generator, device=generator.device) < 0.5
            mirrored = drawn.to(images.device)[:, None, None, None]
            images = torch.where(mirrored, images.flip(-1), images)
        return images


def _shift(
    images: torch.Tensor, background: Sequence[float], shift: int, generator: torch.Generator
) -> torch.Tensor:
    batch, channels, height, width = images.shape
    device = images.device
    fill = torch.tensor(background, dtype=images.dtype, device=device)[None, :, None, None]
    padded = fill.repeat(batch, 1, height + 2 * shift, width + 2 * shift)
    padded[:, :, shift : shift + height, shift : shift + width] = images
    offsets = torch.randint(
        2 * shift + 1, (2, batch), generator=generator, device=generator.device
    ).to(device)
    rows = (offsets[0][:, None] + torch.arange(height, device=device))[:, None, :, None]
    columns = (offsets[1][:, None] + torch.arange(width, device=device))[:, None, None, :]
    image = torch.arange(batch, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    return padded[image, channel, rows, columns]
