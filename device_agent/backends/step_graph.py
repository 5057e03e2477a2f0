"""A training step that came as one graph: which inputs it has, and what values they get.

The graph's parameters, momentum buffers and running statistics are inputs; what a step makes of
input NAME is its output "next/NAME". Its metadata say how values are drawn, because a time is
distorted by zeros, denormals and negative variances.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from boardfront.device_agent.backends.base import BackendError
from boardfront.protos.records import FailureKind, TaskKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from boardfront.protos.records import Task

TASK_KEY = "boardfront.task"
INPUTS_KEY = "boardfront.inputs"
LABELS = "labels"

_NEXT = "next/"
_KINDS = ("labels", "normal", "positive", "zeros")
_MOST_CLASSES = 2**31
_LARGEST = 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """How the values of one input are drawn.

    Args:
        kind: "normal", mean + scale * z; "positive", mean + scale * abs(z); "zeros"; "labels",
            whole numbers from 0 to below - 1.
        mean: Of the first two.
        scale: Likewise, not negative.
        below: Of labels.
    """

    kind: str
    mean: float = 0.0
    scale: float = 1.0
    below: int = 1

    def values(
        self, dtype: npt.DTypeLike, shape: tuple[int, ...], generator: np.random.Generator
    ) -> npt.NDArray[Any]:
        """Draw an array."""
        if self.kind == "labels":
            return generator.integers(0, self.below, shape).astype(dtype)
        if self.kind == "zeros":
            return np.zeros(shape, dtype=dtype)
        drawn = generator.standard_normal(shape, dtype=np.float32)
        if self.kind == "positive":
            np.abs(drawn, out=drawn)
        drawn *= np.float32(self.scale)
        drawn += np.float32(self.mean)
        return drawn.astype(dtype, copy=False)


def check_task(metadata: Mapping[str, str], task: Task) -> None:
    """Refuse a step that would be timed as an inference, and the other way round.

    Raises:
        BackendError: `invalid_artifact`.
    """
    is_step = metadata.get(TASK_KEY) == TaskKind.TRAINING_STEP_GRAPH.value
    if is_step and task.kind is not TaskKind.TRAINING_STEP_GRAPH:
        raise _invalid(
            f"the graph is a whole training step, asked was {task.kind.value}: ask for "
            f"{TaskKind.TRAINING_STEP_GRAPH.value}, or send the inference graph"
        )
    if task.kind is TaskKind.TRAINING_STEP_GRAPH and not is_step:
        raise _invalid(
            f"expected a graph that is a whole training step (metadata {TASK_KEY}), got another: "
            "have it written by boardfront.latency_models.training_graph"
        )


def read_draws(metadata: Mapping[str, str]) -> dict[str, Draw]:
    """Read how every input is drawn.

    Raises:
        BackendError: `invalid_artifact`: the metadata are not as the writer writes them.
    """
    try:
        entries = json.loads(metadata.get(INPUTS_KEY, ""))
        draws = {str(name): _read_draw(entry) for name, entry in entries.items()}
        wrong = [name for name, draw in draws.items() if not _is_sound(draw)]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _invalid(
            f"metadata {INPUTS_KEY}: expected a JSON object with one entry an input ({error}): "
            "write the step again"
        ) from error
    if wrong:
        raise _invalid(
            f"metadata {INPUTS_KEY}, input {wrong[0][:80]!r}: expected one of {_KINDS} with "
            "numbers in range: write the step again"
        )
    return draws


def returned(inputs: Iterable[str], outputs: Iterable[str]) -> dict[str, str]:
    """Return output -> input for everything that a step gives to the next one."""
    known = set(inputs)
    return {
        name: name[len(_NEXT) :]
        for name in outputs
        if name.startswith(_NEXT) and name[len(_NEXT) :] in known
    }


def _read_draw(entry: dict[str, Any]) -> Draw:
    if not isinstance(entry.get("below", 1), int):
        raise TypeError("below: expected a whole number")
    return Draw(**entry)


def _is_sound(draw: Draw) -> bool:
    return (
        draw.kind in _KINDS
        and abs(draw.mean) < _LARGEST
        and 0 <= draw.scale < _LARGEST
        and 1 <= draw.below < _MOST_CLASSES
    )


def _invalid(message: str) -> BackendError:
    return BackendError(FailureKind.INVALID_ARTIFACT, message)
