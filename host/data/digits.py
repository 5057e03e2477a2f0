"""Handwritten digits that come with scikit-learn: small enough for a first search on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from boardfront.host.data.dataset import Dataset, normalise, resize, split_stratified

if TYPE_CHECKING:
    from boardfront.host.data.download import Download

FRACTIONS = (0.6, 0.2, 0.2)


def load_digits(
    *,
    resolution: int,
    seed: int = 0,
    download: Download | None = None,  # noqa: ARG001  # bundled: nothing to fetch
) -> Dataset:
    """Load 1,797 digits of 8x8 pixels, resized, split 60/20/20 with equal class shares.

    Args:
        resolution: Height and width asked for, pixels.
        seed: Of the split.
        download: Not used.

    Raises:
        WrongInputError: `resolution` is not positive.

    Source: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI; the test
        part of that set, as scikit-learn's `load_digits` holds it.
    """
    from sklearn import datasets

    bundled = datasets.load_digits()
    raw = torch.from_numpy(np.asarray(bundled.images, dtype=np.float32) / 16)[:, None]
    images = resize(raw, resolution)
    labels = np.asarray(bundled.target, dtype=np.int64)
    parts = [(images[index], labels[index]) for index in split_stratified(labels, FRACTIONS, seed)]
    return normalise("digits", parts, classes=10)
