"""A person ends one job of a run: the candidate has failed, the search goes on."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
from rich.console import Console
from tests.device_agent.harness import AgentProcess, until
from tests.host.searching import (
    EVALUATIONS,
    EXPERIMENT,
    PROCESSES,
    WITHIN_S,
    Place,
    front,
    journalled,
)

from boardfront.host import journal_records as records
from boardfront.host.config import load_experiment
from boardfront.host.control import JobCanceller, RunCancelledError, RunControl
from boardfront.host.estimator_part import Surroundings, prepare_estimator
from boardfront.host.experiment import TargetSettings
from boardfront.host.fleet.address import RemoteAddress, RunningAgent
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.under_way import JobsUnderWay
from boardfront.host.journal import Journal
from boardfront.host.progress import LineProgress
from boardfront.host.run_folder import RunFolder, create_run
from boardfront.host.search_run import SearchRun
from boardfront.host.targets import Targets, TargetSurroundings
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import FailureKind, Phase
from boardfront.search.evaluation import EvaluationFailure
from boardfront.search.spaces import catalog as spaces

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from boardfront.host.estimator_part import SearchableSpace
    from boardfront.host.fleet.address import AgentAddress
    from boardfront.protos import records as wire
    from boardfront.search.space import NetworkSpace

pytestmark = pytest.mark.timeout(240)

_EVALUATIONS = 5

# Some of its networks take a moment to compile, others far longer than a request takes to be seen.
SLOW = (
    EXPERIMENT.replace(
        'backend = "fake"\n',
        'backend = "fake"\nreference = "none"\n'
        'options = { compile_s = "0.1-5", sleep = "along", time_s = "0.001" }\n',
    )
    .replace(f"evaluations = {EVALUATIONS}", f"evaluations = {_EVALUATIONS}")
    .replace(f"processes = {PROCESSES}", "processes = 1")
)

_COMPILES_S = 6.0
_TARGET = TargetSettings(
    name="boards",
    device="local",
    backend="fake",
    options={"compile_s": str(_COMPILES_S), "sleep": "along", "time_s": "0.001"},
    reference="none",
    min_duration_s=0.05,
)


@pytest.fixture
def run_folder(tmp_path: Path) -> RunFolder:
    experiment = tmp_path / "e.toml"
    experiment.write_text(EXPERIMENT)
    return create_run(tmp_path / "runs", "e", experiment)


def test_requests_are_taken_oldest_first(run_folder: RunFolder) -> None:
    folder = run_folder
    assert folder.job_requested() is None
    for time_unix_s, what in enumerate(("cancel-job-0123456789", "pause", "cancel-job")):
        folder.request(what)
        os.utime(folder.control / what, (time_unix_s, time_unix_s))
    assert [folder.job_requested() for _ in range(3)] == ["0123456789", "", None]
    assert folder.requested() == "pause"
    assert not list(folder.control.iterdir())
    with pytest.raises(WrongInputError, match="expected pause, resume, cancel, cancel-job or"):
        folder.request("stop")
    folder.control.rmdir()
    with pytest.raises(WrongInputError, match="cannot write"):
        folder.request("pause")


def test_a_run_that_ends_forgets_what_it_was_asked_too_late(
    run_folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOARDFRONT_FLEET", str(tmp_path / "fleet.toml"))
    experiment = load_experiment(run_folder.experiment)
    (target,) = experiment.targets
    gone = replace(experiment, targets=(replace(target, device="gone"),))
    shown = io.StringIO()
    (run_folder.control / "note").touch()
    run_folder.request("cancel")
    with MeasurementStore(tmp_path / "m.db") as store:
        run = SearchRun(run_folder, gone, store, LineProgress(Console(file=shown)))
        with pytest.raises(WrongInputError, match="device 'gone'"):
            run.execute()
    assert [path.name for path in run_folder.control.iterdir()] == ["note"]
    assert "asked too late, not obeyed: cancel" in shown.getvalue()


def test_only_a_job_that_is_under_way_can_be_cancelled() -> None:
    ended: list[str] = []
    jobs = JobsUnderWay()
    assert jobs.cancel() == "no job to cancel: under way are none"
    jobs.send("b" * 32, "second", ended.append)
    assert jobs.cancel() == "no job to cancel: under way are bbbbbbbb second"
    assert "no job called bbbbb to cancel" in jobs.cancel("bbbbb")
    with jobs.running("a" * 32, "first", ended.append):
        assert jobs.cancel("aaaaaa") == "cancelling job aaaaaaaa, first"
        jobs.end_unwanted()
        # It is asked again until it is gone: the device may not have it yet.
        jobs.end_unwanted()
        assert ended == ["a" * 32] * 2
    jobs.end_unwanted()
    assert ended == ["a" * 32] * 2
    assert jobs.is_unwanted("a" * 32)
    assert not jobs.is_unwanted("b" * 32)


def test_a_run_is_paused_and_cancelled_between_epochs(run_folder: RunFolder) -> None:
    experiment = load_experiment(run_folder.experiment)
    space = cast("SearchableSpace", spaces.load(experiment.space.name, experiment.space.settings))
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "paused" in line:
            run_folder.request("cancel")

    run_folder.request("pause")
    with (
        Journal(run_folder.journal) as journal,
        pytest.raises(RunCancelledError, match="the run was cancelled through"),
    ):
        prepare_estimator(
            space,
            experiment,
            Surroundings(
                folder=run_folder,
                journal=journal,
                progress=LineProgress(Console(file=io.StringIO())),
                on_candidate=lambda *_: None,
                epochs_done=0,
                obey=RunControl(run_folder, say).obey,
            ),
        )
    (only,) = journalled(run_folder, records.TrainingProgress)
    assert only.epoch == 1
    # Its checkpoint is written: the next part of the run goes on behind it.
    assert run_folder.supernet.exists()
    assert [line.partition(":")[0] for line in said] == ["paused"]


def _job_that(address: AgentAddress, is_meant: Callable[[wire.RunningJob], bool]) -> str:
    """Return the id of the first job seen on a board that is meant."""
    client = AgentClient(address)
    try:
        samples = client.telemetry(0.2)
        jobs = (sample.running for sample in samples if sample.running is not None)
        return next(job.job_id for job in jobs if is_meant(job))
    finally:
        client.close()


def _has_begun(job: wire.RunningJob) -> bool:
    return job.phase is Phase.COMPILING and job.phase_since_s < _COMPILES_S / 3


def _takes_long(job: wire.RunningJob) -> bool:
    return job.phase is Phase.COMPILING and job.phase_since_s > 1.0


@pytest.mark.slow
def test_one_of_several_boards_loses_its_job_and_goes_on(
    tmp_path: Path, run_folder: RunFolder
) -> None:
    space = cast(
        "NetworkSpace",
        spaces.load(
            "spos",
            {"resolution": 8, "classes": 10, "stem_channels": 8, "stages": [[16, 2], [32, 2]]},
        ),
    )
    under_way = JobsUnderWay()
    said: list[str] = []
    with contextlib.ExitStack() as stack:
        agents = [stack.enter_context(AgentProcess(tmp_path / name)) for name in "ab"]
        store = stack.enter_context(MeasurementStore(tmp_path / "m.db"))
        settings = replace(_TARGET, device=tuple(agent.address for agent in agents))
        around = TargetSurroundings(
            store=store, job_seed="run", say=said.append, under_way=under_way
        )
        targets = stack.enter_context(contextlib.closing(Targets([settings], space, around)))
        stack.enter_context(JobCanceller(run_folder, under_way, said.append))
        source = targets.by_name["boards"].source
        encodings = ["33-33", "35-33", "37-33"]
        pending = [source.begin(encoding) for encoding in encodings]
        job_id = _job_that(RemoteAddress(agents[1].address), _has_begun)
        run_folder.request(f"cancel-job-{job_id}")
        answers = [one.result() for one in pending]
        failures = [one for one in answers if isinstance(one, EvaluationFailure)]
        assert [(one.kind, one.message) for one in failures] == [
            (FailureKind.CANCELLED, "cancelled by the user")
        ]
        # The job's name is the same in the run's next life: it is not measured again.
        (cancelled,) = [
            encoding
            for encoding, answer in zip(encodings, answers, strict=True)
            if isinstance(answer, EvaluationFailure)
        ]
        again = source.latency(cancelled)
    assert isinstance(again, EvaluationFailure)
    assert again.kind is FailureKind.CANCELLED
    assert f"cancelling job {job_id[:8]}, {cancelled}" in said
    assert not [line for line in said if "left out" in line]


@pytest.mark.slow
def test_a_cancelled_candidate_fails_and_the_search_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.settings.items():
        monkeypatch.setenv(name, value)
    place.experiment.write_text(SLOW)
    with place.start("search", str(place.experiment)) as running:
        # The first job of all proves that the chain works: without it there is no search.
        running.until_journalled(records.Evaluation, 1)
        folder = place.run_folder
        while not _cancelled(folder):
            _job_that(RunningAgent(), _takes_long)
            folder.request("cancel-job")
            until(lambda: not list(folder.control.iterdir()))
            seen = len(journalled(folder, records.Evaluation))
            until(lambda: len(journalled(folder, records.Evaluation)) > seen, within_s=WITHIN_S)  # noqa: B023
        assert running.wait() == 0, running.stderr
        assert "cancelling job" in running.stderr
    failed = _cancelled(folder)[0]
    assert failed.failure is not None
    assert failed.failure.message == "cancelled by the user"
    assert failed.failure.target == "here"
    assert len(journalled(folder, records.Evaluation)) == _EVALUATIONS
    assert failed.encoding not in [member["encoding"] for member in front(folder)["members"]]
    assert not list(folder.control.iterdir())


def _cancelled(folder: RunFolder) -> list[records.Evaluation]:
    return [
        one
        for one in journalled(folder, records.Evaluation)
        if one.failure is not None and one.failure.kind is FailureKind.CANCELLED
    ]
