"""Checkpoints of a supernet training: written whole or not at all, read with suspicion."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Plain = dict[str, Any]


class CheckpointError(BoardfrontError):
    """A checkpoint cannot be used.

    Args:
        path: The file.
        reason: What is wrong with it, and what to do.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"checkpoint {path}: {reason}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """State of a training between two epochs.

    Args:
        settings: What the training was started with, as plain values.
        epoch: Number of finished epochs.
        losses: Mean loss of each of them.
        elapsed_s: Time they took in all.
        model: State of the supernet.
        optimizer: State of the optimizer.
        scaler: State of the gradient scaler; empty where there is none.
    """

    settings: Plain
    epoch: int
    losses: list[float]
    elapsed_s: float
    model: Plain
    optimizer: Plain
    scaler: Plain


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the file at `path` in one step; a crash leaves the old one.

    Raises:
        OSError: It cannot be written; the old one is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    plain = {field.name: getattr(checkpoint, field.name) for field in fields(Checkpoint)}
    plain["digest"] = _hash_plain(plain)
    # Into memory first: torch tells of a full disk as a RuntimeError without a reason.
    content = io.BytesIO()
    torch.save(plain, content)
    try:
        with partial.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path: Path, settings: Plain) -> Checkpoint:
    """Read the checkpoint of a training that was started with `settings`.

    Args:
        path: The file.
        settings: What this training is started with.

    Raises:
        CheckpointError: The file is damaged, no checkpoint, or of other settings.
    """
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True)
        intact = plain.pop("digest") == _hash_plain(plain)
        checkpoint = Checkpoint(**plain)
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        pickle.UnpicklingError,
    ) as error:
        first_line = str(error).partition("\n")[0]
        reason = f"damaged or no checkpoint ({first_line}): delete it to train anew"
        raise CheckpointError(path, reason) from error
    if not intact:
        raise CheckpointError(path, "damaged (its digest is another): delete it to train anew")
    _require_same(path, checkpoint.settings, settings)
    return checkpoint


def hash_state(state: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 over names, types, shapes and values, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} ".encode())
        digest.update(_tensor_bytes(state[name]))
    return digest.hexdigest()


def _hash_plain(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(_tensor_bytes(value)).hexdigest()
    if isinstance(value, dict):
        parts = [f"{key!r}: {_hash_plain(member)}" for key, member in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [_hash_plain(member) for member in value]
    else:
        parts = [repr(value)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _tensor_bytes(tensor: torch.Tensor) -> bytes:
    head = f"{tensor.dtype} {tuple(tensor.shape)}\n".encode()
    return head + tensor.detach().cpu().contiguous().numpy().tobytes()


def _require_same(path: Path, held: Plain, expected: Plain) -> None:
    names = [name for name in expected if held.get(name) != expected[name]]
    if names:
        differences = ", ".join(
            f"{name} {expected[name]!r} (there {held.get(name)!r})" for name in names
        )
        raise CheckpointError(
            path,
            f"of another training; expected {differences}: "
            "use its settings, another folder, or delete it",
        )
