"""Hyper-parameters of a supernet training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from boardfront.host.data import Augmentation
from boardfront.protos.errors import WrongInputError


@dataclass(frozen=True, kw_only=True, slots=True)
class SupernetTraining:
    """How a supernet is trained.

    Args:
        epochs: Passes over the training images.
        batch: Images a step; an incomplete last batch is left out.
        learning_rate: Highest learning rate.
        momentum: Of SGD, Nesterov's form.
        weight_decay: On weight matrices and kernels, not on scales and shifts.
        label_smoothing: Share of the target given to all classes alike.
        schedule: How the learning rate falls to zero.
        warmup_steps: Steps over which it rises from zero first.
        gradient_clip: Highest Euclidean norm of the gradient.
        augmentation: Random changes of the training images.
        seed: Of the initial weights, the order of images, the paths and the augmentation.

    Raises:
        WrongInputError: A value lies outside its range.

    Source: Guo et al. 2020, "Single Path One-Shot", section 4 and published code: SGD with
        momentum 0.9, weight decay 4e-5, label smoothing 0.1, linear decay. Deviations: Nesterov,
        a clipped gradient, and the choice of a cosine decay.
    """

    epochs: int
    batch: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 4e-5
    label_smoothing: float = 0.1
    schedule: Literal["cosine", "linear"] = "cosine"
    warmup_steps: int = 0
    gradient_clip: float = 5.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, lowest in (("epochs", 1), ("batch", 2), ("warmup_steps", 0), ("seed", 0)):
            value = getattr(self, name)
            if value < lowest:
                raise WrongInputError(f"{name}: expected at least {lowest}, got {value}")
        for name in ("learning_rate", "gradient_clip"):
            value = getattr(self, name)
            if not value > 0:
                raise WrongInputError(f"{name}: expected more than 0, got {value}")
        for name in ("momentum", "label_smoothing"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise WrongInputError(f"{name}: expected from 0 to below 1, got {value}")
        if self.schedule not in ("cosine", "linear"):
            raise WrongInputError(f"schedule: expected cosine or linear, got {self.schedule!r}")
