"""Accuracy of an architecture with weights inherited from a supernet."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.modules.batchnorm import _BatchNorm as AnyBatchNorm

from boardfront.host.supernet.checkpoint import hash_state
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from boardfront.host.data import Dataset, Split
    from boardfront.search.space import SupernetSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class Recalibration:
    """How batch-norm statistics are measured anew for one path.

    A supernet's running statistics mix those of all paths and fit none of them.

    Args:
        images: Number of training images, drawn once; all of them where there are fewer.
        batch: Images a forward pass; statistics are averaged over the passes.
        seed: Of the draw.

    Source: Guo et al. 2020, "Single Path One-Shot", section 3.2, "BN recalibration".
    """

    images: int = 512
    batch: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("images", self.images), ("batch", self.batch)):
            if value < 2:
                raise WrongInputError(f"recalibration {name}: expected at least 2, got {value}")


class SupernetEstimator:
    """Estimates accuracy by inheriting weights, recalibrating batch norm, and validating.

    Implements `search.estimator.Estimator`. Training images without labels set the statistics,
    validation images give the accuracy; test images are touched by `test_accuracy` alone. The
    supernet is only read. `state_id` is taken when the estimator is made: whoever trains the
    supernet further makes a new estimator.

    Args:
        space: The supernet's space.
        supernet: Trained module; evaluation runs on its device.
        dataset: Normalised as in training.
        recalibration: Of the batch norms.
        batch: Images a forward pass of the evaluation.
    """

    def __init__(
        self,
        space: SupernetSpace,
        supernet: torch.nn.Module,
        dataset: Dataset,
        recalibration: Recalibration | None = None,
        batch: int = 512,
    ) -> None:
        self._space = space
        self._supernet = supernet
        self._device = next(supernet.parameters()).device
        self._recalibration = recalibration or Recalibration()
        self._batch = batch
        self._calibration = _draw_images(dataset.train, self._recalibration).to(self._device)
        self._validation = dataset.validation.to(self._device)
        self._test = dataset.test
        self._state_id = self._hash()

    @property
    def state_id(self) -> str:
        """First 16 hexadecimal digits of the sha256 over all that accuracies depend on.

        These are the weights, the recalibration with its images, the batch and the validation
        part.
        """
        return self._state_id

    def validation_accuracy(self, encoding: str) -> float:
        """Return the share of validation images classified rightly, from 0 to 1.

        Raises:
            InvalidEncodingError: `encoding` is no member of the space.
        """
        return measure_accuracy(self.deployable(encoding), self._validation, self._batch)

    def test_accuracy(self, encoding: str) -> float:
        """Return the share of test images classified rightly, from 0 to 1.

        For finalists, once the search is over: a choice made by this number would spoil it.

        Raises:
            InvalidEncodingError: `encoding` is no member of the space.
        """
        module = self.deployable(encoding)
        return measure_accuracy(module, self._test.to(self._device), self._batch)

    def deployable(self, encoding: str) -> torch.nn.Module:
        """Return the network as it would be deployed: inherited, recalibrated, evaluation mode.

        Its state is a copy; as numpy arrays it is what `NetworkSpace.write_onnx` takes.

        Raises:
            InvalidEncodingError: `encoding` is no member of the space.
        """
        module = self._space.inherit(self._supernet, encoding)
        recalibrate(module, self._calibration, self._recalibration.batch)
        return module

    def _hash(self) -> str:
        digest = hashlib.sha256(hash_state(self._supernet.state_dict()).encode())
        digest.update(repr((asdict(self._recalibration), self._batch)).encode())
        data = {
            "calibration": self._calibration,
            "images": self._validation.images,
            "labels": self._validation.labels,
        }
        digest.update(hash_state(data).encode())
        return digest.hexdigest()[:16]


def recalibrate(module: torch.nn.Module, images: torch.Tensor, batch: int) -> None:
    """Replace all batch-norm statistics by averages over `images`; leave evaluation mode on.

    Args:
        module: Changed in place; parameters stay.
        images: (count, channels, height, width), on the module's device.
        batch: Images a forward pass; a last pass of a single image is left out, since one value
            a channel has no variance.
    """
    module.eval()
    norms = [layer for layer in module.modules() if isinstance(layer, AnyBatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            if len(part) > 1:
                module(part)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()


def measure_accuracy(module: torch.nn.Module, split: Split, batch: int) -> float:
    """Return the share of `split` that `module` classifies rightly, from 0 to 1.

    Args:
        module: In evaluation mode, mapping images to logits (batch, classes).
        split: On the module's device.
        batch: Images a forward pass.
    """
    right = 0
    with torch.no_grad():
        for start in range(0, len(split), batch):
            found = module(split.images[start : start + batch]).argmax(dim=1)
            right += int((found == split.labels[start : start + batch]).sum())
    return right / len(split)


def _draw_images(train: Split, recalibration: Recalibration) -> torch.Tensor:
    generator = torch.Generator().manual_seed(recalibration.seed)
    return train.images[torch.randperm(len(train), generator=generator)[: recalibration.images]]
