"""The curves of a training: the loss, and the accuracy where it was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.host.tui.canvas import Canvas
from boardfront.host.tui.frame import BELOW, LEFT, Frame
from boardfront.host.tui.scale import Scale, fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host.journal_records import TrainingProgress

_LOSS = ("•", "$primary")
_ACCURACY = ("+", "$success")


def draw(epochs: Sequence[TrainingProgress], *, width: int, height: int) -> Canvas:
    """Draw what the epochs say; below each other where both loss and accuracy are known."""
    canvas = Canvas(width, height)
    if not epochs:
        canvas.put(2, height // 2, "no epoch has ended yet", "$text-muted")
        return canvas
    total = max(epochs[-1].epochs, 2)
    accuracies = [
        (one.epoch, one.validation_accuracy * 100)
        for one in epochs
        if one.validation_accuracy is not None
    ]
    losses = [(one.epoch, one.loss) for one in epochs]
    if accuracies and height >= 16:
        half = height // 2
        _curve(canvas, losses, total, top=0, rows=half, name="loss", look=_LOSS)
        _curve(
            canvas,
            accuracies,
            total,
            top=half,
            rows=height - half,
            name="accuracy of a random path, %",
            look=_ACCURACY,
        )
        return canvas
    _curve(canvas, losses, total, top=0, rows=height, name="loss", look=_LOSS)
    if accuracies:
        epoch, accuracy = accuracies[-1]
        canvas.put(8, 0, f"a random path is right on {accuracy:.1f} % after epoch {epoch}")
    return canvas


def _curve(  # noqa: PLR0913 - a place on a canvas takes this many numbers
    canvas: Canvas,
    points: Sequence[tuple[int, float]],
    total: int,
    *,
    top: int,
    rows: int,
    name: str,
    look: tuple[str, str],
) -> None:
    frame = Frame(
        x=Scale(low=1, high=total, cells=max(1, canvas.width - LEFT - 1)),
        y=fit([value for _, value in points], max(1, rows - BELOW - 1)),
        top=top + 1,
    )
    frame.draw(canvas, "epoch")
    for epoch, value in points:
        cell = frame.cell(epoch, value)
        if cell is not None:
            canvas.put(*cell, *look)
    canvas.put(0, top, f"{look[0]} {name}", look[1])
