"""What a finished run leaves behind."""

from __future__ import annotations

import csv
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from tests.host.searching import (
    EPOCHS,
    EVALUATIONS,
    EXPERIMENT,
    PROCESSES,
    Place,
    errors,
    evaluated,
    front,
    journalled,
    times_measured,
)

from boardfront.host import journal_records as records
from boardfront.host.data import catalog

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)

TWO_TARGETS = EXPERIMENT.replace(
    "[[objective]]",
    """\
[[target]]
name = "slow"
device = "local"
backend = "fake"
options = { time_s = 0.002, noise = 0 }
min_duration_s = 0.05

[[objective]]""",
    1,
)


def _metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _models(place: Place) -> list[tuple[dict[str, Any], Path]]:
    folder = place.run_folder
    return [(member, folder.path / member["model"]) for member in front(folder)["members"]]


def test_the_folder_holds_everything(finished: Place) -> None:
    folder = finished.run_folder
    assert folder.path.name.startswith("tiny-")
    assert folder.experiment.read_text() == EXPERIMENT
    assert {path.name for path in folder.path.iterdir()} == {
        *("experiment.toml", "run.json", "journal.jsonl", "journal.jsonl.lock", "control"),
        *("checkpoints", "models", "front.json", "front.csv", "report.txt"),
        *("measurements.jsonl", "log.txt"),
    }
    assert folder.supernet.exists()
    assert not list(folder.control.iterdir())
    assert not list(folder.path.rglob("*.part"))
    assert {path.name for path in folder.models.iterdir()} == {
        path.name for _, path in _models(finished)
    }


def test_the_journal_tells_the_run(finished: Place) -> None:
    folder = finished.run_folder
    (*_, finish) = journalled(folder, records.RunFinished)
    assert finish.status is records.RunStatus.COMPLETED
    assert [r.epoch for r in journalled(folder, records.TrainingProgress)] == list(
        range(1, EPOCHS + 1)
    )
    evaluations = journalled(folder, records.Evaluation)
    assert [r.index for r in evaluations] == list(range(EVALUATIONS))
    assert all(r.failure is None for r in evaluations)
    assert {r.generation for r in evaluations} == {0, 1}
    started = journalled(folder, records.RunStarted)[0]
    assert started.seed == 3
    assert "torch" in started.versions
    rates = [r.learning_rate for r in journalled(folder, records.TrainingProgress)]
    # Half a cosine from 0.2 to 0, at the ends of three epochs.
    assert rates == pytest.approx([0.15, 0.05, 0.0], abs=0.01)


def test_the_front_is_not_dominated(finished: Place) -> None:
    rows = [
        (record.latencies["here"].median_s, -(record.validation_accuracy or 0.0))
        for record in journalled(finished.run_folder, records.Evaluation)
    ]
    members = [
        (member["searched"]["here"]["median_s"], -member["validation_accuracy"])
        for member in front(finished.run_folder)["members"]
    ]
    assert len(members) >= 2
    assert members == sorted(members)
    better = {
        (a, b)
        for a in rows
        for b in rows
        if a != b and all(x <= y for x, y in zip(a, b, strict=True))
    }
    dominated = {loser for _, loser in better}
    assert set(members) == set(rows) - dominated


def test_the_table_has_units(finished: Place) -> None:
    folder = finished.run_folder
    with folder.front_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    members = front(folder)["members"]
    assert len(rows) == len(members)
    for row, member in zip(rows, members, strict=True):
        assert row["encoding"] == member["encoding"]
        assert int(row["params"]) == member["counts"]["params"]
        assert float(row["here_median_s"]) == member["whole"]["here"]["latency"]["median_s"]
        assert float(row["here_low_s"]) <= float(row["here_median_s"]) <= float(row["here_high_s"])
        assert row["here_verdict"] == member["whole"]["here"]["latency"]["verdict"]
        assert row["here_over_limit"] == "no"
        assert (folder.path / row["model"]).is_file()
    report = folder.report.read_text()
    assert f"{EVALUATIONS} candidates scored, 0 failed, {len(members)} on the front" in report
    assert "order of latency on here" in report
    assert all(member["encoding"] in report for member in members)


def test_programmed_times_come_out(finished: Place) -> None:
    # The fake's rule, device_agent/backends/fake.py: 50 us + 1 us a node + 1 ns a weight; its
    # noise has a relative standard deviation of 0.1 %.
    for member, path in _models(finished):
        graph = onnx.load(path).graph
        weights = sum(math.prod(tensor.dims) for tensor in graph.initializer)
        programmed_s = 5e-5 + 1e-6 * len(graph.node) + 1e-9 * weights
        for median_s in member["whole"]["here"]["process_medians_s"]:
            assert median_s == pytest.approx(programmed_s, rel=2e-3)
        assert member["searched"]["here"]["median_s"] == pytest.approx(programmed_s, rel=2e-3)


