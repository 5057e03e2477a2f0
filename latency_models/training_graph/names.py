"""Names of a step's inputs and outputs, and what its metadata says of the inputs.

The agent's backend reads the same names; it imports nothing from here.
"""

from __future__ import annotations

TASK_KEY = "boardfront.task"
INPUTS_KEY = "boardfront.inputs"

LABELS = "labels"
LOSS = "loss"

_NEXT = "next/"
_MOMENTUM = "momentum/"


def next_name(name: str) -> str:
    """Name the output that holds an input's value after the step."""
    return f"{_NEXT}{name}"


def momentum_name(parameter: str) -> str:
    """Name the momentum buffer of a parameter."""
    return f"{_MOMENTUM}{parameter}"
