"""How a training tells how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingReport:
    """How far a training is.

    Args:
        epoch: Current epoch, from 1.
        epochs: Epochs in all.
        step: Finished steps of this epoch.
        steps: Steps of an epoch.
        loss: Mean training loss of this epoch so far.
        learning_rate: Of the last finished step.
        epoch_done: Whether the epoch has ended and its checkpoint is written.
        validation_accuracy: Of one uniformly drawn path, from 0 to 1; None within an epoch and
            after most of them, because it takes time from the training.
        elapsed_s: Time spent on this training, earlier runs included.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    epoch_done: bool
    validation_accuracy: float | None
    elapsed_s: float


class TrainingProgress(Protocol):
    """Hears how a training goes on.

    Called from the training's thread every few steps and, after the checkpoint was written, at
    the end of every epoch. What it raises ends the training, which can be resumed.
    """

    def __call__(self, report: TrainingReport, /) -> None:
        """Take note of `report`."""
