from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from boardfront.host.data import Download, catalog, fashion_mnist
from boardfront.host.data.dataset import split_stratified
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.data import Dataset

needs_debian_package = pytest.mark.skipif(
    not fashion_mnist.DEBIAN_FOLDER.is_dir(),
    reason="needs the Debian package dataset-fashion-mnist",
)


def check_types(dataset: Dataset, resolution: int) -> None:
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.images.shape == (len(split), 1, resolution, resolution)
        assert split.images.dtype == torch.float32
        assert split.labels.dtype == torch.int64
        assert set(split.labels.tolist()) == set(range(dataset.classes))
    assert abs(float(dataset.train.images.mean())) < 1e-3
    assert abs(float(dataset.train.images.std()) - 1) < 1e-3
    assert dataset.background[0] == pytest.approx(float(dataset.train.images.min()), abs=1e-5)


def test_digits_have_their_size_and_statistics() -> None:
    dataset = catalog.load("digits", resolution=16)
    check_types(dataset, 16)
    # 1797 images, scikit-learn's documentation; 60/20/20 of each class, rounded.
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 1797
    assert abs(len(dataset.train) - 1078) <= 5
    assert abs(len(dataset.validation) - 359) <= 5


def test_the_seed_determines_the_split() -> None:
    first, same, other = (catalog.load("digits", resolution=8, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.train.images, same.train.images)
    assert torch.equal(first.test.labels, same.test.labels)
    assert not torch.equal(first.test.labels, other.test.labels)


def test_parts_share_no_image_and_have_equal_class_shares() -> None:
    labels = np.repeat(np.arange(3), [50, 100, 10]).astype(np.int64)
    parts = split_stratified(labels, (0.6, 0.2, 0.2), seed=0)
    assert sorted(np.concatenate(parts)) == list(range(160))
    assert [np.bincount(labels[part]).tolist() for part in parts] == [
        [30, 60, 6],
        [10, 20, 2],
        [10, 20, 2],
    ]


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(WrongInputError, match=r"unknown data set 'mnist': known are digits, fas"):
        catalog.load("mnist", resolution=8)


def test_resolution_must_be_positive() -> None:
    with pytest.raises(WrongInputError, match="resolution: expected at least 1 pixel, got 0"):
        catalog.load("digits", resolution=0)


@needs_debian_package
@pytest.mark.parametrize("resolution", [16, 32])
def test_fashion_mnist_has_its_size(resolution: int) -> None:
    dataset = catalog.load("fashion-mnist", resolution=resolution)
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [
        50_000,
        10_000,
        10_000,
    ]
    check_types(dataset, resolution)
    assert np.bincount(dataset.validation.labels.numpy()).tolist() == [1000] * 10
    # Xiao et al. 2017, labels of the test part start ankle boot, pullover, trouser, trouser.
    assert dataset.test.labels[:4].tolist() == [9, 2, 1, 1]


def test_missing_fashion_mnist_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "none")
    download = Download(url="http://127.0.0.1:9", cache=tmp_path / "cache", limit_s=5)
    with pytest.raises(
        fashion_mnist.DataUnavailableError,
        match=r"no Fashion-MNIST: cannot download .*; install the Debian package "
        "dataset-fashion-mnist or give the url",
    ) as caught:
        catalog.load("fashion-mnist", resolution=28, download=download)
    assert "\n" not in str(caught.value)
