"""Fashion-MNIST from Debian's package, the cache, or the network, in this order."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from boardfront.host.data.dataset import Dataset, normalise, resize, split_stratified
from boardfront.host.data.download import Download, DownloadError, fetch_file, hash_file
from boardfront.protos.errors import BoardfrontError

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEFAULT_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
FRACTIONS = (5 / 6, 1 / 6)
WIDEST_PADDED = 32
# Of the four files in Debian's package 0.0~git20200523.55506a9-1.
SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"
    ),
    "train-labels-idx1-ubyte.gz": (
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"
    ),
}


class DataUnavailableError(BoardfrontError):
    """A data set is not on this machine and could not be fetched.

    Args:
        reason: What happened.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"no Fashion-MNIST: {reason}; install the Debian package dataset-fashion-mnist "
            "or give the url of a folder that holds its four .gz files"
        )


def load_fashion_mnist(
    *, resolution: int, seed: int = 0, download: Download | None = None
) -> Dataset:
    """Load 60,000 + 10,000 images of clothes, 28x28 pixels, ten classes.

    The official training part is split 50,000 / 10,000 with equal class shares; the official
    test part stays the test. From 28 to 32 pixels images are padded with black, otherwise
    resized bilinearly.

    Args:
        resolution: Height and width asked for, pixels.
        seed: Of the split.
        download: How to fetch the files where neither Debian's package nor the cache has them.

    Raises:
        DataUnavailableError: The files are not here and cannot be fetched.
        WrongInputError: `resolution` is not positive, or the url is not http.

    Source: Xiao et al. 2017, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
        Learning Algorithms".
    """
    folder = find_files(download or Download())
    train_images = _read_images(folder / "train-images-idx3-ubyte.gz", resolution)
    train_labels = _read_labels(folder / "train-labels-idx1-ubyte.gz")
    fitted, chosen = split_stratified(train_labels, FRACTIONS, seed)
    parts = [
        (train_images[fitted], train_labels[fitted]),
        (train_images[chosen], train_labels[chosen]),
        (
            _read_images(folder / "t10k-images-idx3-ubyte.gz", resolution),
            _read_labels(folder / "t10k-labels-idx1-ubyte.gz"),
        ),
    ]
    return normalise("fashion-mnist", parts, classes=10)


def find_files(download: Download) -> Path:
    """Return a folder that holds the four files, checked, fetching them if need be.

    Args:
        download: Where from, where to, and how long. A url that was named is used even if
            Debian's package is installed; the cache is looked at first in any case.

    Raises:
        DataUnavailableError: They are not here and cannot be fetched.
    """
    if download.url is None and _is_complete(DEBIAN_FOLDER):
        return DEBIAN_FOLDER
    cache = download.cache or _default_cache()
    base = (download.url or DEFAULT_URL).rstrip("/")
    deadline_s = time.monotonic() + download.limit_s
    for name, sha256 in SHA256.items():
        if _holds(cache / name, sha256):
            continue
        try:
            fetch_file(
                f"{base}/{name}",
                cache / name,
                sha256=sha256,
                deadline_s=deadline_s,
                progress=download.progress,
            )
        except DownloadError as error:
            raise DataUnavailableError(str(error)) from error
    return cache


def _default_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "boardfront" / "fashion-mnist"


def _is_complete(folder: Path) -> bool:
    return all(_holds(folder / name, sha256) for name, sha256 in SHA256.items())


def _holds(path: Path, sha256: str) -> bool:
    return path.is_file() and hash_file(path) == sha256


def _read_images(path: Path, resolution: int) -> torch.Tensor:
    content = gzip.decompress(path.read_bytes())
    count, height, width = np.frombuffer(content, dtype=">i4", count=3, offset=4)
    pixels = np.frombuffer(content, dtype=np.uint8, offset=16)
    images = torch.from_numpy(pixels.reshape(count, 1, height, width).astype(np.float32) / 255)
    extra = resolution - int(width)
    if not 0 < extra <= WIDEST_PADDED - int(width):
        return resize(images, resolution)
    before = extra // 2
    return functional.pad(images, [before, extra - before, before, extra - before])


def _read_labels(path: Path) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    content = gzip.decompress(path.read_bytes())
    return np.frombuffer(content, dtype=np.uint8, offset=8).astype(np.int64)