def test_the_models_are_what_was_reported(finished: Place) -> None:
    test = catalog.load("digits", resolution=8, seed=3).test
    labels = test.labels.numpy()
    for member, path in _models(finished):
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        right = sum(
            int(np.argmax(session.run(None, {name: image[None].numpy()})[0]) == label)
            for image, label in zip(test.images, labels, strict=True)
        )
        # One image may fall the other way: torch and onnxruntime add in different orders.
        assert abs(right - member["test_accuracy"] * len(labels)) <= 1.001


def test_the_models_say_what_they_are(finished: Place) -> None:
    for member, path in _models(finished):
        told = _metadata(onnx.load(path))
        assert told["boardfront.encoding"] == member["encoding"]
        assert told["boardfront.space"] == "spos"
        assert json.loads(told["boardfront.space_settings"])["stages"] == [[16, 2], [32, 2]]
        assert float(told["boardfront.validation_accuracy"]) == member["validation_accuracy"]
        assert float(told["boardfront.test_accuracy"]) == member["test_accuracy"]
        times = json.loads(told["boardfront.times"])["here"]
        assert times["median_s"] == member["whole"]["here"]["latency"]["median_s"]
        assert times["interval_s"][0] <= times["median_s"] <= times["interval_s"][1]
        target = json.loads(told["boardfront.targets"])["here"]
        assert (target["backend"], target["batch"]) == ("fake", 1)
        assert len(json.loads(told["boardfront.normalisation"])["mean"]) == 1


def test_every_member_is_measured_whole_in_several_processes(finished: Place) -> None:
    members = front(finished.run_folder)["members"]
    lines = finished.run_folder.measurements.read_text().splitlines()
    by_id = {content["id"]: content for content in map(json.loads, lines)}
    for member in members:
        ids = member["whole"]["here"]["measurement_ids"]
        assert len(set(ids)) == PROCESSES
        assert {by_id[i]["purpose"] for i in ids} == {"finalist"}
        assert len({by_id[i]["job_id"] for i in ids}) == PROCESSES
    assert times_measured(finished.store, "finalist") == [PROCESSES] * len(members)
    searched = {
        record.latencies["here"].measurement_id
        for record in journalled(finished.run_folder, records.Evaluation)
    }
    assert searched <= set(by_id)
    for content in by_id.values():
        windows = content["outcome"]["body"]["windows"]
        assert all(window["samples_s"] for window in windows)
        assert content["key"]["origin"] == "programmed"


@pytest.mark.slow
def test_two_targets(place: Place) -> None:
    limited = '[[objective]]\nname = "slow"\nkind = "latency"\ntarget = "slow"\n'
    place.experiment.write_text(
        TWO_TARGETS.replace("[finalists]", f"{limited}limit_ms = 3\n\n[finalists]")
        .replace("population = 5", "population = 4")
        .replace("evaluations = 10", "evaluations = 4")
        .replace("epochs = 3", "epochs = 1")
        .replace("processes = 2", "processes = 1")
    )
    done = place.call("search", "tiny.toml", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["targets"] == ["here", "slow"]
    assert content["members"]
    for member in content["members"]:
        assert set(member["searched"]) == set(member["whole"]) == {"here", "slow"}
        # Programmed, without noise.
        assert member["whole"]["slow"]["latency"]["median_s"] == pytest.approx(0.002)
        assert member["over_limit"] == []
    assert len(evaluated(place.run_folder)) == 4
    header = place.run_folder.front_csv.read_text().splitlines()[0]
    assert "here_median_s" in header
    assert "slow_median_s" in header


@pytest.mark.slow
def test_an_impossible_limit(place: Place) -> None:
    place.experiment.write_text(
        EXPERIMENT.replace('target = "here"', 'target = "here"\nlimit_ms = 0.001')
        .replace("population = 5", "population = 4")
        .replace("evaluations = 10", "evaluations = 4")
        .replace("epochs = 3", "epochs = 1")
    )
    done = place.call("search", "tiny.toml")
    assert done.returncode == 1
    (line,) = errors(done.stderr)
    assert "none of 4 candidates was scored within the limits" in line
    (interrupted,) = journalled(place.run_folder, records.Interrupted)
    assert "within the limits" in interrupted.reason
