"""A data set as tensors in memory, its three parts kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One part of a data set.

    Args:
        images: (count, channels, height, width), float32, normalised.
        labels: (count,), int64, from 0 to classes - 1.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """Return the same part on `device`."""
        return Split(images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Images and labels for training, for choosing, and for the last word.

    Weights are fitted on `train`, architectures are chosen by `validation`; `test` is for
    finalists only, so that its accuracy is not itself a product of the search.

    Args:
        name: Name in the catalogue.
        train: Part that weights are fitted on.
        validation: Part that architectures are compared on.
        test: Part that only finalists see.
        classes: Number of classes.
        mean: Mean of each channel over the training images, pixels from 0 to 1.
        std: Standard deviation of each channel, likewise.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return len(self.mean)

    @property
    def resolution(self) -> int:
        """Height and width of an image in pixels."""
        return int(self.train.images.shape[-1])

    @property
    def background(self) -> tuple[float, ...]:
        """What a black pixel became by normalising, for each channel: the value to pad with."""
        return tuple(-mean / std for mean, std in zip(self.mean, self.std, strict=True))


def normalise(
    name: str,
    parts: Sequence[tuple[torch.Tensor, npt.NDArray[np.int64]]],
    classes: int,
) -> Dataset:
    """Make a data set of raw parts, normalised by the statistics of the training part alone.

    Args:
        name: Name in the catalogue.
        parts: Train, validation, test: images (count, channels, height, width), float32 from
            0 to 1, which this function overwrites, and labels (count,).
        classes: Number of classes.
    """
    train = parts[0][0]
    mean = train.mean(dim=(0, 2, 3))
    std = train.std(dim=(0, 2, 3))
    splits = []
    for images, labels in parts:
        images.sub_(mean[:, None, None]).div_(std[:, None, None])
        splits.append(Split(images=images, labels=torch.from_numpy(labels.astype(np.int64))))
    return Dataset(
        name=name,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        classes=classes,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
    )


def resize(images: torch.Tensor, resolution: int) -> torch.Tensor:
    """Resize bilinearly, with antialiasing where images shrink.

    Args:
        images: (count, channels, height, width), float32.
        resolution: Height and width asked for, pixels.

    Returns:
        (count, channels, resolution, resolution).

    Raises:
        WrongInputError: `resolution` is not positive.
    """
    if resolution < 1:
        raise WrongInputError(f"resolution: expected at least 1 pixel, got {resolution}")
    if images.shape[-1] == resolution:
        return images.clone()
    return functional.interpolate(
        images,
        size=(resolution, resolution),
        mode="bilinear",
        align_corners=False,
        antialias=resolution < images.shape[-1],
    )


def split_stratified(
    labels: npt.NDArray[np.int64], fractions: Sequence[float], seed: int
) -> list[npt.NDArray[np.int64]]:
    """Split indices at random so that every part has the classes in the same proportions.

    Args:
        labels: (count,).
        fractions: Share of each part, in sum 1.
        seed: Of the draw.

    Returns:
        Sorted, disjoint indices into `labels`, one array a part, covering all.
    """
    rng = np.random.default_rng(seed)
    parts: list[list[npt.NDArray[np.int64]]] = [[] for _ in fractions]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(np.cumsum(fractions)[:-1] * len(members)).astype(int)
        for part, drawn in zip(parts, np.split(members, cuts), strict=True):
            part.append(drawn)
    return [np.sort(np.concatenate(part)) for part in parts]
