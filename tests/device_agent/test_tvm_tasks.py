"""The tuning database: shared tasks, most frequent first, and nothing lost to a sudden death."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boardfront.device_agent.backends.tvm_tasks import UNTUNED, TaskDatabase, TunedTask

if TYPE_CHECKING:
    from pathlib import Path


def _tuned(*, finished: bool = True, records: tuple[object, ...] = (["trace"],)) -> TunedTask:
    return TunedTask(
        trials=64 if finished else 16,
        finished=finished,
        best_s=1e-4 if records else None,
        records=records,
    )


@pytest.fixture
def database(tmp_path: Path) -> TaskDatabase:
    """Two networks: "b" is called five times in all, "a" and "c" twice."""
    found = TaskDatabase(tmp_path / "target")
    found.note("first", {"a": (["A"], 2), "b": (["B"], 1)})
    found.note("second", {"b": (["B"], 4), "c": (["C"], 2)})
    return found


def test_the_most_frequent_task_comes_first(database: TaskDatabase) -> None:
    assert database.counts() == {"a": 2, "b": 5, "c": 2}
    assert database.pending() == ["b", "a", "c"]
    assert database.pending(first=("c", "a")) == ["a", "c", "b"]


def test_a_network_counts_once(database: TaskDatabase) -> None:
    database.note("first", {"a": (["A"], 2), "b": (["B"], 1)})
    assert database.counts() == {"a": 2, "b": 5, "c": 2}


def test_what_is_finished_is_not_tuned_again(database: TaskDatabase, tmp_path: Path) -> None:
    database.keep("b", _tuned())
    database.keep("a", _tuned(finished=False))
    again = TaskDatabase(tmp_path / "target")
    assert again.pending() == ["a", "c"]
    assert again.tuned("b") == _tuned()
    assert again.workload("b") == ["B"]


def test_a_task_that_no_schedule_worked_for_is_finished_but_not_tuned(
    database: TaskDatabase,
) -> None:
    database.keep("a", _tuned(records=()))
    assert database.pending() == ["b", "c"]
    assert database.digest(["a", "b"]) == (UNTUNED, 0.0)
    assert database.best(["a", "b"]) == {}


def test_the_digest_names_what_a_network_runs_with(database: TaskDatabase) -> None:
    assert database.digest(["a", "b"]) == (UNTUNED, 0.0)
    database.keep("b", _tuned())
    half, share = database.digest(["a", "b"])
    assert half != UNTUNED
    assert share == 0.5
    database.keep("c", _tuned())
    assert database.digest(["a", "b"]) == (half, 0.5)
    database.keep("a", _tuned())
    whole, share = database.digest(["b", "a"])
    assert share == 1.0
    database.keep("a", _tuned(records=(["better"], ["trace"])))
    better, _ = database.digest(["a", "b"])
    assert len({half, whole, better}) == 3
    assert database.best(["a", "b"]) == {"a": (["A"], ["better"]), "b": (["B"], ["trace"])}


def test_a_death_while_writing_leaves_what_was_there(
    database: TaskDatabase, tmp_path: Path
) -> None:
    database.keep("b", _tuned())
    schedules = tmp_path / "target" / "schedules"
    (schedules / "b.part4711").write_text('{"trials": 6')
    (schedules / "a.json").write_text("")
    (tmp_path / "target" / "networks" / "third.json").write_text('{"a": ')
    assert database.tuned("b") == _tuned()
    assert database.tuned("a") is None
    assert database.pending() == ["a", "c"]
