"""A journal told to trackers, read back by their own readers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from tests.host.searching import EXPERIMENT, errors
from tests.host.tracking.reading import read_events, read_mlflow

from boardfront.host import journal_records as records
from boardfront.host.journal import Journal
from boardfront.host.run_folder import RunFolder, create_run
from boardfront.host.tracking.sink import TrackingChoice
from boardfront.host.tracking.tracked import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.host.searching import Place

    Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(240)

LOSSES = [(epoch, 2.0**-epoch) for epoch in range(1, 7)]
"""Exact in 32 bits: TensorBoard keeps no more."""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    experiment = tmp_path / "tiny.toml"
    experiment.write_text(EXPERIMENT)
    return create_run(tmp_path / "runs", "tiny", experiment)


@pytest.fixture
def journal(run: RunFolder) -> Iterator[Journal]:
    with Journal(run.journal) as opened:
        opened.append(records.RunStarted(experiment_digest="d", seed=3, time_unix_s=1.0))
        yield opened


def _train(journal: Journal, first: int, last: int) -> None:
    for epoch, loss in LOSSES[first - 1 : last]:
        journal.append(
            records.TrainingProgress(
                epoch=epoch, epochs=6, loss=loss, learning_rate=0.1, elapsed_s=float(epoch)
            )
        )


def _finish(run: RunFolder, journal: Journal) -> None:
    run.front_json.write_text("{}")
    run.front_csv.write_text("index,encoding\n0,net0\n")
    journal.append(records.RunFinished(status=records.RunStatus.COMPLETED, time_unix_s=2.0))


def _choice(run: RunFolder) -> TrackingChoice:
    place = run.path.parent.parent
    return TrackingChoice(tensorboard=place / "tb", mlflow=(place / "mlruns").as_uri())


def _told_tensorboard(run: RunFolder) -> list[tuple[int, float]]:
    scalars, _ = read_events(run.path.parent.parent / "tb" / run.path.name)
    return scalars.get("training/loss", [])


def _told_mlflow(run: RunFolder) -> list[tuple[int, float]]:
    choice = _choice(run)
    _, metrics, _ = read_mlflow(choice.mlflow, "tiny")
    return metrics.get("training/loss", [])


def test_a_run_is_told_while_it_goes_on(run: RunFolder, journal: Journal) -> None:
    warnings: list[str] = []
    tracker = Tracker(run, _choice(run), warnings.append)
    _train(journal, 1, 2)
    tracker.tell()
    assert _told_tensorboard(run) == LOSSES[:2]
    assert _told_mlflow(run) == LOSSES[:2]
    _train(journal, 3, 6)
    _finish(run, journal)
    tracker.close()
    assert _told_tensorboard(run) == LOSSES
    assert _told_mlflow(run) == LOSSES
    assert warnings == []


def test_what_a_tracker_knows_of_a_finished_run(run: RunFolder, journal: Journal) -> None:
    tracker = Tracker(run, _choice(run), pytest.fail)
    tracker.tell()
    _finish(run, journal)
    tracker.close()
    _, texts = read_events(run.path.parent.parent / "tb" / run.path.name)
    assert texts == ["experiment/text_summary", "front/text_summary"]
    told, _, artifacts = read_mlflow(_choice(run).mlflow, "tiny")
    assert told.info.run_name == run.path.name
    assert told.info.status == "FINISHED"
    assert artifacts == {"experiment.toml", "front.json", "front.csv"}
    assert told.data.params["supernet.learning_rate"] == "0.2"
    assert told.data.params["target.here.backend"] == "fake"
    assert told.data.params["space.stages"] == "[[16, 2], [32, 2]]"


@pytest.mark.parametrize("killed", [True, False])
def test_a_resumed_run_doubles_nothing(run: RunFolder, journal: Journal, *, killed: bool) -> None:
    first = Tracker(run, _choice(run), pytest.fail)
    first.tell()
    _train(journal, 1, 3)
    if killed:
        # Told, and then nothing more of this tracker.
        first._rest_until_s = 0.0
        first.tell()
    else:
        journal.append(records.Interrupted(reason="by the user", time_unix_s=1.5))
        first.close()
        told, _, _ = read_mlflow(_choice(run).mlflow, "tiny")
        assert told.info.status == "KILLED"
    # What was journalled and not told, as after a kill between the two.
    _train(journal, 4, 4)
    journal.append(records.RunStarted(experiment_digest="d", seed=3, time_unix_s=1.6))
    second = Tracker(run, _choice(run), pytest.fail)
    second.tell()
    told, _, _ = read_mlflow(_choice(run).mlflow, "tiny")
    assert told.info.status == "RUNNING"
    _train(journal, 5, 6)
    _finish(run, journal)
    second.close()
    assert _told_tensorboard(run) == LOSSES
    assert _told_mlflow(run) == LOSSES
    _, texts = read_events(run.path.parent.parent / "tb" / run.path.name)
    assert texts.count("experiment/text_summary") == 1


def test_a_journal_that_was_cut_back_doubles_nothing(run: RunFolder, journal: Journal) -> None:
    tracker = Tracker(run, TrackingChoice(tensorboard=_choice(run).tensorboard), pytest.fail)
    tracker.tell()
    _train(journal, 1, 2)
    whole = run.journal.read_bytes()
    _train(journal, 3, 3)
    tracker._rest_until_s = 0.0
    tracker.tell()
    run.journal.write_bytes(whole)
    _train(journal, 3, 4)
    tracker.close()
    assert _told_tensorboard(run) == LOSSES[:4]


def test_a_torn_event_is_told_again(run: RunFolder, journal: Journal) -> None:
    choice = TrackingChoice(tensorboard=_choice(run).tensorboard)
    first = Tracker(run, choice, pytest.fail)
    _train(journal, 1, 3)
    first.tell()
    (events,) = (run.path.parent.parent / "tb" / run.path.name).iterdir()
    # What a machine that lost power left of the last event.
    events.write_bytes(events.read_bytes()[:-5])
    assert _told_tensorboard(run) == LOSSES[:2]
    second = Tracker(run, choice, pytest.fail)
    second.tell()
    _train(journal, 4, 6)
    second.close()
    assert _told_tensorboard(run) == LOSSES


def test_a_tracker_that_is_away_is_one_line(run: RunFolder, journal: Journal) -> None:
    warnings: list[str] = []
    folder = _choice(run).tensorboard
    # Nothing listens there: port 9 is "discard".
    choice = TrackingChoice(tensorboard=folder, mlflow="http://127.0.0.1:9")
    tracker = Tracker(run, choice, warnings.append)
    _train(journal, 1, 6)
    tracker.tell()
    _finish(run, journal)
    tracker.close()
    (line,) = warnings
    assert line.startswith("MLflow is told no more of this run, which goes on: ")
    assert "\n" not in line
    assert _told_tensorboard(run) == LOSSES


def test_a_folder_that_cannot_be_written_is_one_line(run: RunFolder, journal: Journal) -> None:
    warnings: list[str] = []
    place = run.path.parent.parent / "tb"
    place.write_text("a file")
    tracker = Tracker(run, TrackingChoice(tensorboard=place), warnings.append)
    for _ in range(3):
        tracker._rest_until_s = 0.0
        tracker.tell()
    _finish(run, journal)
    tracker.close()
    (line,) = warnings
    assert line.startswith("TensorBoard is told no more")


def test_telling_takes_a_hundredth_of_the_time(run: RunFolder, journal: Journal) -> None:
    now_s = 100.0
    seen: list[float] = []

    def clock() -> float:
        # Every look at the clock finds it 0.1 s on: so long a telling takes.
        nonlocal now_s
        now_s += 0.1
        seen.append(now_s)
        return now_s

    choice = TrackingChoice(tensorboard=_choice(run).tensorboard)
    tracker = Tracker(run, choice, pytest.fail, clock)
    tracker.tell()
    _train(journal, 1, 1)
    tracker.tell()
    assert _told_tensorboard(run) == []
    now_s += 9.0
    tracker.tell()
    assert _told_tensorboard(run) == []
    now_s += 1.0
    tracker.tell()
    assert _told_tensorboard(run) == LOSSES[:1]
    tracker.close()


def test_a_run_that_was_not_ours_is_not_told(run: RunFolder, journal: Journal) -> None:
    _train(journal, 1, 1)
    tracker = Tracker(run, _choice(run), pytest.fail)
    # As where the run is locked by another process: not one step was made.
    tracker.close()
    assert not (run.path.parent.parent / "tb").exists()
    assert not (run.path.parent.parent / "mlruns").exists()


@pytest.mark.parametrize(
    ("module", "option", "value"),
    [("tensorboard", "--tensorboard", "tb"), ("mlflow", "--mlflow", "mlruns")],
)
def test_a_missing_library_is_named_before_anything_begins(
    place: Place,
    boardfront: Command,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    option: str,
    value: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = boardfront("search", "tiny.toml", option, value)
    assert code == 2
    (line,) = errors(err)
    assert f"{option} {value}: expected the library {module}" in line
    assert f"pip install 'boardfront[{module}]'" in line
    assert not place.runs.exists()
