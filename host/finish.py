"""The end of a run: its front measured whole, told to the journal, shipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host import front as fronts
from boardfront.host import journal_records as records
from boardfront.host.finalists import (
    RoundPlan,
    WholeTime,
    jobs_in_all,
    measure_whole,
    write_deployable,
)
from boardfront.host.shipping import Shipment
from boardfront.host.table_part import write_row
from boardfront.host.timing_rules import finalist_rule
from boardfront.latency_models.table_finalists import FinalistTime
from boardfront.search.objective import ObjectiveKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx

    from boardfront.host.estimator_part import PreparedEstimator, RunEstimator, SearchableSpace
    from boardfront.host.experiment import Experiment
    from boardfront.host.journal import Journal
    from boardfront.host.progress import RunProgress
    from boardfront.host.run_folder import RunFolder
    from boardfront.host.table_part import RunTable
    from boardfront.host.targets import Targets
    from boardfront.latency_models.store import MeasurementStore
    from boardfront.search.evaluation import Candidate
    from boardfront.search.objective import Objective


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """Measures a front whole and writes the run's results.

    Args:
        folder: The run's.
        experiment: That is run.
        space: Of the architectures.
        store: Holds the measurements.
        journal: Takes every finalist.
        progress: Shows them.
        tables: That the search went by, by target.
        obey: Called between the jobs of the finalists: the place to pause or to stop. What was
            measured until then is in the store, and the next part of the run takes it from there.
    """

    folder: RunFolder
    experiment: Experiment
    space: SearchableSpace
    store: MeasurementStore
    journal: Journal
    progress: RunProgress
    tables: Mapping[str, RunTable]
    obey: Callable[[], None] = lambda: None

    def run(
        self,
        targets: Targets,
        prepared: PreparedEstimator,
        front: Sequence[Candidate],
        seen: Sequence[Candidate],
    ) -> fronts.FrontReport:
        """Measure the front whole on every target and write everything.

        Raises:
            RunCancelledError: If `obey` says so.
        """
        estimator = prepared.estimator
        modules = {c.encoding: estimator.deployable(c.encoding) for c in front}
        whole: dict[str, dict[str, WholeTime]] = {c.encoding: {} for c in front}
        for name, target in targets.by_name.items():
            models = {
                encoding: write_deployable(
                    self.space, encoding, module, batch=target.settings.batch
                )
                for encoding, module in modules.items()
            }
            for time_ in self._measure_whole(targets, name, models):
                whole[time_.encoding][name] = time_
                self._journal_whole(front, name, time_)
        uses = {name: self._judge_table(name, front, whole) for name in self.tables}
        members = [
            self._member(index, candidate, whole[candidate.encoding], estimator)
            for index, candidate in enumerate(front)
        ]
        return Shipment(
            folder=self.folder,
            experiment=self.experiment,
            space=self.space,
            store=self.store,
            mean=prepared.mean,
            std=prepared.std,
            tables=uses,
        ).write(members, modules, seen)

    def _measure_whole(
        self, targets: Targets, name: str, models: Mapping[str, onnx.ModelProto]
    ) -> list[WholeTime]:
        target, settings = targets.by_name[name], self.experiment.finalists
        plan = RoundPlan(
            target=name,
            processes=settings.processes,
            job_seed=f"{self.folder.job_seed} {name}",
            reference=target.source.reference,
        )
        self.progress.phase(f"finalists on {name}", jobs_in_all(len(models), plan))
        what = f"jobs; {len(models)} networks, {settings.processes} processes each"

        def on_round(done: int, _total: int) -> None:
            self.progress.step(done, what)
            self.obey()

        return list(
            measure_whole(
                models,
                target.measurer,
                finalist_rule(target.rule, settings),
                plan,
                on_round=on_round,
            )
        )

    def _judge_table(
        self,
        target: str,
        front: Sequence[Candidate],
        whole: Mapping[str, Mapping[str, WholeTime]],
    ) -> fronts.TableUse:
        """Say how far a table was from the finalists, to the report and to the table itself."""
        table = self.tables[target]
        finalists = []
        for candidate in front:
            predicted, time_ = candidate.latencies[target], whole[candidate.encoding][target]
            if time_.latency is not None:
                finalists.append(
                    FinalistTime(
                        encoding=candidate.encoding,
                        predicted_s=predicted.median_s,
                        low_s=predicted.low_s,
                        high_s=predicted.high_s,
                        measured_s=time_.latency.median_s,
                        over_limit=self._is_over(target, time_),
                    )
                )
        row = table.row(self.folder.path.name, finalists)
        index = next(i for i, t in enumerate(self.experiment.targets) if t.name == target)
        choice = self.experiment.targets[index].table
        name = choice.name if choice else ""
        if row is not None:
            # A name that is an absolute path stays one.
            for file in (self.folder.table(index), self.folder.source.parent / name):
                write_row(row, file, self.progress.say)
        return fronts.TableUse(
            name=name,
            model=table.predictor.name,
            model_mape=table.predictor.mape,
            residual_mape=table.table.residual.mape if table.table.residual else None,
            finalists=row,
        )

    def _member(
        self,
        index: int,
        candidate: Candidate,
        whole: Mapping[str, WholeTime],
        estimator: RunEstimator,
    ) -> fronts.FrontMember:
        limits = {name: limit_s(self.experiment.objectives, name) for name in whole}
        return fronts.FrontMember(
            index=index,
            encoding=candidate.encoding,
            counts=self.space.count(candidate.encoding),
            validation_accuracy=candidate.accuracy,
            test_accuracy=estimator.test_accuracy(candidate.encoding),
            searched=candidate.latencies,
            whole=whole,
            over_limit=tuple(name for name, time_ in whole.items() if self._is_over(name, time_)),
            limits_s={name: limit for name, limit in limits.items() if limit is not None},
        )

    def _is_over(self, target: str, whole: WholeTime) -> bool:
        limit = limit_s(self.experiment.objectives, target)
        return limit is not None and whole.latency is not None and whole.latency.median_s > limit

    def _journal_whole(self, front: Sequence[Candidate], target: str, whole: WholeTime) -> None:
        searched = next(c for c in front if c.encoding == whole.encoding).latencies.get(target)
        table = self.tables.get(target)
        self.journal.append(
            records.FinalistMeasured(
                encoding=whole.encoding,
                target=target,
                predicted_s=searched.median_s if searched else None,
                predicted_low_s=searched.low_s if searched else None,
                predicted_high_s=searched.high_s if searched else None,
                predicted_by=table.predictor.name if table else "",
                level=table.level if table else None,
                latency=whole.latency,
                process_medians_s=whole.process_medians_s,
                measurement_ids=whole.measurement_ids,
                limit_s=limit_s(self.experiment.objectives, target),
                over_limit=self._is_over(target, whole),
                failure=whole.failure,
            )
        )


def limit_s(objectives: Sequence[Objective], target: str) -> float | None:
    """Return the hard limit on a target's time, seconds; None where there is none."""
    limits = [
        objective.limit
        for objective in objectives
        if objective.kind is ObjectiveKind.LATENCY
        and objective.target == target
        and objective.limit is not None
    ]
    return min(limits, default=None)
