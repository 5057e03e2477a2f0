"""A run as a run of MLflow, written by MLflow's own client."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import time
import warnings
from typing import TYPE_CHECKING

from boardfront.host.tracking.sink import Ending

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from boardfront.host.run_folder import RunFolder
    from boardfront.host.tracking.points import Point

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SETTINGS = {
    # A server that is away costs a run seconds, not its own many retries.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # Nothing runs beside a measurement.
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_ID = "boardfront.id"
_STATUS = {Ending.COMPLETED: "FINISHED", Ending.STOPPED: "KILLED", Ending.FAILED: "FAILED"}
_METRICS_A_CALL = 1000
_PARAMS_A_CALL = 100
_LONGEST_PARAM = 6000


class MlflowSink:
    """Implements `TrackingSink`. A resumed run is found again by a tag.

    Args:
        uri: Of a tracking server, a database (`sqlite:///FILE`), or a folder.
        folder: The run's.
    """

    def __init__(self, uri: str, folder: RunFolder) -> None:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        if uri.startswith("file:") or ":" not in uri:
            # MLflow asks whoever wants a folder to say so; the URI does.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        with _quiet():
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=uri)
            self._run = self._open(folder)

    def known_steps(self) -> Mapping[str, int]:
        """Return what the tracker holds."""
        with _quiet():
            keys = self._client.get_run(self._run).data.metrics
            histories = {key: self._client.get_metric_history(self._run, key) for key in keys}
        return {key: max(one.step for one in history) for key, history in histories.items()}

    def write(self, points: Sequence[Point]) -> None:
        """Log metrics."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = [Metric(one.tag, float(one.value), now_ms, one.step) for one in points]
        with _quiet():
            for start in range(0, len(metrics), _METRICS_A_CALL):
                self._client.log_batch(self._run, metrics=metrics[start : start + _METRICS_A_CALL])

    def finish(self, folder: RunFolder, ending: Ending) -> None:
        """Log the front and set the run's status."""
        with _quiet():
            if ending is Ending.COMPLETED:
                for path in (folder.front_json, folder.front_csv):
                    self._client.log_artifact(self._run, str(path))
            self._client.set_terminated(self._run, _STATUS[ending])

    def close(self) -> None:
        """Do nothing: every call is whole."""

    def _open(self, folder: RunFolder) -> str:
        """Return the id of the run that tells of this folder; a new one where there is none."""
        text = folder.experiment.read_text(encoding="utf-8")
        experiment = self._experiment(_experiment_name(folder))
        own = hashlib.sha256(folder.job_seed.encode()).hexdigest()[:32]
        found = self._client.search_runs([experiment], f"tags.`{_ID}` = '{own}'")
        if found:
            run: str = found[0].info.run_id
            self._client.update_run(run, status="RUNNING")
            return run
        made = self._client.create_run(experiment, run_name=folder.path.name, tags={_ID: own})
        run = made.info.run_id
        self._log_params(run, dict(_flat(tomllib.loads(text))))
        self._client.log_artifact(run, str(folder.experiment))
        return run

    def _experiment(self, name: str) -> str:
        known = self._client.get_experiment_by_name(name)
        made: str = self._client.create_experiment(name) if known is None else known.experiment_id
        return made

    def _log_params(self, run: str, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        params = [Param(name, value[:_LONGEST_PARAM]) for name, value in values.items()]
        for start in range(0, len(params), _PARAMS_A_CALL):
            self._client.log_batch(run, params=params[start : start + _PARAMS_A_CALL])


def _experiment_name(folder: RunFolder) -> str:
    """Return the experiment's name: the folder's without the time at its end."""
    return re.sub(r"-\d{8}-\d{6}(-\d+)?$", "", folder.path.name)


def _flat(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and text of all settings; a table in a list goes by its own name."""
    if isinstance(value, dict) and value:
        for name, entry in value.items():
            yield from _flat(entry, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        for number, entry in enumerate(value):
            yield from _flat(entry, f"{path}.{entry.get('name', number)}")
    else:
        yield re.sub(r"[^\w. /-]", "_", path, flags=re.ASCII), str(value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep a client's warnings about its own insides from the person's screen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
