"""A whole search on a space without a supernet, for the time of a training step."""

from __future__ import annotations

import hashlib
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from tests.device_agent.harness import until
from tests.host.searching import Place, errors, evaluated, front, journalled, times_measured
from typing_extensions import override

from boardfront.host import journal_records as records
from boardfront.host.config import load_experiment
from boardfront.host.data import catalog
from boardfront.host.journal import Journal
from boardfront.host.progress import LineProgress
from boardfront.host.run_folder import RunFolder
from boardfront.host.search_part import RunEvaluator, RunObserver, known_candidates
from boardfront.host.supernet.progress import TrainingReport
from boardfront.host.training import UntrainableError
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(240)

_EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "etnas_training_step.toml"
EVALUATIONS = 4


def _smaller(text: str) -> str:
    """Return the example as a test can wait for it: on programmed times."""
    for old, new in (
        ("resolution = 16", "resolution = 8"),
        ("max_blocks = 5", "max_blocks = 4"),
        ("last_channels = [64]", "last_channels = [32]"),
        ("epochs = 3", 'epochs = 1\ndevice = "cpu"'),
        ("population = 6", "population = 2"),
        ("evaluations = 12", f"evaluations = {EVALUATIONS}"),
        ('backend = "torch"', 'backend = "fake"'),
        ("options = { threads = 1 }\n", ""),
        ("min_duration_s = 0.3", "min_duration_s = 0.05"),
        ("min_duration_s = 1.0", "min_duration_s = 0.05"),
        ("processes = 3", "processes = 1"),
        ("retries = 1", "retries = 0"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


EXPERIMENT = _smaller(_EXAMPLE.read_text(encoding="utf-8"))


def _trained(place: Place) -> dict[str, int]:
    """Return when each candidate's file was written, by encoding."""
    folder = place.run_folder.supernet.with_name("candidates")
    return {path.stem: path.stat().st_mtime_ns for path in folder.iterdir()}


def _weights(path: Path) -> str:
    digest = hashlib.sha256()
    for tensor in onnx.load(path).graph.initializer:
        digest.update(onnx.numpy_helper.to_array(tensor).tobytes())
    return digest.hexdigest()


def _learned(place: Place) -> list[tuple[object, ...]]:
    """Return what training has a say in, a row a member of the front."""
    return [
        (
            member["encoding"],
            member["validation_accuracy"],
            member["test_accuracy"],
            _weights(place.run_folder.path / member["model"]),
        )
        for member in front(place.run_folder)["members"]
    ]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The place of one such search that nobody disturbed."""
    made = Place(tmp_path_factory.mktemp("trained"))
    made.experiment.write_text(EXPERIMENT)
    told = made.call("search", str(made.experiment))
    assert told.returncode == 0, told.stderr
    return made


def test_it_ends_with_a_front(done: Place) -> None:
    folder = done.run_folder
    content = front(folder)
    assert content["accuracy_of"] == "short-training"
    assert content["evaluations"] == EVALUATIONS
    assert content["failures"] == 0
    assert content["members"]
    assert "own weights after a short training" in folder.report.read_text()
    assert set(_trained(done)) == set(evaluated(folder))
    assert len(journalled(folder, records.EstimatorReady)) == 1
    assert not folder.supernet.exists()


def test_what_was_timed_is_a_training_step(done: Place) -> None:
    contents = [json.loads(line) for line in done.run_folder.measurements.read_text().splitlines()]
    assert contents
    assert {content["key"]["task"]["kind"] for content in contents} == {"training-step"}
    assert {content["key"]["task"]["batch"] for content in contents} == {32}


def test_the_models_hold_the_weights_that_were_scored(done: Place) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    dataset = catalog.load("digits", resolution=8, seed=1)
    for member in front(done.run_folder)["members"]:
        model = onnx.load(done.run_folder.path / member["model"])
        told = {entry.key: entry.value for entry in model.metadata_props}
        assert told["boardfront.accuracy_of"] == "short-training"
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        for split, accuracy in (
            (dataset.validation, member["validation_accuracy"]),
            (dataset.test, member["test_accuracy"]),
        ):
            images = split.images[: len(split) // 32 * 32].numpy()
            logits = [
                session.run(None, {"images": images[start : start + 32]})[0]
                for start in range(0, len(images), 32)
            ]
            found = np.concatenate(logits).argmax(axis=1) == split.labels.numpy()[: len(images)]
            # The last images do not fill a batch, and one may fall the other way.
            slack = len(split) - len(images) + 1
            assert abs(int(found.sum()) - accuracy * len(split)) <= slack


@pytest.mark.slow
def test_killed_in_mid_search_it_trains_nothing_twice(done: Place, place: Place) -> None:
    place.experiment.write_text(EXPERIMENT)
    with place.start("search", str(place.experiment)) as running:
        running.until_journalled(records.Evaluation, 2)
        until(lambda: len(_trained(place)) > 2, within_s=60.0)
        assert running.signal(signal.SIGKILL) == -signal.SIGKILL
    before = {name: at for name, at in _trained(place).items() if "unfinished" not in name}
    told = place.call(*place.resume_arguments())
    assert told.returncode == 0, told.stderr
    after = _trained(place)
    assert {name: after[name] for name in before} == before
    assert _learned(place) == _learned(done)
    assert evaluated(place.run_folder) == evaluated(done.run_folder)


@pytest.mark.slow
def test_candidates_that_cannot_be_trained_are_failures(place: Place, boardfront: Command) -> None:
    place.experiment.write_text(
        EXPERIMENT.replace("learning_rate = 0.1", "learning_rate = 1e30\ngradient_clip = 1e30")
    )
    code, _, told = boardfront("search", str(place.experiment))
    assert code == 1
    (line,) = errors(told)
    assert f"none of {EVALUATIONS} candidates was scored" in line
    found = journalled(place.run_folder, records.Evaluation)
    assert len(found) == EVALUATIONS
    for record in found:
        assert record.validation_accuracy is None
        assert record.scores == {"accuracy": None, "step-time": None}
        assert record.failure is not None
        assert "expected a finite one" in record.failure.message
        assert record.failure.target is None
    # No device was bothered by them: the reference alone was timed.
    assert times_measured(place.store, "candidate") == [1]
    # Going on is replaying: nobody is trained again to the same end.
    code, _, told = boardfront(*place.resume_arguments())
    assert code == 1
    assert f"none of {EVALUATIONS} candidates was scored" in told
    assert len(journalled(place.run_folder, records.Evaluation)) == EVALUATIONS


class _Picky:
    """An estimator that cannot train one network."""

    state_id = "picky"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def validation_accuracy(self, encoding: str) -> float:
        self.asked.append(encoding)
        if encoding == "large":
            raise UntrainableError("large: too large", FailureKind.OUT_OF_MEMORY)
        return 0.5


def test_a_failure_is_one_candidates_own_and_is_remembered() -> None:
    estimator = _Picky()
    evaluator = RunEvaluator(estimator, {}, {})
    failed, fine = evaluator.evaluate("large"), evaluator.evaluate("small")
    assert failed.failure is not None
    assert failed.failure.kind is FailureKind.OUT_OF_MEMORY
    assert (fine.failure, fine.accuracy) == (None, 0.5)
    history = [
        records.Evaluation(
            index=0,
            generation=0,
            encoding="large",
            scores={},
            failure=failed.failure,
            estimator_state_id="picky",
            elapsed_s=1.0,
        )
    ]
    again = RunEvaluator(estimator, {}, known_candidates(history)).evaluate("large")
    assert again.failure == failed.failure
    assert estimator.asked == ["large", "small"]


class _Shown(LineProgress):
    """Remembers what would be shown."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, str]] = []

    @override
    def step(self, done: int, note: str) -> None:
        self.steps.append((done, note))


def test_epochs_are_shown_of_a_training_that_takes_long(place: Place) -> None:
    shown, folder = _Shown(), RunFolder(place.folder)
    report = TrainingReport(
        epoch=2,
        epochs=5,
        step=10,
        steps=16,
        loss=0.75,
        learning_rate=0.1,
        epoch_done=False,
        validation_accuracy=None,
        elapsed_s=1.9,
    )
    journal = Journal(folder.journal)
    observer = RunObserver(load_experiment(_EXAMPLE), folder, journal, shown, {})
    observer.before(3, "net")
    observer.training("net", report)
    assert shown.steps == []
    observer.training("net", replace(report, elapsed_s=2.1))
    assert shown.steps == [(3, "net epoch 2/5 loss 0.750")]
    journal.close()
