"""Trained candidates on disk: written whole or not at all, read with suspicion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host.supernet.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

_ACCURACY = "validation accuracy"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedCandidate:
    """What the training of one candidate gave.

    Args:
        weights: State of the space's module by its names.
        accuracy: Of these weights on the validation images, from 0 to 1.
        losses: Mean training loss of each epoch.
        elapsed_s: Training time, interrupted parts included.
    """

    weights: Mapping[str, torch.Tensor]
    accuracy: float
    losses: tuple[float, ...]
    elapsed_s: float


def save_candidate(path: Path, trained: TrainedCandidate, about: Mapping[str, str]) -> None:
    """Write a candidate's file; a crash leaves none.

    Args:
        path: The file.
        trained: What is kept.
        about: What it was trained by.
    """
    save_checkpoint(
        path,
        Checkpoint(
            # What the weights scored is read back, not computed again: it was journalled.
            settings={**about, _ACCURACY: trained.accuracy},
            epoch=len(trained.losses),
            losses=list(trained.losses),
            elapsed_s=trained.elapsed_s,
            model=dict(trained.weights),
            # Nobody trains it further.
            optimizer={},
            scaler={},
        ),
    )


def load_candidate(path: Path, about: Mapping[str, str]) -> TrainedCandidate:
    """Read a candidate's file.

    Args:
        path: The file.
        about: What it must have been trained by.

    Raises:
        CheckpointError: The file is damaged, or of another candidate or training.
    """
    held = load_checkpoint(path, dict(about))
    return TrainedCandidate(
        weights=held.model,
        accuracy=float(held.settings[_ACCURACY]),
        losses=tuple(held.losses),
        elapsed_s=held.elapsed_s,
    )
