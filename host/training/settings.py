"""How candidates are trained, and who hears of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.supernet.progress import TrainingReport
    from boardfront.host.supernet.settings import SupernetTraining


@dataclass(frozen=True, kw_only=True, slots=True)
class ShortTraining:
    """How each candidate is trained, and where what came of it is kept.

    Args:
        recipe: The same for all; a candidate's own seed comes from the recipe's and its encoding.
        folder: Holds one file a trained candidate; made where it is missing.
        device: `auto`, `cpu` or `cuda`.
    """

    recipe: SupernetTraining
    folder: Path
    device: str = "auto"


class CandidateProgress(Protocol):
    """Hears how the training of a candidate goes on, every few steps and at the end of epochs."""

    def __call__(self, encoding: str, report: TrainingReport, /) -> None:
        """Take note. What it raises ends the training, which can be gone on with."""
