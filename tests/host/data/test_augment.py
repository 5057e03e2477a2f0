from __future__ import annotations

import pytest
import torch

from boardfront.host.data import Augmentation
from boardfront.protos.errors import WrongInputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels() -> torch.Tensor:
    """400 images, all with the one bright pixel in the middle of 5x5."""
    images = torch.full((400, 2, 5, 5), -1.0)
    images[:, :, 2, 2] = 1.0
    return images


def test_shift_moves_the_whole_image_everywhere_within_reach() -> None:
    shifted = Augmentation(shift=1).apply(pixels(), (-1.0, -1.0), generator())
    assert shifted.shape == (400, 2, 5, 5)
    places = {tuple(place) for place in (shifted[:, 0] == 1).nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}
    assert torch.equal(shifted[:, 0], shifted[:, 1])


def test_shift_fills_with_the_background_of_each_channel() -> None:
    shifted = Augmentation(shift=3).apply(torch.zeros(50, 2, 4, 4), (7.0, 8.0), generator())
    assert set(shifted[:, 0].flatten().tolist()) == {0.0, 7.0}
    assert set(shifted[:, 1].flatten().tolist()) == {0.0, 8.0}


def test_flip_mirrors_half_of_the_images() -> None:
    images = torch.arange(3.0).expand(1000, 1, 3, 3).contiguous()
    flipped = Augmentation(shift=0, flip=True).apply(images, (0.0,), generator())
    mirrored = int((flipped[:, 0, 0, 0] == 2).sum())
    assert 400 < mirrored < 600
    assert torch.equal(flipped.sum(dim=3), images.sum(dim=3))


def test_generator_determines_the_draws_and_the_input_is_kept() -> None:
    images = pixels()
    augmentation = Augmentation(shift=2, flip=True)
    first, same, other = (
        augmentation.apply(images, (-1.0, -1.0), generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(images, pixels())


def test_negative_shift_is_refused() -> None:
    with pytest.raises(WrongInputError, match="shift: expected at least 0 pixels, got -1"):
        Augmentation(shift=-1)
