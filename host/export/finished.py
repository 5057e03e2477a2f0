"""What a finished run left behind, as far as an export needs it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boardfront.host import journal_records as records
from boardfront.host.config import recall_experiment
from boardfront.host.journal import is_written, read_journal
from boardfront.latency_models import strict_json
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.search.evaluation import Latency

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.host.experiment import Experiment, TargetSettings
    from boardfront.host.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A network of the front.

    Args:
        index: Its place in the front, from 0.
        encoding: The architecture.
        params: Trainable parameters.
        macs: Multiply-accumulates for one image.
        validation_accuracy: By which it was searched, a fraction.
        test_accuracy: Of images that no choice was made on, a fraction.
        times: Measured whole at the run's end, by target; those that failed are missing.
        process_medians_s: By target, one a fresh process.
        measurement_ids: Of these processes, by target.
        failures: Why there is no time, by target.
        over_limit: Targets whose hard limit the time breaks.
        model: Its ONNX file, relative to the run's folder.
    """

    index: int
    encoding: str
    params: int
    macs: int
    validation_accuracy: float
    test_accuracy: float
    times: Mapping[str, Latency]
    process_medians_s: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    measurement_ids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    over_limit: tuple[str, ...] = ()
    model: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedRun:
    """A run that reached its end.

    Args:
        folder: The run's.
        experiment: That was run.
        experiment_digest: Of all in it that changes the outcome.
        members: Of the front, fastest in the search first.
        accuracy_of: Which weights the accuracies are of: "supernet" or "short-training".
        state_id: Of the estimator that scored the members.
        versions: Of the libraries that the run ended with.
        references: By target, what its times were divided by.
    """

    folder: RunFolder
    experiment: Experiment
    experiment_digest: str
    members: tuple[Member, ...]
    accuracy_of: str
    state_id: str
    versions: Mapping[str, str]
    references: Mapping[str, records.ReferenceTimed]

    def target(self, name: str) -> TargetSettings:
        """Return a target by its name; the first one for an empty name.

        Raises:
            WrongInputError: If there is none of that name.
        """
        targets = {target.name: target for target in self.experiment.targets}
        if not name:
            return self.experiment.targets[0]
        if name not in targets:
            raise WrongInputError(
                f"--target {name!r}: expected a target of {self.folder.path.name}: "
                f"{', '.join(targets)}"
            )
        return targets[name]

    def measurements(self, member: Member, target: str) -> list[dict[str, Any]]:
        """Return the raw records of a member's processes on a target; none where they are gone."""
        wanted = set(member.measurement_ids.get(target, ()))
        try:
            lines = self.folder.measurements.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        found = (json.loads(line) for line in lines if line)
        return [one for one in found if one.get("id") in wanted]


def read_finished(folder: RunFolder) -> FinishedRun:
    """Read a run that reached its end.

    Raises:
        WrongInputError: If it did not, or its files cannot be read.
    """
    history = read_journal(folder.journal).records if folder.journal.exists() else ()
    if not any(_is_end(record) for record in history) or not folder.front_json.exists():
        raise WrongInputError(_unfinished(folder))
    try:
        text = folder.experiment.read_text(encoding="utf-8")
        content = json.loads(folder.front_json.read_text(encoding="utf-8"))
        members = tuple(_member(entry) for entry in content["members"])
        accuracy_of = str(content["accuracy_of"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise WrongInputError(
            f"{folder.front_json}: expected the front of a finished run, got {problem}: resume "
            f"the run, which writes it again: boardfront search --resume {folder.path}"
        ) from problem
    if not members:
        raise BoardfrontError(
            f"{folder.path.name} has an empty front: expected a member to export"
        )
    starts = [record for record in history if isinstance(record, records.RunStarted)]
    ready = [record for record in history if isinstance(record, records.EstimatorReady)]
    return FinishedRun(
        folder=folder,
        experiment=recall_experiment(text, file=str(folder.experiment)),
        experiment_digest=starts[-1].experiment_digest if starts else "",
        members=members,
        accuracy_of=accuracy_of,
        state_id=ready[-1].state_id if ready else "",
        versions=starts[-1].versions if starts else {},
        references={
            record.target: record
            for record in history
            if isinstance(record, records.ReferenceTimed)
        },
    )


def _is_end(record: object) -> bool:
    return isinstance(record, records.RunFinished) and record.status is records.RunStatus.COMPLETED


def _unfinished(folder: RunFolder) -> str:
    if is_written(folder.journal):
        return f"{folder.path.name} goes on: expected a finished run; wait for its end"
    return (
        f"{folder.path.name} did not reach its end: expected a finished run; go on with: "
        f"boardfront search --resume {folder.path}"
    )


def _member(entry: Mapping[str, Any]) -> Member:
    whole = entry["whole"]
    timed = {name: time for name, time in whole.items() if time["latency"] is not None}
    return Member(
        index=entry["index"],
        encoding=entry["encoding"],
        params=entry["counts"]["params"],
        macs=entry["counts"]["macs"],
        validation_accuracy=entry["validation_accuracy"],
        test_accuracy=entry["test_accuracy"],
        times={
            name: strict_json.decode(Latency, time["latency"], f"whole.{name}")
            for name, time in timed.items()
        },
        process_medians_s={name: tuple(time["process_medians_s"]) for name, time in timed.items()},
        measurement_ids={name: tuple(time["measurement_ids"]) for name, time in timed.items()},
        failures={
            name: time["failure"]["message"]
            for name, time in whole.items()
            if time["latency"] is None and time["failure"] is not None
        },
        over_limit=tuple(entry["over_limit"]),
        model=entry["model"],
    )
