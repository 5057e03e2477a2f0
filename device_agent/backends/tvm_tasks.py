"""The tuning database: fused tasks, how often networks have them, and the best schedules found.

One folder a target. Every fact is a small file that appears whole or not at all, so a process may
die at any moment: what was written stays, and nothing else is there. One agent owns the folder.

    tasks/HASH.json      the task itself, as MetaSchedule writes workloads
    networks/NAME.json   how often a network has each of its tasks
    schedules/HASH.json  the trials so far and their best records
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

UNTUNED = "untuned"
"""Tuning of a network none of whose tasks has a schedule."""

KEPT_RECORDS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedTask:
    """What tuning found out about a task so far.

    Args:
        trials: Candidates that were built and timed, those that failed included.
        finished: Whether all trials of a task were spent; then it is not tuned again.
        best_s: Time of the best schedule in seconds a call; None where none worked.
        records: The best records, best first, as MetaSchedule writes them.
    """

    trials: int
    finished: bool
    best_s: float | None
    records: tuple[Any, ...]


class TaskDatabase:
    """Tasks of one target under `folder`, which need not exist yet.

    Tasks are named by MetaSchedule's structural hash: networks that share a fused task share its
    schedule.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, network: str, tasks: Mapping[str, tuple[Any, int]]) -> None:
        """Remember a network's tasks.

        Args:
            network: Names its structure; noted again it counts once.
            tasks: By hash: the workload as MetaSchedule writes it, and how often it is called.
        """
        for name, (workload, _) in tasks.items():
            path = self._folder / "tasks" / f"{name}.json"
            if not path.exists():
                _write(path, workload)
        counts = {name: count for name, (_, count) in tasks.items()}
        _write(self._folder / "networks" / f"{network}.json", counts)

    def workload(self, task: str) -> Any:
        """Return a task as MetaSchedule wrote it; None if it was never noted."""
        return _read(self._folder / "tasks" / f"{task}.json")

    def tuned(self, task: str) -> TunedTask | None:
        """Return what is known of a task's schedules, finished or not."""
        found = _read(self._folder / "schedules" / f"{task}.json")
        if found is None:
            return None
        return TunedTask(**{**found, "records": tuple(found["records"])})

    def keep(self, task: str, tuned: TunedTask) -> None:
        """Replace what is known of a task."""
        _write(self._folder / "schedules" / f"{task}.json", asdict(tuned))

    def counts(self) -> Counter[str]:
        """Return how often each task is called in all the networks noted, once each."""
        total: Counter[str] = Counter()
        for path in (self._folder / "networks").glob("*.json"):
            total.update(_read(path) or {})
        return total

    def pending(self, first: Collection[str] = ()) -> list[str]:
        """Return the tasks that are not finished, most frequent first.

        Args:
            first: Come before all others: a network's own, where it is that one which matters.
        """
        counts = self.counts()
        ranked = sorted(counts, key=lambda task: (task not in first, -counts[task], task))
        return [task for task in ranked if not _is_finished(self.tuned(task))]

    def digest(self, tasks: Iterable[str]) -> tuple[str, float]:
        """Return what names the schedules that `tasks` have, and what share of them has one."""
        names = sorted(set(tasks))
        best = {name: tuned.records[0] for name in names if (tuned := self._usable(name))}
        if not best:
            return UNTUNED, 0.0
        text = json.dumps(sorted(best.items()), sort_keys=True).encode()
        return f"metaschedule-{hashlib.sha256(text).hexdigest()[:16]}", len(best) / len(names)

    def best(self, tasks: Iterable[str]) -> dict[str, tuple[Any, Any]]:
        """Return (workload, best record) of those of `tasks` that have one."""
        return {
            name: (self.workload(name), tuned.records[0])
            for name in sorted(set(tasks))
            if (tuned := self._usable(name))
        }

    def _usable(self, task: str) -> TunedTask | None:
        tuned = self.tuned(task)
        return tuned if tuned is not None and tuned.records else None


def _is_finished(tuned: TunedTask | None) -> bool:
    return tuned is not None and tuned.finished


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".part{os.getpid()}")
    with part.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        # A disk that lost power may leave an empty file: as good as none.
        return None
