"""A whole search told to both trackers, killed in the middle and gone on with."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.host.searching import EPOCHS, EVALUATIONS, front, journalled
from tests.host.tracking.reading import read_events, read_mlflow

from boardfront.host import journal_records as records

if TYPE_CHECKING:
    from tests.host.searching import Place

pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]


def test_a_search_killed_and_resumed(place: Place) -> None:
    # A database: what MLflow recommends. Its tables take seconds to make, once.
    uri = f"sqlite:///{place.folder / 'mlflow.db'}"
    options = ("--tensorboard", "tb", "--mlflow", uri)
    with place.start("search", "tiny.toml", *options) as running:
        running.until_journalled(records.Evaluation, 3)
        running.signal(signal.SIGKILL)
    done = place.call(*place.resume_arguments(), *options, "--json")
    assert done.returncode == 0, done.stderr
    assert "is told no more" not in done.stderr
    json.loads(done.stdout)

    folder = place.run_folder
    scalars, texts = read_events(place.folder / "tb" / folder.path.name)
    told, metrics, artifacts = read_mlflow(uri, "tiny")
    evaluations = journalled(folder, records.Evaluation)
    wanted = [(one.index, one.validation_accuracy) for one in evaluations]
    assert len(wanted) == EVALUATIONS
    assert metrics["search/accuracy"] == wanted
    # TensorBoard keeps 32 bits of a number.
    assert scalars["search/accuracy"] == [(i, float(np.float32(value))) for i, value in wanted]
    assert [step for step, _ in metrics["training/loss"]] == list(range(1, EPOCHS + 1))
    assert [step for step, _ in scalars["training/loss"]] == list(range(1, EPOCHS + 1))
    assert [step for step, _ in metrics["front/size"]] == [0, 1]
    members = front(folder)["members"]
    assert [value for _, value in metrics["finalists/here/measured_s"]] == [
        member["whole"]["here"]["latency"]["median_s"] for member in members
    ]
    assert set(scalars) == set(metrics)
    assert sorted(texts) == ["experiment/text_summary", "front/text_summary"]
    assert told.info.status == "FINISHED"
    assert artifacts == {"experiment.toml", "front.json", "front.csv"}
