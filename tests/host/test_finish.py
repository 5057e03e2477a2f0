"""The finalists' jobs can be paused and cancelled between one and the next; nothing is lost."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, cast

import pytest
from rich.console import Console
from tests.device_agent.harness import AgentProcess
from tests.host.searching import EPOCHS, EXPERIMENT, PROCESSES, journalled, times_measured
from typing_extensions import override

from boardfront.host import journal_records as records
from boardfront.host.config import load_experiment
from boardfront.host.control import RunCancelledError, RunControl
from boardfront.host.estimator_part import Surroundings, prepare_estimator
from boardfront.host.finish import Finish
from boardfront.host.journal import Journal
from boardfront.host.progress import LineProgress
from boardfront.host.run_folder import create_run
from boardfront.host.targets import Targets, TargetSurroundings
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos.records import Verdict
from boardfront.search.evaluation import Candidate, Latency
from boardfront.search.spaces import catalog as spaces

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.estimator_part import SearchableSpace
    from boardfront.host.front import FrontReport
    from boardfront.host.run_folder import RunFolder

pytestmark = pytest.mark.timeout(120)

_ROUNDS = 5
_FRONT = ("33-33", "35-33")
_TIME = Latency(median_s=0.001, low_s=0.001, high_s=0.001, verdict=Verdict.OK)
_TEXT = (
    EXPERIMENT.replace(f"processes = {PROCESSES}", f"processes = {_ROUNDS}")
    .replace(f"epochs = {EPOCHS}", "epochs = 2")
    .replace('backend = "fake"\n', 'backend = "fake"\nreference = "none"\n')
)


class _Asking(LineProgress):
    """Asks the run for something after one of its jobs.

    Args:
        folder: The run's.
        what: Is asked for.
        after: So many jobs.
    """

    def __init__(self, folder: RunFolder, what: str, after: int) -> None:
        super().__init__(Console(file=io.StringIO()))
        self._folder = folder
        self._what = what
        self._after = after
        self._is_finalists = False

    @override
    def phase(self, name: str, total: int, done: int = 0) -> None:
        self._is_finalists = name.startswith("finalists")
        if self._is_finalists:
            assert total == _ROUNDS

    @override
    def step(self, done: int, note: str) -> None:
        if self._is_finalists and done == self._after:
            self._folder.request(self._what)


@pytest.mark.slow
def test_finalists_are_paused_and_cancelled_between_two_jobs(tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    said: list[str] = []

    with contextlib.ExitStack() as stack:
        agent = stack.enter_context(AgentProcess(tmp_path / "agent"))
        file.write_text(_TEXT.replace('device = "local"', f'device = "{agent.address}"'))
        folder = create_run(tmp_path / "runs", "e", file)
        experiment = load_experiment(folder.experiment)
        space = cast(
            "SearchableSpace", spaces.load(experiment.space.name, experiment.space.settings)
        )
        store = stack.enter_context(MeasurementStore(tmp_path / "m.db"))
        journal = stack.enter_context(Journal(folder.journal))
        prepared = prepare_estimator(
            space,
            experiment,
            Surroundings(
                folder=folder,
                journal=journal,
                progress=LineProgress(Console(file=io.StringIO())),
                on_candidate=lambda *_: None,
                epochs_done=0,
            ),
        )
        front = [
            Candidate(
                encoding=encoding, estimator_state_id="s", accuracy=0.5, latencies={"here": _TIME}
            )
            for encoding in _FRONT
        ]

        def say(line: str) -> None:
            said.append(line.partition(":")[0])
            if line.startswith("paused"):
                folder.request("resume")

        def finish(what: str, after: int) -> FrontReport:
            around = TargetSurroundings(
                store=store, job_seed=folder.job_seed, say=lambda _: None, ledger=folder.ledger
            )
            with contextlib.closing(Targets(experiment.targets, space, around)) as targets:
                return Finish(
                    folder=folder,
                    experiment=experiment,
                    space=space,
                    store=store,
                    journal=journal,
                    progress=_Asking(folder, what, after),
                    tables={},
                    obey=RunControl(folder, say).obey,
                ).run(targets, prepared, front, front)

        with pytest.raises(RunCancelledError, match="the run was cancelled through"):
            finish("cancel", 1)
        assert not journalled(folder, records.FinalistMeasured)
        done = times_measured(tmp_path / "m.db", "finalist")
        assert len(done) == len(_FRONT)
        assert 1 <= min(done) <= max(done) < _ROUNDS
        report = finish("pause", 4)
    assert said == ["paused", "going on"]
    # What was measured before the run was cancelled counts, and was not measured again.
    assert times_measured(tmp_path / "m.db", "finalist") == [_ROUNDS] * len(_FRONT)
    medians_s = [time.process_medians_s for one in report.members for time in one.whole.values()]
    assert [len(one) for one in medians_s] == [_ROUNDS] * len(_FRONT)
    assert not list(folder.control.iterdir())
    rates = [record.learning_rate for record in journalled(folder, records.TrainingProgress)]
    # By the cosine's half and end: 0.2 was asked for.
    assert rates == pytest.approx([0.1, 0.0], abs=0.01)
