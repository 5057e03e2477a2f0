"""Which shapes a network's inputs get when its graph leaves some dimensions open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.device_agent.backends.base import BackendError
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Shape = tuple[int, ...]
    OpenShape = Sequence[int | None]


def resolve_shapes(
    inputs: Mapping[str, OpenShape], asked: Mapping[str, Shape], batch: int
) -> dict[str, Shape]:
    """Return the shape of every input.

    Args:
        inputs: What the graph says, None for an open dimension.
        asked: Shapes that were given for some of them.
        batch: Of the task; takes the place of an open first dimension. A graph that fixes
            another one is refused: its time would be kept under the wrong batch.

    Raises:
        BackendError: `invalid_artifact`, naming the input, what is there and how to go on.
    """
    unknown = sorted(set(asked) - set(inputs))
    if unknown:
        raise _invalid(f"no input is called {unknown[0]!r}: expected one of {sorted(inputs)}")
    return {
        name: _matching(name, asked[name], shape)
        if name in asked
        else _completed(name, shape, batch)
        for name, shape in inputs.items()
    }


def _completed(name: str, shape: OpenShape, batch: int) -> Shape:
    whole = list(shape)
    if whole and whole[0] is None:
        whole[0] = batch
    if any(size is None for size in whole):
        text = _text(whole)
        raise _invalid(
            f"input {name!r} has dynamic dimensions {text}: "
            f"give them by --shape {name}={text.replace('?', 'N')}"
        )
    if whole and whole[0] != batch:
        raise _invalid(
            f"input {name!r} is fixed to a batch of {whole[0]}, the task asks for {batch}: "
            "write the network for that batch"
        )
    return tuple(size for size in whole if size is not None)


def _matching(name: str, asked: Shape, shape: OpenShape) -> Shape:
    fits = len(asked) == len(shape) and all(
        there is None or there == size for there, size in zip(shape, asked, strict=True)
    )
    if not fits:
        raise _invalid(
            f"shape {_text(asked)} does not fit input {name!r}: the model has {_text(shape)}"
        )
    return asked


def _text(shape: OpenShape) -> str:
    return "x".join("?" if size is None else str(size) for size in shape)


def _invalid(message: str) -> BackendError:
    return BackendError(FailureKind.INVALID_ARTIFACT, message)
