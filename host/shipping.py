"""Writing what a run ends with: models, tables, raw measurements, report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from boardfront.host import front as fronts
from boardfront.host.finalists import write_deployable
from boardfront.latency_models import strict_json
from boardfront.latency_models.outcome_json import outcome_to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch

    from boardfront.host.experiment import Experiment
    from boardfront.host.run_folder import RunFolder
    from boardfront.latency_models.base import Measurement
    from boardfront.latency_models.store import MeasurementStore
    from boardfront.search.evaluation import Candidate
    from boardfront.search.space import NetworkSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipment:
    """Writes a finished run's results into its folder; every file appears whole or not at all.

    Args:
        folder: The run's.
        experiment: That was run.
        space: Of the architectures.
        store: Holds the measurements.
        mean: By which images were normalised, one a channel, pixels from 0 to 1.
        std: Likewise.
        tables: What the search went by, by target, where it did not measure.
    """

    folder: RunFolder
    experiment: Experiment
    space: NetworkSpace
    store: MeasurementStore
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tables: Mapping[str, fronts.TableUse] = field(default_factory=dict)

    def write(
        self,
        members: Sequence[fronts.FrontMember],
        modules: Mapping[str, torch.nn.Module],
        seen: Sequence[Candidate],
    ) -> fronts.FrontReport:
        """Write everything and return the front with its models' names."""
        shipped = tuple(self._write_model(m, modules[m.encoding]) for m in members)
        names = tuple(target.name for target in self.experiment.targets)
        report = fronts.FrontReport(
            name=self.folder.path.name,
            targets=names,
            evaluations=len(seen),
            failures=sum(candidate.failure is not None for candidate in seen),
            members=shipped,
            agreement={name: fronts.order_agreement(shipped, name) for name in names},
            accuracy_of=self._accuracy_of,
            tables=self.tables,
        )
        self._write_measurements(shipped, seen)
        fronts.write_json(self.folder.front_json, report)
        fronts.write_csv(self.folder.front_csv, report)
        fronts.write_report(self.folder.report, report, folder=self.folder.path.name)
        return report

    @property
    def _accuracy_of(self) -> fronts.AccuracyOf:
        if self.experiment.supernet is None:
            return fronts.AccuracyOf.SHORT_TRAINING
        return fronts.AccuracyOf.SUPERNET

    def _write_model(
        self, member: fronts.FrontMember, module: torch.nn.Module
    ) -> fronts.FrontMember:
        batch = self.experiment.targets[0].batch
        model = write_deployable(self.space, member.encoding, module, batch=batch)
        for key, value in self._metadata(member).items():
            entry = model.metadata_props.add()
            entry.key, entry.value = f"boardfront.{key}", value
        name = f"{member.index:02d}-{member.encoding}.onnx"
        _replace(self.folder.models / name, model.SerializeToString(deterministic=True))
        return replace(member, model=f"models/{name}")

    def _metadata(self, member: fronts.FrontMember) -> dict[str, str]:
        times = {
            target: {
                "median_s": whole.latency.median_s,
                "interval_s": [whole.latency.low_s, whole.latency.high_s],
                "verdict": whole.latency.word,
                "searched_s": member.searched[target].median_s,
                "searched_by": "prediction"
                if member.searched[target].predicted
                else "measurement",
            }
            for target, whole in member.whole.items()
            if whole.latency is not None
        }
        targets = {
            target.name: {
                "device": target.device,
                "backend": target.backend,
                "options": dict(target.options),
                "batch": target.batch,
            }
            for target in self.experiment.targets
        }
        return {
            "encoding": member.encoding,
            "space": self.experiment.space.name,
            "space_settings": json.dumps(strict_json.encode(self.experiment.space.settings)),
            "run": self.folder.path.name,
            "data": self.experiment.data.name,
            "normalisation": json.dumps({"mean": self.mean, "std": self.std}),
            "accuracy_of": self._accuracy_of.value,
            "validation_accuracy": repr(member.validation_accuracy),
            "test_accuracy": repr(member.test_accuracy),
            "times": json.dumps(times),
            "targets": json.dumps(targets),
        }

    def _write_measurements(
        self, members: Sequence[fronts.FrontMember], seen: Sequence[Candidate]
    ) -> None:
        ids = {
            latency.measurement_id
            for c in seen
            for latency in c.latencies.values()
            if latency.measurement_id is not None
        }
        for member in members:
            for whole in member.whole.values():
                ids.update(whole.measurement_ids)
        lines = [json.dumps(_to_json(m)) for m in self.store.get(ids)]
        _replace(self.folder.measurements, ("\n".join(lines) + "\n").encode())


def _to_json(measurement: Measurement) -> dict[str, object]:
    return {
        "id": measurement.id,
        "created_unix_s": measurement.created_unix_s,
        "key": strict_json.encode(measurement.key),
        "device_id": measurement.device_id,
        "device_name": measurement.device_name,
        "agent_version": measurement.agent_version,
        "job_id": measurement.job_id,
        "subject_id": measurement.subject_id,
        "purpose": measurement.purpose.value,
        "outcome": outcome_to_json(measurement.outcome),
    }


def _replace(path: Path, content: bytes) -> None:
    part = path.with_suffix(path.suffix + ".part")
    part.write_bytes(content)
    part.replace(path)
