"""What a tracker takes, and which of them a person asked for."""

from __future__ import annotations

import enum
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boardfront.host.run_folder import RunFolder
    from boardfront.host.tracking.points import Point


class Ending(enum.Enum):
    """How a run, or a part of it, ended."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    """It can be resumed."""
    FAILED = "failed"


class TrackingSink(Protocol):
    """A tracker's own client, opened for one run.

    Guarantees: what was written before stays, also by an earlier process; what `write` returned
    from is with the tracker. Every method may raise whatever the client raises.
    """

    def known_steps(self) -> Mapping[str, int]:
        """Return the last step of each series that the tracker has of this run."""

    def write(self, points: Sequence[Point]) -> None:
        """Add points."""

    def finish(self, folder: RunFolder, ending: Ending) -> None:
        """Tell how the run ended, with its results if it reached its end."""

    def close(self) -> None:
        """Let go of files and connections."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingChoice:
    """Where a run is told.

    Args:
        tensorboard: Folder of event files; None for none.
        mlflow: URI of a tracking server, a database, or a folder; empty for none.
    """

    tensorboard: Path | None = None
    mlflow: str = ""

    def __bool__(self) -> bool:
        return self.tensorboard is not None or bool(self.mlflow)

    def check_installed(self) -> None:
        """Say what is missing before anything begins.

        Raises:
            WrongInputError: If a client that was asked for is not installed.
        """
        if self.tensorboard is not None:
            _require("tensorboard", f"--tensorboard {self.tensorboard}")
        if self.mlflow:
            _require("mlflow", f"--mlflow {self.mlflow}")


def _require(module: str, option: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise WrongInputError(
            f"{option}: expected the library {module}, which is not installed: "
            f"pip install 'boardfront[{module}]'"
        )


def open_tensorboard(folder: RunFolder, choice: TrackingChoice) -> TrackingSink:
    """Open a run in a folder of event files."""
    from boardfront.host.tracking.tensorboard import TensorBoardSink

    return TensorBoardSink((choice.tensorboard or Path()) / folder.path.name, folder)


def open_mlflow(folder: RunFolder, choice: TrackingChoice) -> TrackingSink:
    """Open a run with an MLflow server, database or folder."""
    from boardfront.host.tracking.mlflow import MlflowSink

    return MlflowSink(choice.mlflow, folder)
