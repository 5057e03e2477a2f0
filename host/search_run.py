"""One run from its experiment to its front: train, search, measure whole, write.

Everything that happens is in the journal before the run goes on; starting a run again replays
what stands there and goes on behind it.
"""

from __future__ import annotations

import contextlib
import errno
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, cast

import numpy as np

from boardfront.host import front as fronts
from boardfront.host import journal_records as records
from boardfront.host import text
from boardfront.host.control import JobCanceller, RunControl
from boardfront.host.earlier_times import EarlierTimes
from boardfront.host.estimator_part import Surroundings, prepare_estimator
from boardfront.host.finish import Finish
from boardfront.host.fleet.under_way import JobsUnderWay
from boardfront.host.journal import Journal, JournalError
from boardfront.host.search_part import RunEvaluator, RunObserver, known_candidates
from boardfront.host.table_part import load_tables
from boardfront.host.targets import Targets, TargetSurroundings
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.search.algorithms import catalog as algorithms
from boardfront.search.loop import Budget, search
from boardfront.search.reference import choose_reference
from boardfront.search.spaces import catalog as spaces

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.host.estimator_part import RunEstimator, SearchableSpace
    from boardfront.host.experiment import Experiment
    from boardfront.host.progress import RunProgress
    from boardfront.host.run_folder import RunFolder
    from boardfront.host.table_part import RunTable
    from boardfront.latency_models.store import MeasurementStore
    from boardfront.protos.records import DeviceDescription
    from boardfront.search.evaluation import Candidate, Latency

_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO})
_VERSIONED = ("boardfront", "numpy", "onnx", "pymoo", "torch")


class EmptyFrontError(BoardfrontError):
    """No candidate was scored that keeps every limit."""


