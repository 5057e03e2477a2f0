"""Supernet training by uniform single-path sampling.

Each step draws one architecture uniformly and trains its path alone. All randomness of an epoch
comes from (seed, epoch), so a training that was killed and resumed ends where an undisturbed one
ends, bit by bit on a CPU with the same number of threads.
"""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch.nn import functional

from boardfront.host.supernet.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from boardfront.host.supernet.device import choose_device
from boardfront.host.supernet.evaluation import Recalibration, SupernetEstimator
from boardfront.host.supernet.progress import TrainingReport
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.search.space import Space, SupernetSpace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boardfront.host.data import Dataset
    from boardfront.host.supernet.progress import TrainingProgress
    from boardfront.host.supernet.settings import SupernetTraining

REPORT_EVERY = 10


class TrainableSpace(Space, SupernetSpace, Protocol):
    """A space that can be sampled from and has a supernet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedSupernet:
    """A trained supernet.

    Args:
        supernet: The module, in training mode, on the device it was trained on.
        losses: Mean training loss of each epoch.
        elapsed_s: Training time, earlier runs included.
    """

    supernet: torch.nn.Module
    losses: tuple[float, ...]
    elapsed_s: float


class TrainingDivergedError(BoardfrontError):
    """The loss is no longer a number."""


def train_supernet(
    space: TrainableSpace,
    dataset: Dataset,
    training: SupernetTraining,
    *,
    checkpoint: Path | None = None,
    device: str = "auto",
    progress: TrainingProgress | None = None,
) -> TrainedSupernet:
    """Train the supernet of `space`, or go on where `checkpoint` ends.

    Args:
        space: Gives the supernet and the uniform draws.
        dataset: Its training part is fitted; its validation part serves the reports only.
        training: Hyper-parameters.
        checkpoint: File that is written after each epoch, and resumed from if it is there.
        device: `auto`, `cpu` or `cuda`; on CUDA in mixed precision.
        progress: Hears how it goes on.

    Raises:
        WrongInputError: The batch is larger than the training part, or there is no such device.
        CheckpointError: `checkpoint` is damaged or of another training.
        TrainingDivergedError: The loss became infinite or undefined.

    Source: Guo et al. 2020, "Single Path One-Shot Neural Architecture Search with Uniform
        Sampling", section 3.2, equation 7.
    """
    if training.batch > len(dataset.train):
        raise WrongInputError(
            f"batch: expected at most the {len(dataset.train)} training images, "
            f"got {training.batch}"
        )
    session = _Session(space, dataset, training, choose_device(device))
    if checkpoint is not None and checkpoint.exists():
        session.resume(checkpoint)
    while session.epoch < training.epochs:
        session.train_epoch(progress)
        if checkpoint is not None:
            session.save(checkpoint)
        if progress is not None:
            progress(session.report_epoch())
    return TrainedSupernet(
        supernet=session.supernet, losses=tuple(session.losses), elapsed_s=session.elapsed_s
    )


class _Session:
    """One training in memory: everything that a checkpoint holds, and the data."""

    def __init__(
        self,
        space: TrainableSpace,
        dataset: Dataset,
        training: SupernetTraining,
        device: torch.device,
    ) -> None:
        self.epoch = 0
        self.losses: list[float] = []
        self.elapsed_s = 0.0
        self._space = space
        self._dataset = dataset
        self._training = training
        self._device = device
        with _private_randomness(training.seed, 0, device):
            self.supernet = space.build_supernet()
        self.supernet.to(device).train()
        self._train = dataset.train.to(device)
        self._steps = len(dataset.train) // training.batch
        self._optimizer = _make_optimizer(self.supernet, training)
        self._scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
        self._settings = _describe(self.supernet, dataset, training)

    def resume(self, path: Path) -> None:
        held = load_checkpoint(path, self._settings)
        self.supernet.load_state_dict(held.model)
        self._optimizer.load_state_dict(held.optimizer)
        if held.scaler and self._scaler.is_enabled():
            self._scaler.load_state_dict(held.scaler)
        self.epoch, self.losses, self.elapsed_s = held.epoch, list(held.losses), held.elapsed_s

    def save(self, path: Path) -> None:
        save_checkpoint(
            path,
            Checkpoint(
                settings=self._settings,
                epoch=self.epoch,
                losses=self.losses,
                elapsed_s=self.elapsed_s,
                model=self.supernet.state_dict(),
                optimizer=self._optimizer.state_dict(),
                scaler=self._scaler.state_dict(),
            ),
        )

    def train_epoch(self, progress: TrainingProgress | None) -> None:
        training, before_s, start_s = self._training, self.elapsed_s, time.monotonic()
        generator = torch.Generator().manual_seed(_derive_seed(training.seed, self.epoch + 1))
        rng = np.random.default_rng([training.seed, self.epoch + 1])
        order = torch.randperm(len(self._train), generator=generator).to(self._device)
        total = torch.zeros((), device=self._device)
        with _private_randomness(training.seed, self.epoch + 1, self._device):
            for step in range(self._steps):
                index = order[step * training.batch : (step + 1) * training.batch]
                images = training.augmentation.apply(
                    self._train.images[index], self._dataset.background, generator
                )
                encoding = self._space.sample(rng)
                total += self._take_step(images, self._train.labels[index], encoding, step)
                self.elapsed_s = before_s + time.monotonic() - start_s
                if progress is not None and (step + 1) % REPORT_EVERY == 0:
                    progress(self._report(step + 1, float(total) / (step + 1)))
        loss = float(total) / self._steps
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"loss {loss} in epoch {self.epoch + 1}: expected a finite one; "
                "lower learning_rate or gradient_clip, or raise warmup_steps"
            )
        self.epoch += 1
        self.losses.append(loss)
        self.elapsed_s = before_s + time.monotonic() - start_s

    def report_epoch(self) -> TrainingReport:
        return TrainingReport(
            epoch=self.epoch,
            epochs=self._training.epochs,
            step=self._steps,
            steps=self._steps,
            loss=self.losses[-1],
            learning_rate=self._rate(self.epoch * self._steps - 1),
            epoch_done=True,
            validation_accuracy=self._validate() if self._is_validated() else None,
            elapsed_s=self.elapsed_s,
        )

    def _is_validated(self) -> bool:
        """After about ten epochs of a training, the last one among them."""
        every = max(1, self._training.epochs // 10)
        return self.epoch % every == 0 or self.epoch == self._training.epochs

    def _validate(self) -> float:
        estimator = SupernetEstimator(
            self._space, self.supernet, self._dataset, Recalibration(images=256, batch=128)
        )
        rng = np.random.default_rng([self._training.seed, self.epoch, 1])
        return estimator.validation_accuracy(self._space.sample(rng))

    def _report(self, step: int, loss: float) -> TrainingReport:
        return TrainingReport(
            epoch=self.epoch + 1,
            epochs=self._training.epochs,
            step=step,
            steps=self._steps,
            loss=loss,
            learning_rate=self._rate(self.epoch * self._steps + step - 1),
            epoch_done=False,
            validation_accuracy=None,
            elapsed_s=self.elapsed_s,
        )

    def _rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0 over the whole training."""
        return _learning_rate(self._training, step, self._steps)

    def _take_step(
        self, images: torch.Tensor, labels: torch.Tensor, encoding: str, step: int
    ) -> torch.Tensor:
        training = self._training
        rate = self._rate(self.epoch * self._steps + step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        # Parameters off the path keep no gradient at all: neither decay nor momentum moves them.
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._device.type, enabled=self._device.type == "cuda"):
            logits = self.supernet(images, encoding)
            loss = functional.cross_entropy(
                logits, labels, label_smoothing=training.label_smoothing
            )
        torch.autograd.backward(self._scaler.scale(loss))
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self.supernet.parameters(), training.gradient_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach()


def _make_optimizer(supernet: torch.nn.Module, training: SupernetTraining) -> torch.optim.SGD:
    parameters = list(supernet.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups,
        lr=training.learning_rate,
        momentum=training.momentum,
        nesterov=training.momentum > 0,
    )


def _learning_rate(training: SupernetTraining, step: int, steps: int) -> float:
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    total = max(1, training.epochs * steps - training.warmup_steps)
    done = min(1.0, (step - training.warmup_steps) / total)
    share = 1 - done if training.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return training.learning_rate * share


def _describe(
    supernet: torch.nn.Module, dataset: Dataset, training: SupernetTraining
) -> dict[str, object]:
    shapes = [f"{name} {tuple(value.shape)}" for name, value in supernet.state_dict().items()]
    return {
        **asdict(training),
        "dataset": dataset.name,
        "training images": len(dataset.train),
        "resolution": dataset.resolution,
        "supernet": hashlib.sha256("\n".join(shapes).encode()).hexdigest()[:16],
    }


def _derive_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


@contextmanager
def _private_randomness(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Seed what modules draw themselves (initial weights, dropout); leave no trace outside."""
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(_derive_seed(seed, epoch))
        yield
