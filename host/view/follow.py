"""Follow a run by its folder: nothing is locked or written, and nothing is read twice.

Works on a run that goes on, that ended, that has not begun, and on a folder that another machine
writes.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from boardfront.host import journal_records as records
from boardfront.host.config import recall_experiment
from boardfront.host.control import pause_mark
from boardfront.host.journal import is_written, lock_path
from boardfront.host.run_lock import is_held_elsewhere
from boardfront.host.view import phases
from boardfront.host.view.journal_tail import JournalTail
from boardfront.host.view.last_lines import LastLines
from boardfront.host.view.run_history import RunHistory
from boardfront.host.view.run_view import PhaseView, RunState, RunView
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from boardfront.host.experiment import Experiment
    from boardfront.host.run_folder import RunFolder

SILENT_S = 900.0
"""A run of another machine, whose lock is not seen, counts as going on for so long without any
sign of life."""

_ENDED = {
    records.RunStatus.COMPLETED: RunState.COMPLETED,
    records.RunStatus.CANCELLED: RunState.CANCELLED,
    records.RunStatus.FAILED: RunState.FAILED,
}
_NOT_BEGUN = "the run has not begun"
_NO_WORD = "it ended without a word: the process was killed, or the machine went down"


def read_run(folder: RunFolder) -> RunView:
    """Look at a run once.

    Raises:
        WrongInputError: Its experiment file or its journal cannot be read.
    """
    return RunFollower(folder).poll()


def _written_unix_s(path: Path) -> float | None:
    """Return when a file was written last; None: it is gone, or was never there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


class RunFollower:
    """Looks at a run again and again. For one thread.

    Args:
        folder: The run's; it need not be there yet.
        clock: Unix time, seconds.
    """

    def __init__(self, folder: RunFolder, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._tail = JournalTail(folder.journal)
        self._log = LastLines(folder.log)
        self._experiment: Experiment | None = None
        self._experiment_text = ""
        self._told = RunHistory()

    def poll(self) -> RunView:
        """Read what came since the last look, and return all that is known.

        Raises:
            WrongInputError: The experiment file or the journal cannot be read; looking again
                may help.
        """
        experiment = self._experiment or self._find_experiment()
        if experiment is None:
            return RunView(
                name=self._folder.path.name,
                folder=self._folder.path,
                state=RunState.INTERRUPTED,
                reason=_NOT_BEGUN,
            )
        self._read(experiment)
        is_running = is_written(self._folder.journal)
        if not is_running:
            self._read(experiment)  # what it wrote between, before it ended
            is_running = self._runs_elsewhere()
        return self._view(experiment, is_running=is_running)

    def _find_experiment(self) -> Experiment | None:
        path = self._folder.experiment
        try:
            self._experiment_text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise WrongInputError(
                f"{path}: expected a run's experiment, got {problem.strerror}: check the run's "
                "folder, or the share that it is on"
            ) from problem
        self._experiment = recall_experiment(self._experiment_text, file=str(path))
        self._told = RunHistory(self._experiment.objectives)
        return self._experiment

    def _read(self, experiment: Experiment) -> None:
        news, is_anew = self._tail.read()
        if is_anew:
            self._told = RunHistory(experiment.objectives)
        for record in news:
            self._told.add(record)
        if news:
            self._told.heard_unix_s = _written_unix_s(self._folder.journal)

    def _runs_elsewhere(self) -> bool:
        """Return whether another machine runs it, as far as its files tell.

        The journal alone does not: for a pause, a long epoch or one target's finalists it is
        silent, while the lock file's time goes on.
        """
        folder = self._folder
        lock = lock_path(folder.journal)
        if self._told.heard_unix_s is None or not is_held_elsewhere(lock):
            return False
        signs = (lock, folder.journal, folder.log, folder.ledger)
        signs_unix_s = [at for sign in signs if (at := _written_unix_s(sign)) is not None]
        return bool(signs_unix_s) and self._clock() - max(signs_unix_s) < SILENT_S

    def _view(self, experiment: Experiment, *, is_running: bool) -> RunView:
        told = self._told
        candidates = told.front.candidates()
        state, reason = self._state(is_running=is_running)
        phase = self._phase(experiment)
        if state not in {RunState.RUNNING, RunState.PAUSED}:
            phase = PhaseView() if told.finished else replace(phase, left_s=None)
        return RunView(
            name=self._folder.path.name,
            folder=self._folder.path,
            state=state,
            phase=phase,
            reason=reason,
            started_unix_s=told.started_unix_s,
            ended_unix_s=None if is_running and not told.finished else told.ended_unix_s,
            seed=experiment.seed,
            versions=told.versions,
            experiment_text=self._experiment_text,
            objectives=experiment.objectives,
            targets=experiment.targets,
            evaluations=experiment.search.evaluations,
            training=tuple(told.training.values()),
            references=dict(told.references),
            candidates=candidates,
            generations=tuple(told.generations.values()),
            finalists=tuple(told.finalists.values()),
            remeasured=tuple(told.remeasured),
            interruptions=tuple(told.interruptions),
            events=tuple(told.events),
            heard_unix_s=told.heard_unix_s,
            said=self._log.read(),
        )

    def _state(self, *, is_running: bool) -> tuple[RunState, str]:
        told = self._told
        if told.finished is not None:
            return _ENDED[told.finished.status], told.finished.message
        if told.interrupted is not None:
            return RunState.INTERRUPTED, told.interrupted.reason
        if not is_running:
            return (
                RunState.INTERRUPTED,
                _NO_WORD if told.started_unix_s else _NOT_BEGUN,
            )
        is_paused = pause_mark(self._folder).exists()
        return (RunState.PAUSED if is_paused else RunState.RUNNING), ""

    def _phase(self, experiment: Experiment) -> PhaseView:
        told = self._told
        heard_s = told.heard_unix_s
        waited_s = 0.0 if heard_s is None else self._clock() - heard_s
        done = len(told.front)
        if told.measured_whole or done >= experiment.search.evaluations:
            return self._finalists(experiment, waited_s)
        if told.is_searching:
            return phases.search_phase(experiment, done, tuple(told.recent_s), waited_s)
        is_timed = len(told.references) >= len(experiment.targets)
        if experiment.supernet is not None and (told.training or is_timed):
            return phases.training_phase(experiment, tuple(told.training.values()), waited_s)
        return phases.references_phase(experiment, len(told.references))

    def _finalists(self, experiment: Experiment, waited_s: float) -> PhaseView:
        told = self._told
        done = told.measured_whole
        since_s, heard_s = told.whole_since_unix_s, told.heard_unix_s
        if not done:
            # The journal is silent until a target is done, so its last word is the beginning.
            told.whole_since_unix_s = heard_s
        finalist_s = phases.expected_finalist_s(experiment, tuple(told.recent_s))
        if done and since_s is not None and heard_s is not None:
            finalist_s = (heard_s - since_s) / done
        size = told.front.front_size
        return phases.finalists_phase(experiment, done, size, finalist_s, waited_s)
