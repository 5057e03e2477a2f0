"""An experiment as the program uses it: what is searched, where it is timed, for what."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from boardfront.latency_models import strict_json
from boardfront.protos.records import TaskKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from boardfront.search.objective import Objective


@dataclass(frozen=True, kw_only=True, slots=True)
class SpaceChoice:
    """Which space is searched; `settings` are the space's own."""

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataChoice:
    """Which data set is learned; `url` replaces the place that it is fetched from."""

    name: str
    url: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSettings:
    """How each candidate is trained, alone and from scratch.

    Args:
        epochs: Passes over the training images, at least 1.
        batch: Images a step, at least 2.
        learning_rate: The highest one.
        momentum: Of SGD.
        weight_decay: On weight matrices and kernels.
        label_smoothing: Share of the target given to all classes alike.
        gradient_clip: Highest Euclidean norm of the gradient.
        device: "auto", "cpu" or "cuda".
        augment: Whether training images are changed at random.
    """

    epochs: int
    batch: int
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 4e-5
    label_smoothing: float = 0.1
    gradient_clip: float = 5.0
    device: str = "auto"
    augment: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class SupernetSettings(TrainingSettings):
    """How the supernet is trained and used.

    Args:
        recalibration_images: Seen by an architecture's batch normalisation before it is scored.
    """

    recalibration_images: int = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSettings:
    """How long is searched and with what. `evaluations` counts architectures."""

    algorithm: str
    population: int
    evaluations: int
    crossover_probability: float = 0.9
    mutation_probability: float = 0.8


@dataclass(frozen=True, kw_only=True, slots=True)
class TableChoice:
    """Which latency table a search goes by.

    Args:
        name: As the experiment file gives it.
        file: Where it is: that file, or a run's copy of it.
        digest: Of its content, `Table.content_digest`; empty before it was read, see
            `table_part.with_tables`.
    """

    name: str
    file: Path
    digest: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSettings:
    """Where networks are timed during the search, and how closely.

    Args:
        name: By which objectives refer to it.
        device: "local", "HOST:PORT" of an agent, a name in the fleet file, or tags such as
            "soc=rk3588", which mean all boards that have them; several of these make a pool.
        backend: What executes the networks.
        options: Of the backend, as text.
        task: What is timed.
        batch: Images a call.
        precision: Relative half width of the interval at which a look may stop.
        min_duration_s: The shortest look.
        cpus: Cores to run on, e.g. "4-7"; empty takes the device's default.
        reference: What every network is alternated with and divided by: "space" (a network of
            the space, chosen by the seed), "none", or an encoding of the space.
        verdicts: What to do with a time by its verdict: "retry", "accept" or "drop".
        retries: How often a time that is not good enough is measured again.
        cool_down_s: Pause before each of these.
        start_below_c: Wait until the device is no hotter than this.
        table: Predicts the times of the search; the device measures finalists only. None: every
            candidate is measured.
        force_table: Use the table though the device is not as it was when the table was built.
    """

    name: str
    device: str | tuple[str, ...]
    backend: str
    options: Mapping[str, str] = field(default_factory=dict)
    task: TaskKind = TaskKind.INFERENCE
    batch: int = 1
    precision: float = 0.03
    min_duration_s: float = 0.3
    cpus: str = ""
    reference: str = "space"
    verdicts: Mapping[str, str] = field(default_factory=dict)
    retries: int = 2
    cool_down_s: float = 1.0
    start_below_c: float | None = None
    table: TableChoice | None = None
    force_table: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalistSettings:
    """How closely the front is measured in the end; `processes` are fresh ones, one by one."""

    precision: float = 0.01
    min_duration_s: float = 2.0
    processes: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """All that a run needs to know. `config.load_experiment` reads it from a file.

    Of `supernet` and `training` exactly one is there: it says where accuracy comes from.
    """

    name: str
    seed: int
    space: SpaceChoice
    data: DataChoice
    search: SearchSettings
    targets: tuple[TargetSettings, ...]
    objectives: tuple[Objective, ...]
    supernet: SupernetSettings | None = None
    training: TrainingSettings | None = None
    finalists: FinalistSettings = field(default_factory=FinalistSettings)

    def digest(self) -> str:
        """Hash everything that changes the outcome: all but the name and the data's URL.

        Returns:
            A sha256 in 64 hexadecimal digits; equal exactly where `differences` is empty.
        """
        return hashlib.sha256(_text(_view(self)).encode()).hexdigest()


def differences(old: Experiment, new: Experiment) -> tuple[str, ...]:
    """List what two experiments differ in, as far as it changes the outcome.

    Returns:
        One line a key in alphabetical order, e.g. "search.population: 24 -> 32".
    """
    before, after = settings_of(old), settings_of(new)
    return tuple(
        f"{path}: {before.get(path, 'absent')} -> {after.get(path, 'absent')}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    )


def settings_of(experiment: Experiment) -> dict[str, str]:
    """Return everything that changes the outcome by its path in the file, values as text."""
    return dict(_leaves(_view(experiment)))


def _view(experiment: Experiment) -> dict[str, object]:
    """Return what counts, by the names that the experiment file uses.

    What the file leaves out is left out here: digests of before stay what they were. A latency
    table counts by its content, wherever it lies.
    """
    view: dict[str, object] = {
        "seed": experiment.seed,
        "space": strict_json.encode(
            {**experiment.space.settings, "name": experiment.space.name},
            "space",
        ),
        "data": {"name": experiment.data.name},
        "search": strict_json.encode(experiment.search, "search"),
        "target": [_target_view(target) for target in experiment.targets],
        "objective": strict_json.encode(experiment.objectives, "objective"),
        "finalists": strict_json.encode(experiment.finalists, "finalists"),
    }
    if experiment.supernet is not None:
        view["supernet"] = strict_json.encode(experiment.supernet, "supernet")
    if experiment.training is not None:
        view["training"] = strict_json.encode(experiment.training, "training")
    return view


def _target_view(target: TargetSettings) -> dict[str, object]:
    plain = replace(target, table=None)
    view = strict_json.encode(plain, "target")
    assert isinstance(view, dict)  # noqa: S101 - a record encodes to a dict
    del view["table"]
    if target.table is not None:
        view["table"] = target.table.digest
    if not target.force_table:
        del view["force_table"]
    return view


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, value as text); a list of plain values is one value."""
    if isinstance(value, dict) and value:
        for name, entry in value.items():
            yield from _leaves(entry, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        for i, entry in enumerate(value):
            yield from _leaves(entry, f"{path}[{i}]")
    else:
        yield path, _text(value)


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)
