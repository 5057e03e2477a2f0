"""`boardfront runs`: how each run stands, whatever became of its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.host.tui import sample

from boardfront.host.commands.runs import summarise
from boardfront.host.journal import Journal
from boardfront.host.run_folder import list_runs
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_completed_run_that_is_resumed_is_running(tmp_path: Path) -> None:
    made = sample.make(tmp_path, ended=True)
    assert summarise(made).state == "completed"
    with Journal(made.journal):
        assert summarise(made).state == "running"
    assert summarise(made).state == "completed"


def test_a_run_that_lost_its_file_is_the_oldest(tmp_path: Path) -> None:
    made = [sample.make(tmp_path, candidates=2) for _ in range(2)]
    made[1].about.unlink()
    assert [one.path for one in list_runs(tmp_path / "runs")] == [one.path for one in made]
    assert summarise(made[1]).state == "interrupted"
    with pytest.raises(WrongInputError, match="put the file back from a copy"):
        _ = made[1].job_seed
