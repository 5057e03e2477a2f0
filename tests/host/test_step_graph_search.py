"""A search for quick training steps on a device without torch: measured, and by a table."""

from __future__ import annotations

import json
import os

import pytest
from tests.host.searching import EXPERIMENT, Place

from boardfront.latency_models.table import Table
from boardfront.protos.records import TaskKind

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

_CORE = str(min(os.sched_getaffinity(0)))
_EXPERIMENT = (
    EXPERIMENT.replace("[[16, 2], [32, 2]]", "[[16, 2]]")
    .replace(
        'backend = "fake"',
        'backend = "onnxruntime"\ntask = "training-step-graph"\nbatch = 2\n'
        f'cpus = "{_CORE}"\nprecision = 0.3\nretries = 0',
    )
    .replace("population = 5", "population = 4")
    .replace("evaluations = 10", "evaluations = 4")
    .replace("epochs = 3", "epochs = 1")
    .replace("precision = 0.05", "precision = 0.3")
    .replace("processes = 2", "processes = 1")
)


def _search(place: Place) -> dict[str, object]:
    done = place.call("search", "tiny.toml", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["members"]
    lines = place.run_folder.measurements.read_text().splitlines()
    kinds = {json.loads(line)["key"]["task"]["kind"] for line in lines}
    assert kinds == {"training-step-graph"}
    return content["members"][0]["searched"]["here"]  # type: ignore[no-any-return]


def test_steps_are_measured_as_graphs(place: Place) -> None:
    place.experiment.write_text(_EXPERIMENT)
    assert not _search(place).get("predicted")


def test_a_table_of_step_graphs_predicts_them(place: Place) -> None:
    table = place.folder / "steps.json"
    text = _EXPERIMENT.replace("[[objective]]", f'table = "{table.name}"\n\n[[objective]]', 1)
    place.experiment.write_text(text)
    built = place.call(
        *("table", "build", "--target", "tiny.toml", "--duration", "0.05", "--rounds", "0"),
        *("--calibration", "3", "--held-out", "4", "--repeats", "0"),
    )
    assert built.returncode == 0, built.stderr
    assert Table.load(table).task.kind is TaskKind.TRAINING_STEP_GRAPH
    assert _search(place)["predicted"]
