from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boardfront.host.data import Augmentation, Dataset, Split, catalog
from boardfront.host.supernet import SupernetTraining, TrainedSupernet, train_supernet
from boardfront.search.spaces.spos import SposSettings, SposSpace

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = SposSettings(
    resolution=8,
    classes=10,
    in_channels=1,
    stem_channels=8,
    stem_stride=1,
    stages=((24, 2), (48, 1)),
    last_channels=48,
)


@pytest.fixture(scope="session")
def space() -> SposSpace:
    return SposSpace(SETTINGS)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return catalog.load("digits", resolution=8)


@pytest.fixture(scope="session")
def few(dataset: Dataset) -> Dataset:
    """96 training images: epochs of three steps."""
    train = Split(images=dataset.train.images[:96], labels=dataset.train.labels[:96])
    return Dataset(
        name="few",
        train=train,
        validation=dataset.validation,
        test=dataset.test,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
    )


@pytest.fixture(scope="session")
def trained(space: SposSpace, dataset: Dataset) -> TrainedSupernet:
    still = Augmentation(shift=0)
    training = SupernetTraining(epochs=10, batch=64, learning_rate=0.2, augmentation=still)
    return train_supernet(space, dataset, training, device="cpu")


@pytest.fixture
def short() -> Callable[..., SupernetTraining]:
    def make(**changes: object) -> SupernetTraining:
        return SupernetTraining(**{"epochs": 3, "batch": 32, **changes})  # type: ignore[arg-type]

    return make