class SearchRun:
    """A run in its folder.

    Args:
        folder: The run's.
        experiment: What to do.
        store: Where measurements are kept.
        progress: Shows where the run stands.
        priority: Of the run where others wait for its devices too; higher is served first.

    Raises:
        RunLockedError: If another process runs it.
        CorruptJournalError: If its journal is damaged other than by a torn last line.
    """

    def __init__(
        self,
        folder: RunFolder,
        experiment: Experiment,
        store: MeasurementStore,
        progress: RunProgress,
        *,
        priority: int = 0,
    ) -> None:
        self._priority = priority
        self._folder = folder
        self._experiment = experiment
        self._store = store
        self._progress = progress
        self._control = RunControl(folder, progress.say)
        self._journal = Journal(folder.journal)
        self._history = self._journal.content.records
        self._space = cast(
            "SearchableSpace", spaces.load(experiment.space.name, experiment.space.settings)
        )
        for record in self._history:
            if isinstance(record, records.RunStarted):
                self._check_same(record)
        self._references = {
            r.target: r for r in self._history if isinstance(r, records.ReferenceTimed)
        }
        try:
            self._tables = load_tables(experiment, self._space, progress.say)
        except BaseException:
            self._journal.close()
            raise

    def execute(self) -> fronts.FrontReport:
        """Run to the end, or go on to it, and return the front.

        Raises:
            KeyboardInterrupt: Stopped by the person; the run can be resumed.
            RunCancelledError: Stopped through its control folder.
            BoardfrontError: Something failed; what was done is kept and the run can be resumed.
        """
        self._journal.append(
            records.RunStarted(
                experiment_digest=self._experiment.digest(),
                seed=self._experiment.seed,
                time_unix_s=time.time(),
                versions=_versions(),
            )
        )
        under_way = JobsUnderWay()
        try:
            with JobCanceller(self._folder, under_way, self._progress.say):
                report = self._execute(under_way)
        except KeyboardInterrupt:
            self._interrupted("interrupted by the user")
            raise
        except BoardfrontError as error:
            self._interrupted(str(error))
            raise
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            failure = self._folder.unwritable(error)
            self._interrupted(str(failure))
            raise failure from error
        finally:
            self._forget_requests()
            self._journal.close()
        return report

    def _execute(self, under_way: JobsUnderWay) -> fronts.FrontReport:
        for table in self._tables.values():
            for line in table.told():
                self._progress.say(line)
        # Where all times are predicted, devices are looked at now and not before the finalists.
        between = len(self._tables) < len(self._experiment.targets)
        targets = self._connect(under_way)
        try:
            self._time_references(targets)
            if not between:
                targets.close()
            known = known_candidates(self._history)
            earlier = self._earlier(targets, known)
            earlier.put_right()
            observer = RunObserver(
                self._experiment, self._folder, self._journal, self._progress, known
            )
            prepared = prepare_estimator(
                self._space,
                self._experiment,
                Surroundings(
                    folder=self._folder,
                    journal=self._journal,
                    progress=self._progress,
                    on_candidate=observer.training,
                    epochs_done=self._epochs_done(),
                    obey=self._control.obey,
                ),
            )
            estimator = prepared.estimator
            self._journal.append(records.EstimatorReady(state_id=estimator.state_id))
            front = self._search(targets, estimator, known, observer, earlier)
            if not front:
                raise EmptyFrontError(
                    f"none of {len(observer.seen)} candidates was scored within the limits: "
                    f"expected at least one; see the failures in {self._folder.journal}"
                )
            if not between:
                targets = self._connect(under_way)
                self._time_references(targets)
            report = Finish(
                folder=self._folder,
                experiment=self._experiment,
                space=self._space,
                store=self._store,
                journal=self._journal,
                progress=self._progress,
                tables=self._tables,
                obey=self._control.obey,
            ).run(targets, prepared, front, observer.seen)
        except KeyboardInterrupt:
            targets.close(cancel=True)
            raise
        finally:
            targets.close()
        self._journal.append(
            records.RunFinished(status=records.RunStatus.COMPLETED, time_unix_s=time.time())
        )
        return report

    def _connect(self, under_way: JobsUnderWay) -> Targets:
        return Targets(
            self._experiment.targets,
            self._space,
            TargetSurroundings(
                store=self._store,
                job_seed=self._folder.job_seed,
                run=self._folder.path.name,
                priority=self._priority,
                say=self._progress.say,
                on_remeasured=self._remeasured,
                ledger=self._folder.ledger,
                under_way=under_way,
                check=self._check_device,
            ),
        )

    def _earlier(self, targets: Targets, known: Mapping[str, Candidate]) -> EarlierTimes:
        return EarlierTimes(
            targets.by_name,
            self._store,
            known.values(),
            say=self._progress.say,
            on_remeasured=self._remeasured,
        )

    def _remeasured(self, target: str, encoding: str, latency: Latency) -> None:
        self._journal.append(records.Remeasured(target=target, encoding=encoding, latency=latency))

    def _check_device(self, target: str, description: DeviceDescription) -> None:
        """Refuse a device that is not the table's, or mark what comes of it."""
        if target in self._tables:
            for mark in self._tables[target].check_device(description):
                self._progress.say(f"{target}: forced: {mark}")

    def _time_references(self, targets: Targets) -> None:
        """Measure each target's reference alone, or take what an earlier part of the run found.

        Where a target has none, one network is measured all the same: whatever cannot work shall
        fail before hours of training. Where times are predicted it is the table's base, so that
        the table's level and the one of now can be compared.
        """
        rng = np.random.default_rng([self._experiment.seed, 1])
        middling = choose_reference(self._space, rng)
        for name, target in targets.by_name.items():
            wanted, table = target.settings.reference, self._tables.get(name)
            if name not in self._references:
                own = table.reference if table is not None and table.reference else middling
                encoding = own if wanted in {"space", "none"} else wanted
                self._references[name] = self._time_reference(targets, name, encoding)
            timed = self._references[name]
            if table is not None:
                self._compare_with_table(table, timed)
            target.source.corrections.update(
                (r.encoding, r.latency)
                for r in self._history
                if isinstance(r, records.Remeasured) and r.target == name
            )
            if wanted != "none":
                targets.divide_by(name, timed.encoding, timed.latency.median_s)

    def _time_reference(
        self, targets: Targets, name: str, encoding: str
    ) -> records.ReferenceTimed:
        latency = targets.time_alone(name, encoding)
        timed = records.ReferenceTimed(target=name, encoding=encoding, latency=latency)
        self._progress.say(_about_reference(timed))
        self._journal.append(timed)
        return timed

    def _compare_with_table(self, table: RunTable, timed: records.ReferenceTimed) -> None:
        """Refuse or mark what the measured reference shows to differ from the table."""
        number = timed.latency.measurement_id
        for measurement in self._store.get([] if number is None else [number]):
            if measurement.result is None:
                continue
            for mark in table.check_measured(measurement.result.target):
                self._progress.say(f"{timed.target}: forced: {mark}")
        told = table.note_reference(timed.encoding, timed.latency.median_s)
        if told:
            self._progress.say(told)

    def _search(
        self,
        targets: Targets,
        estimator: RunEstimator,
        known: Mapping[str, Candidate],
        observer: RunObserver,
        earlier: EarlierTimes,
    ) -> tuple[Candidate, ...]:
        settings = self._experiment.search
        algorithm = algorithms.load(settings.algorithm)(
            self._space,
            objectives=len(self._experiment.objectives),
            seed=self._experiment.seed,
            population=settings.population,
            crossover_probability=settings.crossover_probability,
            mutation_probability=settings.mutation_probability,
        )
        evaluator = RunEvaluator(
            estimator,
            {
                name: self._tables[name].source if name in self._tables else target.source
                for name, target in targets.by_name.items()
            },
            known,
            earlier.put_right,
        )
        self._progress.phase(
            "search", settings.evaluations, done=min(len(known), settings.evaluations)
        )
        return search(
            algorithm,
            evaluator,
            self._experiment.objectives,
            Budget(evaluations=settings.evaluations),
            observer,
        )

    def _epochs_done(self) -> int:
        done = [r.epoch for r in self._history if isinstance(r, records.TrainingProgress)]
        return max(done, default=0)

    def _check_same(self, record: records.RunStarted) -> None:
        if record.experiment_digest != self._experiment.digest():
            self._journal.close()
            raise WrongInputError(
                f"{self._folder.experiment} was changed since the run began: put it back, or "
                "start a new run with it"
            )

    def _forget_requests(self) -> None:
        """Take away what came too late: the next part of the run shall not obey it."""
        late = self._folder.forget_requests()
        if late:
            self._progress.say(f"asked too late, not obeyed: {', '.join(late)}")

    def _interrupted(self, reason: str) -> None:
        # Where the disk is full this may fail too, and why the run ended is what counts.
        with contextlib.suppress(JournalError):
            self._journal.append(records.Interrupted(reason=reason, time_unix_s=time.time()))


def _about_reference(timed: records.ReferenceTimed) -> str:
    latency = timed.latency
    return (
        f"{timed.target}: {timed.encoding} alone takes {text.format_time(latency.median_s)} "
        f"(95 % interval {text.format_interval(latency.low_s, latency.high_s)}, "
        f"{latency.word})"
    )


def _versions() -> dict[str, str]:
    return {name: _version(name) for name in _VERSIONED}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
