"""Whatever ends a run, what was trained and measured is kept, and the front comes out the same."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import until
from tests.host.searching import (
    EPOCHS,
    EVALUATIONS,
    EXPERIMENT,
    Place,
    errors,
    evaluated,
    finalist_times_s,
    gist,
    journalled,
    times_measured,
)

from boardfront.host import journal_records as records

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(240)


def _assert_like(place: Place, undisturbed: Place) -> None:
    assert gist(place.run_folder) == gist(undisturbed.run_folder)
    assert finalist_times_s(place.run_folder) == pytest.approx(
        finalist_times_s(undisturbed.run_folder), rel=1e-3
    )
    encodings = evaluated(place.run_folder)
    assert encodings == evaluated(undisturbed.run_folder)
    assert len(set(encodings)) == len(encodings) == EVALUATIONS
    assert set(times_measured(place.store, "candidate")) == {1}
    assert (place.run_folder.path / "report.txt").exists()


@pytest.mark.slow
def test_agent_and_host_killed_in_mid_search(place: Place, finished: Place) -> None:
    with place.start("search", str(place.experiment)) as running:
        running.until_journalled(records.Evaluation, 2)
        running.agent().kill()
        # The search goes on by itself, with an agent that it starts anew.
        running.until_journalled(records.Evaluation, 5)
        assert not list(errors(running.stderr))
        assert running.signal(signal.SIGKILL) == -signal.SIGKILL
    before = len(evaluated(place.run_folder))
    assert 5 <= before < EVALUATIONS
    done = place.call(*place.resume_arguments())
    assert done.returncode == 0, done.stderr
    _assert_like(place, finished)


@pytest.mark.slow
def test_killed_in_training_then_interrupted_paused_and_cancelled(
    place: Place, finished: Place
) -> None:
    with place.start("search", str(place.experiment)) as running:
        running.until_journalled(records.TrainingProgress, 1)
        running.signal(signal.SIGKILL)
    folder = place.run_folder
    assert len(journalled(folder, records.TrainingProgress)) < EPOCHS

    with place.start(*place.resume_arguments()) as running:
        running.until_journalled(records.Evaluation, 3)
        assert running.signal(signal.SIGINT) == 130
        assert list(errors(running.stderr)) == [
            "boardfront: interrupted; nothing is lost, go on with: "
            f"boardfront search --resume {folder.path}"
        ]
        assert "Traceback" not in running.stderr
    epochs = [record.epoch for record in journalled(folder, records.TrainingProgress)]
    assert epochs == list(range(1, EPOCHS + 1))

    (folder.control / "pause").touch()
    with place.start(*place.resume_arguments()) as running:
        until(lambda: "paused" in running.stderr, within_s=60.0)
        before = len(evaluated(folder))
        assert not (folder.control / "pause").exists()
        (folder.control / "resume").touch()
        running.until_journalled(records.Evaluation, before + 1)
        assert "going on" in running.stderr
        (folder.control / "cancel").touch()
        assert running.wait() == 1
        (told,) = errors(running.stderr)
    assert "cancelled" in told
    assert f"boardfront search --resume {folder.path}" in told
    assert len(evaluated(folder)) < EVALUATIONS
    reasons = [record.reason for record in journalled(folder, records.Interrupted)]
    assert len(reasons) == 2
    assert reasons[0] == "interrupted by the user"
    assert "cancelled" in reasons[1]

    done = place.call(*place.resume_arguments())
    assert done.returncode == 0, done.stderr
    _assert_like(place, finished)


@pytest.mark.slow
def test_a_completed_run_gives_its_front_again(finished: Place) -> None:
    before = gist(finished.run_folder), finalist_times_s(finished.run_folder)
    measured = times_measured(finished.store, "finalist")
    done = finished.call("search", "--resume", "latest")
    assert done.returncode == 0, done.stderr
    assert (gist(finished.run_folder), finalist_times_s(finished.run_folder)) == before
    assert times_measured(finished.store, "finalist") == measured
    assert len(evaluated(finished.run_folder)) == EVALUATIONS


def test_a_changed_experiment_is_refused(finished: Place, boardfront: Command) -> None:
    changed = EXPERIMENT.replace("seed = 3", "seed = 4")
    finished.experiment.write_text(changed)
    try:
        code, out, told = boardfront(*finished.resume_arguments())
    finally:
        finished.experiment.write_text(EXPERIMENT)
    assert (code, out) == (2, "")
    (line,) = told.splitlines()
    assert line.startswith(f"boardfront: {finished.experiment} has changed")
    assert "seed: 3 -> 4" in line
    assert "undo the change" in line


def test_a_changed_copy_in_the_run_is_refused(
    finished: Place, place: Place, boardfront: Command
) -> None:
    copy, original = finished.run_folder.experiment, finished.run_folder.experiment.read_text()
    copy.write_text(original.replace("seed = 3", "seed = 4"))
    place.experiment.write_text(copy.read_text())
    try:
        code, _, told = boardfront(
            "search", str(place.experiment), "--resume", str(finished.run_folder.path)
        )
    finally:
        copy.write_text(original)
    assert code == 2
    (line,) = errors(told)
    assert "was changed since the run began" in line
