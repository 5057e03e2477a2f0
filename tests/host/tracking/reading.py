"""What trackers were told, read by their own readers."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

if TYPE_CHECKING:
    from pathlib import Path

Scalars = dict[str, list[tuple[int, float]]]


def read_events(folder: Path) -> tuple[Scalars, list[str]]:
    """Return (step, value) of every scalar as they were written, and the tags of texts."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    return scalars, [tag for tag in tags["tensors"] for _ in events.Tensors(tag)]


def mlflow_client(uri: str) -> Any:
    """Return MLflow's own client; its warnings are about itself."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri)


def read_mlflow(uri: str, experiment: str) -> tuple[Any, Scalars, set[str]]:
    """Return the only run of an experiment, its metrics as they were logged, its artifacts."""
    client = mlflow_client(uri)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = client.get_experiment_by_name(experiment)
        (run,) = client.search_runs([found.experiment_id])
        metrics = {
            key: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
        artifacts = {one.path for one in client.list_artifacts(run.info.run_id)}
    return run, metrics, artifacts
