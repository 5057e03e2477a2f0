"""A run as TensorBoard's event files, written by torch's own writer."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from boardfront.host.tracking.sink import Ending

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from boardfront.host.run_folder import RunFolder
    from boardfront.host.tracking.points import Point

_EXPERIMENT = "experiment"
_FRONT = "front"


class TensorBoardSink:
    """Implements `TrackingSink`.

    Args:
        logs: Folder of this run alone; TensorBoard shows its name.
        folder: The run's.
    """

    def __init__(self, logs: Path, folder: RunFolder) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._steps, texts = _read(logs)
        self._writer = SummaryWriter(str(logs))
        if not any(tag.startswith(_EXPERIMENT) for tag in texts):
            self._add_text(_EXPERIMENT, _code(folder.experiment.read_text(encoding="utf-8")))

    def known_steps(self) -> Mapping[str, int]:
        """Return what the event files hold; a torn last event is not among it."""
        return self._steps

    def write(self, points: Sequence[Point]) -> None:
        """Add scalars; they are in the file afterwards."""
        for point in points:
            self._writer.add_scalar(point.tag, point.value, point.step)
        self._writer.flush()

    def finish(self, folder: RunFolder, ending: Ending) -> None:
        """Add the front as a table."""
        if ending is Ending.COMPLETED and folder.front_csv.exists():
            with folder.front_csv.open(newline="", encoding="utf-8") as file:
                heading, *rows = list(csv.reader(file))
            lines = [heading, ["---"] * len(heading), *rows]
            self._add_text(_FRONT, "\n".join(f"| {' | '.join(line)} |" for line in lines))

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()

    def _add_text(self, tag: str, text: str) -> None:
        self._writer.add_text(tag, text)
        self._writer.flush()


def _read(logs: Path) -> tuple[dict[str, int], list[str]]:
    """Return the last step of each scalar, and the tags of texts."""
    if not logs.is_dir():
        return {}, []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # All of a series: a sample of it may lack the last.
    events = EventAccumulator(str(logs), size_guidance={"scalars": 0, "tensors": 1})
    events.Reload()
    tags = events.Tags()
    steps = {tag: max(e.step for e in events.Scalars(tag)) for tag in tags["scalars"]}
    return steps, list(tags["tensors"])


def _code(text: str) -> str:
    """Return text as Markdown shows it letter by letter."""
    return "\n".join(f"    {line}" for line in text.splitlines())
