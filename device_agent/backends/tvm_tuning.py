"""Searches faster code for fused tasks with TVM's MetaSchedule, task by task, under a budget.

Source: Shao et al. 2022, "Tensor Program Optimization with Probabilistic Programs". Deviations:
    tasks are tuned one after the other, most frequent first, not by expected gain, so that each is
    finished or untouched when the budget ends; candidates are built and timed by processes of our
    own (tvm_trial.py), which need no C compiler.
"""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from boardfront.device_agent.backends.tvm_import import import_meta_schedule, import_tvm
from boardfront.device_agent.backends.tvm_tasks import KEPT_RECORDS, TunedTask
from boardfront.device_agent.backends.tvm_trials import TrialProcess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from boardfront.device_agent.backends.tvm_tasks import TaskDatabase

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningSettings:
    """How hard to search.

    Args:
        trials: Candidates of a task that computes sums, e.g. a convolution.
        plain_trials: Candidates of a task that only moves or maps values.
        per_round: Candidates between two looks at the budget and two writes to the database.
        build_s: Longest build of a candidate; TVM's own 30 s fail on slow machines.
        run_s: Longest timing of a candidate.
        population: Schedules that the search breeds from in a round. TVM's own 512 over four
            generations take 40 s a round on a laptop, for 9 s of building and timing.
        generations: How often it does so in a round.
        seed: Of the search.
    """

    trials: int = 64
    plain_trials: int = 16
    per_round: int = 16
    build_s: float = 200.0
    run_s: float = 120.0
    population: int = 128
    generations: int = 2
    seed: int = 0


DEFAULT_SETTINGS = TuningSettings()


class Tuner:
    """Tunes tasks of one target; a context manager that leaves no process behind.

    Args:
        database: Has the tasks, gets the schedules.
        target: What code is made for, a tvm.target.Target.
        settings: How hard to search.
    """

    def __init__(
        self, database: TaskDatabase, target: Any, settings: TuningSettings = DEFAULT_SETTINGS
    ) -> None:
        import_meta_schedule()
        from tvm.s_tir.meta_schedule.cost_model import XGBModel

        self._database = database
        self._target = target
        self._settings = settings
        self._round_s = 0.0
        self._cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        # One model for all tasks: it learns from features that do not name the task.
        self._model = XGBModel(num_warmup_samples=2 * settings.per_round, num_tuning_cores=1)
        self._trials = [TrialProcess() for _ in range(self._cores)]

    def __enter__(self) -> Self:
        """Return the tuner."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all processes."""
        self.close()

    def close(self) -> None:
        """End all processes. May be called again."""
        for process in self._trials:
            process.close()

    def tune(self, tasks: Sequence[str], *, budget_s: float) -> int:
        """Tune tasks in order until the budget is spent; return how many were finished.

        One round is taken whatever the budget; another where it would take no longer than the
        last one and end in time.
        """
        end_s = time.monotonic() + budget_s
        finished = 0
        for task in tasks:
            if not self._has_time(end_s):
                break
            finished += self._tune_task(task, end_s)
        return finished

    def _tune_task(self, task: str, end_s: float) -> bool:
        """Tune one task; return whether all its trials were spent."""
        from tvm.s_tir.meta_schedule.database import MemoryDatabase, TuningRecord, Workload

        known = self._database.tuned(task)
        found = Workload.from_json(self._database.workload(task))
        memory = MemoryDatabase()
        workload = memory.commit_workload(found.mod)
        for record in known.records if known else ():
            memory.commit_tuning_record(TuningRecord.from_json(record, workload))
        limit = self._limit(found.mod)
        trials = known.trials if known else 0
        context = self._context(task, found.mod, trials)
        context.pre_tuning(
            max(limit - trials, 1), self._settings.per_round, None, memory, self._model
        )
        while trials < limit and self._has_time(end_s):
            begin_s = time.monotonic()
            candidates = context.generate_measure_candidates()
            if not candidates:
                trials = limit
            else:
                self._take(context, candidates, memory, workload)
                trials += len(candidates)
            self._keep(task, memory, workload, trials, limit)
            self._round_s = time.monotonic() - begin_s
            _log.info("task %s: %d of %d trials, %.1f s", task, trials, limit, self._round_s)
        context.post_tuning()
        return trials >= limit

    def _has_time(self, end_s: float) -> bool:
        return self._round_s == 0.0 or time.monotonic() + self._round_s < end_s

    def _limit(self, module: Any) -> int:
        sums = "T.init" in module.script()
        return self._settings.trials if sums else self._settings.plain_trials

    def _context(self, task: str, module: Any, trials: int) -> Any:
        """Return the search for a task's schedules; going on draws other ones than beginning."""
        from tvm.s_tir.meta_schedule import TuneContext
        from tvm.s_tir.meta_schedule.search_strategy import EvolutionarySearch

        return TuneContext(
            mod=module,
            target=self._target,
            space_generator="post-order-apply",
            search_strategy=EvolutionarySearch(
                population_size=self._settings.population,
                init_min_unmeasured=2 * self._settings.per_round,
                genetic_num_iters=self._settings.generations,
            ),
            task_name=task,
            rand_state=(int(task) + self._settings.seed + trials) % (2**31 - 2) + 1,
            num_threads=self._cores,
        )

    def _take(self, context: Any, candidates: Any, memory: Any, workload: Any) -> None:
        """Build and time candidates, and tell the search and the database."""
        from tvm.s_tir.meta_schedule.database import TuningRecord
        from tvm.s_tir.meta_schedule.runner import RunnerResult

        taken = self._measure(candidates)
        results = [
            RunnerResult(one, None) if isinstance(one, list) else RunnerResult(None, one)
            for one in taken
        ]
        context.notify_runner_results(candidates, results)
        for candidate, one in zip(candidates, taken, strict=True):
            if isinstance(one, list):
                memory.commit_tuning_record(
                    TuningRecord(
                        candidate.sch.trace, workload, one, self._target, candidate.args_info
                    )
                )
        self._model.update(context, candidates, results)

    def _measure(self, candidates: Any) -> list[list[float] | str]:
        """Return each candidate's times in seconds, or why it has none.

        All cores build; then one candidate at a time is timed.
        """
        tvm = import_tvm()
        texts = [tvm.ir.save_json(candidate.sch.mod) for candidate in candidates]
        target = str(self._target)
        shares = [range(k, len(texts), self._cores) for k in range(self._cores)]

        def build(process: TrialProcess, numbers: range) -> dict[int, str]:
            return {
                number: message
                for number in numbers
                if (
                    message := process.build(number, texts[number], target, self._settings.build_s)
                )
            }

        with ThreadPoolExecutor(self._cores) as pool:
            failed = {
                k: v for one in pool.map(build, self._trials, shares) for k, v in one.items()
            }
        results: list[list[float] | str] = [failed.get(number, "") for number in range(len(texts))]
        for process, numbers in zip(self._trials, shares, strict=True):
            for number in numbers:
                if number not in failed:
                    arguments = [one.as_json() for one in candidates[number].args_info]
                    results[number] = process.time(number, arguments, self._settings.run_s)
        return results

    def _keep(self, task: str, memory: Any, workload: Any, trials: int, limit: int) -> None:
        best = memory.get_top_k(workload, KEPT_RECORDS)
        times_s = [min(float(run) for run in record.run_secs) for record in best]
        self._database.keep(
            task,
            TunedTask(
                trials=trials,
                finished=trials >= limit,
                best_s=times_s[0] if times_s else None,
                records=tuple(record.as_json() for record in best),
            ),
        )
