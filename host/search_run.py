"""One run from its experiment to its front: train, search, measure whole, write.

Everything that happens is in the journal before the run goes on; starting a run again replays
what stands there and goes on behind it.
"""

from __future__ import annotations

import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, cast

import numpy as np

from boardfront.host import front as fronts
from boardfront.host import journal_records as records
from boardfront.host import text
from boardfront.host.estimator_part import Surroundings, prepare_estimator
from boardfront.host.finalists import RoundPlan, WholeTime, measure_whole, write_deployable
from boardfront.host.journal import Journal
from boardfront.host.search_part import RunEvaluator, RunObserver, known_candidates
from boardfront.host.shipping import Shipment
from boardfront.host.targets import Targets, TargetSurroundings, finalist_rule
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.search.algorithms import catalog as algorithms
from boardfront.search.loop import Budget, search
from boardfront.search.objective import ObjectiveKind
from boardfront.search.reference import choose_reference
from boardfront.search.spaces import catalog as spaces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from boardfront.host.estimator_part import PreparedEstimator, RunEstimator, SearchableSpace
    from boardfront.host.experiment import Experiment
    from boardfront.host.progress import RunProgress
    from boardfront.host.run_folder import RunFolder
    from boardfront.latency_models.store import MeasurementStore
    from boardfront.search.evaluation import Candidate
    from boardfront.search.objective import Objective

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
        self._journal = Journal(folder.journal)
        self._history = self._journal.content.records
        self._space = cast(
            "SearchableSpace", spaces.load(experiment.space.name, experiment.space.settings)
        )
        for record in self._history:
            if isinstance(record, records.RunStarted):
                self._check_same(record)

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
        try:
            report = self._execute()
        except KeyboardInterrupt:
            self._interrupted("interrupted by the user")
            raise
        except BoardfrontError as error:
            self._interrupted(str(error))
            raise
        finally:
            self._journal.close()
        return report

    def _execute(self) -> fronts.FrontReport:
        targets = Targets(
            self._experiment.targets,
            self._space,
            TargetSurroundings(
                store=self._store,
                job_seed=self._folder.job_seed,
                run=self._folder.path.name,
                priority=self._priority,
                say=self._progress.say,
                on_remeasured=lambda target, encoding, latency: self._journal.append(
                    records.Remeasured(target=target, encoding=encoding, latency=latency)
                ),
                ledger=self._folder.ledger,
            ),
        )
        try:
            self._time_references(targets)
            known = known_candidates(self._history)
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
                ),
            )
            estimator = prepared.estimator
            self._journal.append(records.EstimatorReady(state_id=estimator.state_id))
            front = self._search(targets, estimator, known, observer)
            if not front:
                raise EmptyFrontError(
                    f"none of {len(observer.seen)} candidates was scored within the limits: "
                    f"expected at least one; see the failures in {self._folder.journal}"
                )
            report = self._finish(targets, prepared, front, observer.seen)
        except KeyboardInterrupt:
            targets.close(cancel=True)
            raise
        finally:
            targets.close()
        self._journal.append(
            records.RunFinished(status=records.RunStatus.COMPLETED, time_unix_s=time.time())
        )
        return report

    def _time_references(self, targets: Targets) -> None:
        """Measure each target's reference alone, or take what an earlier part of the run found.

        Where a target has none, one network is measured all the same: whatever cannot work shall
        fail before hours of training.
        """
        rng = np.random.default_rng([self._experiment.seed, 1])
        middling = choose_reference(self._space, rng)
        known = {r.target: r for r in self._history if isinstance(r, records.ReferenceTimed)}
        for name, target in targets.by_name.items():
            wanted = target.settings.reference
            if name in known:
                timed = known[name]
            else:
                encoding = middling if wanted in {"space", "none"} else wanted
                timed = records.ReferenceTimed(
                    target=name, encoding=encoding, latency=targets.time_alone(name, encoding)
                )
                self._progress.say(_about_reference(timed))
                self._journal.append(timed)
            target.source.corrections.update(
                (r.encoding, r.latency)
                for r in self._history
                if isinstance(r, records.Remeasured) and r.target == name
            )
            if wanted != "none":
                targets.divide_by(name, timed.encoding, timed.latency.median_s)

    def _search(
        self,
        targets: Targets,
        estimator: RunEstimator,
        known: Mapping[str, Candidate],
        observer: RunObserver,
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
            {name: target.source for name, target in targets.by_name.items()},
            known,
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

    def _finish(
        self,
        targets: Targets,
        prepared: PreparedEstimator,
        front: Sequence[Candidate],
        seen: Sequence[Candidate],
    ) -> fronts.FrontReport:
        """Measure the front whole on every target and write the run's results."""
        estimator = prepared.estimator
        modules = {c.encoding: estimator.deployable(c.encoding) for c in front}
        whole: dict[str, dict[str, WholeTime]] = {c.encoding: {} for c in front}
        for name, target in targets.by_name.items():
            models = {
                encoding: write_deployable(
                    self._space, encoding, module, batch=target.settings.batch
                )
                for encoding, module in modules.items()
            }
            for time_ in self._measure_whole(targets, name, models):
                whole[time_.encoding][name] = time_
                self._journal_whole(front, name, time_)
        members = [
            self._member(index, candidate, whole[candidate.encoding], estimator)
            for index, candidate in enumerate(front)
        ]
        return Shipment(
            folder=self._folder,
            experiment=self._experiment,
            space=self._space,
            store=self._store,
            mean=prepared.mean,
            std=prepared.std,
        ).write(members, modules, seen)

    def _measure_whole(
        self, targets: Targets, name: str, models: Mapping[str, onnx.ModelProto]
    ) -> list[WholeTime]:
        target, settings = targets.by_name[name], self._experiment.finalists
        self._progress.phase(f"finalists on {name}", settings.processes)

        def on_round(done: int, total: int) -> None:
            self._progress.step(round(done / total * settings.processes), f"job {done} of {total}")

        return list(
            measure_whole(
                models,
                target.measurer,
                finalist_rule(target.rule, settings),
                RoundPlan(
                    target=name,
                    processes=settings.processes,
                    job_seed=f"{self._folder.job_seed} {name}",
                    reference=target.source.reference,
                ),
                on_round=on_round,
            )
        )

    def _member(
        self,
        index: int,
        candidate: Candidate,
        whole: Mapping[str, WholeTime],
        estimator: RunEstimator,
    ) -> fronts.FrontMember:
        return fronts.FrontMember(
            index=index,
            encoding=candidate.encoding,
            counts=self._space.count(candidate.encoding),
            validation_accuracy=candidate.accuracy,
            test_accuracy=estimator.test_accuracy(candidate.encoding),
            searched=candidate.latencies,
            whole=whole,
            over_limit=tuple(name for name, time_ in whole.items() if self._is_over(name, time_)),
        )

    def _is_over(self, target: str, whole: WholeTime) -> bool:
        limit_s = _limit_s(self._experiment.objectives, target)
        return (
            limit_s is not None
            and whole.latency is not None
            and (whole.latency.median_s > limit_s)
        )

    def _journal_whole(self, front: Sequence[Candidate], target: str, whole: WholeTime) -> None:
        searched = next(c for c in front if c.encoding == whole.encoding).latencies.get(target)
        self._journal.append(
            records.FinalistMeasured(
                encoding=whole.encoding,
                target=target,
                predicted_s=searched.median_s if searched else None,
                latency=whole.latency,
                process_medians_s=whole.process_medians_s,
                measurement_ids=whole.measurement_ids,
                over_limit=self._is_over(target, whole),
                failure=whole.failure,
            )
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

    def _interrupted(self, reason: str) -> None:
        self._journal.append(records.Interrupted(reason=reason, time_unix_s=time.time()))


def _about_reference(timed: records.ReferenceTimed) -> str:
    latency = timed.latency
    return (
        f"{timed.target}: {timed.encoding} alone takes {text.format_time(latency.median_s)} "
        f"(95 % interval {text.format_interval(latency.low_s, latency.high_s)}, "
        f"{latency.verdict.value})"
    )


def _limit_s(objectives: Sequence[Objective], target: str) -> float | None:
    limits = [
        objective.limit
        for objective in objectives
        if objective.kind is ObjectiveKind.LATENCY
        and objective.target == target
        and objective.limit is not None
    ]
    return min(limits, default=None)


def _versions() -> dict[str, str]:
    return {name: _version(name) for name in _VERSIONED}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
