"""Accuracy of an architecture that was trained alone, from scratch, for a few epochs."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, cast

import torch

from boardfront.host.supernet.checkpoint import hash_state
from boardfront.host.supernet.device import choose_device
from boardfront.host.supernet.evaluation import measure_accuracy
from boardfront.host.supernet.training import TrainingDivergedError, train_supernet
from boardfront.host.training.checkpoints import TrainedCandidate, load_candidate, save_candidate
from boardfront.host.training.single_path import SinglePath, SingleSpace
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boardfront.host.data import Dataset, Split
    from boardfront.host.supernet.progress import TrainingReport
    from boardfront.host.supernet.settings import SupernetTraining
    from boardfront.host.training.settings import CandidateProgress, ShortTraining
    from boardfront.host.training.single_path import BuildableSpace

_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")


class UntrainableError(BoardfrontError):
    """One architecture cannot be trained; others may.

    Args:
        message: Why.
        kind: None where it is no failure of the machine.
    """

    def __init__(self, message: str, kind: FailureKind | None = None) -> None:
        self.kind = kind
        super().__init__(message)


class TrainingEstimator:
    """Estimates accuracy by training each network alone and validating it.

    Implements `search.estimator.Estimator`. What was trained is kept: no candidate is trained
    twice, and a finalist is deployed with the very weights that were scored. A candidate that
    was interrupted goes on behind its last whole epoch. Its seed comes from the recipe's and the
    encoding, so neither the order of candidates nor an interruption changes a result. Test images
    are touched by `test_accuracy` alone.

    Args:
        space: Of the architectures.
        dataset: Its training part is fitted, its validation part gives the accuracy.
        training: How, and where results are kept.
        progress: Hears how each training goes on.
        batch: Images a forward pass of the evaluation.

    Raises:
        WrongInputError: There is no such device.

    Source: Recipe of `train_supernet`, on a supernet of one path. Running batch-norm statistics
        are used as they are: they belong to this network alone.
    """

    def __init__(
        self,
        space: BuildableSpace,
        dataset: Dataset,
        training: ShortTraining,
        progress: CandidateProgress | None = None,
        batch: int = 256,
    ) -> None:
        self._space = space
        self._dataset = dataset
        self._training = training
        self._progress = progress
        self._batch = batch
        self._device = choose_device(training.device)
        self._validation = dataset.validation.to(self._device)
        self._state_id = _hash(training.recipe, dataset, batch)

    @property
    def state_id(self) -> str:
        """First 16 hexadecimal digits of the sha256 over all that accuracies depend on.

        These are the recipe with the seed, the training and the validation part, and the batch.
        """
        return self._state_id

    def validation_accuracy(self, encoding: str) -> float:
        """Return the share of validation images classified rightly, from 0 to 1.

        Raises:
            InvalidEncodingError: `encoding` is no member of the space.
            UntrainableError: The network needs more memory than there is, or its loss became
                infinite or undefined.
            CheckpointError: The candidate's file is damaged or of another training.
        """
        return self._trained(encoding).accuracy

    def test_accuracy(self, encoding: str) -> float:
        """Return the share of test images classified rightly, from 0 to 1.

        For finalists, once the search is over: a choice made by this number would spoil it.

        Raises:
            InvalidEncodingError: `encoding` is no member of the space.
            UntrainableError: See `validation_accuracy`.
            CheckpointError: See `validation_accuracy`.
        """
        return self._measure(self.deployable(encoding), self._dataset.test.to(self._device))

    def deployable(self, encoding: str) -> torch.nn.Module:
        """Return the network as it would be deployed, in evaluation mode.

        It holds the weights that `validation_accuracy` scored.

        Raises:
            InvalidEncodingError: `encoding` is no member of the space.
            UntrainableError: See `validation_accuracy`.
            CheckpointError: See `validation_accuracy`.
        """
        weights = self._trained(encoding).weights
        with torch.random.fork_rng(devices=[]):  # the initial weights that are thrown away
            module = self._space.build(encoding)
        module.load_state_dict(dict(weights))
        return module.to(self._device).eval()

    def _trained(self, encoding: str) -> TrainedCandidate:
        """Return what is kept of a candidate, or train it and keep that."""
        self._space.validate(encoding)
        about = {"encoding": encoding, "estimator": self._state_id}
        path = self._training.folder / f"{encoding}.pt"
        if path.exists():
            return load_candidate(path, about)
        unfinished = path.with_suffix(".unfinished.pt")
        try:
            with _failures(encoding):
                trained = self._train(encoding, unfinished)
        except UntrainableError:
            unfinished.unlink(missing_ok=True)
            raise
        save_candidate(path, trained, about)
        unfinished.unlink(missing_ok=True)
        return trained

    def _train(self, encoding: str, checkpoint: Path) -> TrainedCandidate:
        recipe = self._training.recipe
        trained = train_supernet(
            SingleSpace(self._space, encoding),
            self._dataset,
            replace(recipe, seed=derive_seed(recipe.seed, encoding)),
            checkpoint=checkpoint,
            device=self._training.device,
            progress=self._reporter(encoding),
        )
        network = cast("SinglePath", trained.supernet).network.eval()
        weights = {name: value.cpu() for name, value in network.state_dict().items()}
        if not all(bool(value.isfinite().all()) for value in weights.values()):
            raise UntrainableError(
                f"{encoding}: a weight is no longer a number after training: expected finite "
                "ones; lower learning_rate or gradient_clip"
            )
        return TrainedCandidate(
            weights=weights,
            accuracy=self._measure(network, self._validation),
            losses=trained.losses,
            elapsed_s=trained.elapsed_s,
        )

    def _reporter(self, encoding: str) -> _Reporter | None:
        return None if self._progress is None else _Reporter(encoding, self._progress)

    def _measure(self, module: torch.nn.Module, split: Split) -> float:
        return measure_accuracy(module, split, self._batch)


class _Reporter:
    """Adds which candidate it is to a training's reports."""

    def __init__(self, encoding: str, progress: CandidateProgress) -> None:
        self._encoding = encoding
        self._progress = progress

    def __call__(self, report: TrainingReport, /) -> None:
        self._progress(self._encoding, report)


def derive_seed(seed: int, encoding: str) -> int:
    """Return a candidate's own seed."""
    return int.from_bytes(hashlib.sha256(f"{seed} {encoding}".encode()).digest()[:8], "big")


def _hash(recipe: SupernetTraining, dataset: Dataset, batch: int) -> str:
    digest = hashlib.sha256(repr((asdict(recipe), batch, dataset.background)).encode())
    for split in (dataset.train, dataset.validation):
        digest.update(hash_state({"images": split.images, "labels": split.labels}).encode())
    return digest.hexdigest()[:16]


@contextmanager
def _failures(encoding: str) -> Iterator[None]:
    """Turn what makes one architecture untrainable into UntrainableError."""
    try:
        yield
    except TrainingDivergedError as error:
        raise UntrainableError(f"{encoding}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        told = str(error).partition("\n")[0]
        if not isinstance(error, MemoryError) and not any(w in told for w in _MEMORY_WORDS):
            raise
        raise UntrainableError(
            f"{encoding}: training needs more memory than there is ({told or 'MemoryError'}): "
            "lower batch or the space's limits",
            FailureKind.OUT_OF_MEMORY,
        ) from error
