from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from boardfront.host.data import Augmentation, Dataset, Split, catalog
from boardfront.host.supernet import SupernetTraining
from boardfront.host.training import ShortTraining, TrainingEstimator
from boardfront.search.spaces.etnas import EtnasSettings, EtnasSpace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from boardfront.host.training import CandidateProgress
    from boardfront.host.training.single_path import BuildableSpace

SETTINGS = EtnasSettings(
    resolution=8, classes=10, in_channels=1, channels=(16,), last_channels=(16, 32), max_blocks=6
)


@pytest.fixture(scope="session")
def space() -> EtnasSpace:
    return EtnasSpace(SETTINGS)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return catalog.load("digits", resolution=8)


@pytest.fixture(scope="session")
def few(dataset: Dataset) -> Dataset:
    """96 training images: epochs of three steps."""
    train = Split(images=dataset.train.images[:96], labels=dataset.train.labels[:96])
    return replace(dataset, train=train)


@pytest.fixture
def make(space: EtnasSpace, few: Dataset, tmp_path: Path) -> Callable[..., TrainingEstimator]:
    """Make an estimator of two short epochs; keywords change its recipe."""

    def build(
        *,
        space: BuildableSpace = space,
        dataset: Dataset = few,
        folder: str = "candidates",
        progress: CandidateProgress | None = None,
        **recipe: object,
    ) -> TrainingEstimator:
        still = Augmentation(shift=0)
        values = {"epochs": 2, "batch": 32, "augmentation": still, **recipe}
        training = SupernetTraining(**values)  # type: ignore[arg-type]
        short = ShortTraining(recipe=training, folder=tmp_path / folder, device="cpu")
        return TrainingEstimator(space, dataset, short, progress)

    return build
