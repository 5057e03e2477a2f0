"""Where the host's torch work runs."""

from __future__ import annotations

import torch

from boardfront.protos.errors import WrongInputError


def choose_device(name: str) -> torch.device:
    """Turn a person's wish into a torch device.

    Args:
        name: `auto` (CUDA where there is one, else the CPU), `cpu` or `cuda`.

    Raises:
        WrongInputError: The name is another, or CUDA was asked for and is not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise WrongInputError(f"device: expected auto, cpu or cuda, got {name!r}")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise WrongInputError("device: cuda was asked for and torch finds none: use auto or cpu")
    return torch.device("cuda")
