"""An agent on a device whose speed a test sets."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import Wire, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boardfront.device_agent.agent import Agent


@dataclass(frozen=True)
class LeveledDevice:
    """A running agent with the backend `level`."""

    agent: Agent
    wire: Wire
    file: Path

    def set(self, level: float, *, noise: float = 0.001) -> None:
        """Multiply all times of later jobs by `level`; noise is a run's relative deviation."""
        self.file.write_text(json.dumps({"level": level, "noise": noise}))


@contextlib.contextmanager
def leveled_agent(folder: Path) -> Iterator[LeveledDevice]:
    """Run an agent on whose machine the backend is installed, as pip would."""
    site = folder / "site"
    metadata = site / "boardfront_level-1.dist-info"
    metadata.mkdir(parents=True)
    source = Path(__file__).with_name("level_backend.py")
    (site / "boardfront_level.py").write_text(source.read_text())
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: boardfront-level\nVersion: 1\n"
    )
    (metadata / "entry_points.txt").write_text(
        "[boardfront.backends]\nlevel = boardfront_level:LevelBackend\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.setenv("PYTHONPATH", str(site))
        patch.setenv("LEVEL_FILE", str(folder / "level.json"))
        with serving(folder / "agent") as (agent, wire):
            device = LeveledDevice(agent=agent, wire=wire, file=folder / "level.json")
            device.set(1.0)
            yield device
