"""A run goes on with the measurements that it began with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from boardfront.host.run_folder import RunFolder
from boardfront.host.run_store import recorded, store_of_run
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from pathlib import Path


def _run(folder: Path, store: str | None) -> RunFolder:
    made = RunFolder(folder)
    about = {"job_seed": "s", **({} if store is None else {"store": store})}
    made.about.write_text(json.dumps(about))
    return made


def test_a_person_who_says_nothing_gets_the_runs_store(tmp_path: Path) -> None:
    kept, default = tmp_path / "lab.db", str(tmp_path / "default.db")
    kept.touch()
    run = _run(tmp_path, recorded(kept))
    assert store_of_run(run, default, default) == str(kept.resolve())
    assert store_of_run(run, kept, default) == kept


def test_another_store_is_refused_while_the_runs_is_there(tmp_path: Path) -> None:
    kept, other = tmp_path / "lab.db", tmp_path / "other.db"
    kept.touch()
    run = _run(tmp_path, recorded(kept))
    with pytest.raises(WrongInputError, match=r"are in .*lab\.db, got the store .*other\.db"):
        store_of_run(run, other, "default.db")
    # It was moved: nobody but the person knows where to.
    kept.rename(other)
    assert store_of_run(run, other, "default.db") == other


def test_a_server_is_known_by_its_name_and_a_password_is_asked_for(tmp_path: Path) -> None:
    url = "postgresql://anna:secret@lab/board"
    run = _run(tmp_path, recorded(url))
    assert "secret" not in run.about.read_text()
    assert store_of_run(run, url, "default.db") == url
    with pytest.raises(WrongInputError, match=r"anna:\*\*\*@lab"):
        store_of_run(run, "default.db", "default.db")
    without = _run(tmp_path, recorded("postgresql://lab/board"))
    assert store_of_run(without, "default.db", "default.db") == "postgresql://lab/board"


def test_a_run_of_before_goes_on_as_it_was(tmp_path: Path) -> None:
    assert store_of_run(_run(tmp_path, None), "here.db", "default.db") == "here.db"
