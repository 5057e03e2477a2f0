"""What several commands' options mean, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.host.commands.space import parse_settings
from boardfront.host.models import parse_shape
from boardfront.host.networks import NetworkChoice, TaskChoice
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Deadlines, Precision, TaskKind

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}


def one_network(
    model: str | None, space: str, encoding: str, settings: Sequence[str]
) -> NetworkChoice:
    """Return the one network that was named.

    Raises:
        WrongInputError: If it was none, two, or half of one.
    """
    if model is not None and (space or encoding):
        raise WrongInputError(
            f"got the file {model} and --space {space!r}: expected one of them, or `boardfront "
            "compare` for two"
        )
    if model is not None:
        return NetworkChoice(text=model)
    if not (space and encoding):
        raise WrongInputError(
            "no network was named: expected an ONNX file, or --space and --encoding"
        )
    return NetworkChoice(text=encoding, space=space, settings=parse_settings(settings))


def task_choice(
    kind: str, *, batch: int, frozen_stages: int, shapes: Sequence[str], with_weights: bool
) -> TaskChoice:
    """Return what shall be timed.

    Raises:
        WrongInputError: If there is no such task.
    """
    known = {one.value: one for one in TaskKind}
    if kind not in known:
        raise WrongInputError(f"--task {kind!r}: expected one of {', '.join(known)}")
    return TaskChoice(
        kind=known[kind],
        batch=batch,
        frozen_stages=frozen_stages,
        shapes=dict(parse_shape(text) for text in shapes),
        with_weights=with_weights,
    )


def precision(relative_half_width: float, min_duration_s: float) -> Precision:
    """Return when a look may stop."""
    return Precision(relative_half_width=relative_half_width, min_duration_s=min_duration_s)


def deadlines(min_duration_s: float, run_s: float, compile_s: float) -> Deadlines:
    """Return how long each phase may take.

    Raises:
        WrongInputError: If the look is longer than it may take.
    """
    if run_s < min_duration_s:
        raise WrongInputError(
            f"--deadline {run_s:g} is shorter than --duration {min_duration_s:g}: "
            "expected at least as long"
        )
    return Deadlines(run_s=run_s, compile_s=compile_s)


def parse_budget(text: str) -> float:
    """Return the seconds of `minutes=10`; 0 for an empty text.

    Raises:
        WrongInputError: If the text has another form.
    """
    if not text:
        return 0.0
    unit, _, number = text.partition("=")
    try:
        amount = float(number)
    except ValueError:
        amount = 0.0
    if unit not in _SECONDS or not 0 < amount < float("inf"):
        raise WrongInputError(
            f"--tune {text!r}: expected minutes=10, or seconds or hours with a positive number"
        )
    return amount * _SECONDS[unit]
