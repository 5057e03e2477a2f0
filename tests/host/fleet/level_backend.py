"""A third party's backend whose level a test moves: the fake's times, times what a file says.

`leveled_agent` copies this file into a folder as an installed distribution. The file that the
environment's LEVEL_FILE names holds `{"level": 1.0, "noise": 0.001}`, read as a job loads.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from boardfront.device_agent.backends.fake import INFO, FakeBackend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.protos.records import BackendInfo, Task


class LevelBackend(FakeBackend):
    """The fake backend on a device that changes its speed."""

    @classmethod
    @override
    def probe(cls) -> BackendInfo:
        return dataclasses.replace(INFO, name="level")

    @override
    def load(self, artifact: Path, task: Task, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().load(artifact, task, shapes)
        now = json.loads(Path(os.environ["LEVEL_FILE"]).read_text())
        self._time_s *= now["level"]
        self._options["noise"] = str(now["noise"])
