"""Data sets as tensors in memory."""

from boardfront.host.data.augment import Augmentation
from boardfront.host.data.dataset import Dataset, Split
from boardfront.host.data.download import Download, DownloadError, DownloadProgress

__all__ = ["Augmentation", "Dataset", "Download", "DownloadError", "DownloadProgress", "Split"]
