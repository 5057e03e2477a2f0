"""The experiment file's form: which keys each table has and what they may be.

pydantic stays in this module and in `config.py`; the program goes on with `experiment.py`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Precision = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1)]


def _option_text(value: object) -> object:
    """Accept an option as TOML has it; backends take text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _check_cpus(value: str) -> str:
    if value and re.fullmatch(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*", value) is None:
        raise ValueError('expected cores like "4-7" or "0,2"')
    return value


def _devices(value: object) -> object:
    """Take one device or several; what they mean is not known here."""
    several = value if isinstance(value, list) else [value]
    if not several or not all(isinstance(one, str) and one for one in several):
        raise ValueError("expected a device or a list of devices")
    if len(set(several)) < len(several):
        raise ValueError("expected each device once")
    return tuple(several)


NotOk = Literal["unstable", "throttled", "contended", "drifted"]
Cpus = Annotated[str, AfterValidator(_check_cpus)]
Devices = Annotated[tuple[str, ...], BeforeValidator(_devices)]
OptionText = Annotated[str, BeforeValidator(_option_text)]


class Table(BaseModel):
    """A table that knows its keys, and takes no text for a number.

    What stands below a key is its description in the reference; a unit that its name does not say
    stands at the end in brackets.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class SpaceTable(Table):
    """[space]: a name and whatever that space understands."""

    model_config = ConfigDict(extra="allow")
    name: Name
    """The search space: `spos`, `etnas`, or one that a package adds. Its other keys are the
    space's own."""


class DataTable(Table):
    """[data]."""

    name: Name
    """The data set: `digits`, `fashion-mnist`, or one that a package adds."""
    url: Name | None = None
    """Where its files are fetched from instead."""


class TrainingTable(Table):
    """[training]."""

    epochs: int = Field(ge=1)
    """Passes over the training images. [passes]"""
    batch: int = Field(ge=2)
    """Images a step. [images]"""
    learning_rate: Positive
    """The highest one; it falls to zero along a cosine. [per step]"""
    momentum: BelowOne = 0.9
    """Of SGD. [share]"""
    weight_decay: float = Field(default=4e-5, ge=0)
    """On weight matrices and kernels. [per step]"""
    label_smoothing: BelowOne = 0.1
    """Part of the target given to all classes alike. [share]"""
    gradient_clip: Positive = 5.0
    """Highest Euclidean norm of the gradient. [norm]"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What trains: the GPU if there is one, or the one named."""
    augment: bool = True
    """Whether training images are changed at random."""


class SupernetTable(TrainingTable):
    """[supernet]."""

    recalibration_images: int = Field(default=2048, ge=2)
    """Seen by an architecture's batch norms before it is scored. [images]"""


class SearchTable(Table):
    """[search]."""

    algorithm: Name = "nsga2"
    """How candidates are proposed."""
    population: int = Field(ge=2)
    """Networks of a generation. [networks]"""
    evaluations: int = Field(ge=2)
    """Networks that are scored in all. [networks]"""
    crossover_probability: Probability = 0.9
    """That a child has two parents. [share]"""
    mutation_probability: Probability = 0.8
    """That a child is changed. [share]"""


class TargetTable(Table):
    """[[target]]."""

    name: Name
    """What objectives call it."""
    device: Devices = ("local",)
    """`local`, a board's name or tags in the fleet file, `HOST:PORT`, or a list of these: a
    pool."""
    backend: Name
    """What executes the networks: `onnxruntime`, `torch`, `tvm`, or one that a package adds."""
    options: dict[str, OptionText] = Field(default_factory=dict)
    """The backend's own; `boardfront device show NAME` lists them."""
    task: Literal["inference", "training-step", "training-step-graph"] = "inference"
    """What is timed: a forward call, or a step of training, by torch or as a graph that
    `onnxruntime` runs as well."""
    batch: int = Field(default=1, ge=1)
    """Images a call. [images]"""
    precision: Precision = 0.03
    """Half of the 95 % interval over the median at which a look may end. [share]"""
    min_duration_s: Positive = 0.3
    """The shortest look."""
    cpus: Cpus = ""
    """Cores to run on, e.g. `4-7`; empty: the fastest cluster."""
    reference: Name = "space"
    """What each network is sampled in turn with and divided by: `space` (one of the space),
    `none`, or an encoding."""
    verdicts: dict[NotOk, Literal["retry", "accept", "drop"]] = Field(default_factory=dict)
    """What to do with a time by its verdict; all are measured again unless told otherwise."""
    retries: int = Field(default=2, ge=0)
    """How often a time that is not good enough is measured again. [times]"""
    cool_down_s: float = Field(default=1.0, ge=0)
    """Pause before each of these."""
    start_below_c: float | None = None
    """Wait until the device is no hotter than this."""
    table: Name | None = None
    """A latency table (a file, relative to this one) that predicts the times; only finalists are
    measured then."""
    force_table: bool = False
    """Use the table also where the device is not as it was; marks the results."""


class ObjectiveTable(Table):
    """[[objective]]."""

    name: Name
    """What it is called in fronts and reports."""
    kind: Literal["accuracy", "latency"]
    """What is wanted: a high accuracy, or a short time."""
    target: Name | None = None
    """Whose time; of latencies only."""
    limit_ms: Positive | None = None
    """A network above it is not taken; of latencies only."""


class FinalistsTable(Table):
    """[finalists]."""

    precision: Precision = 0.01
    """Asked of each finalist. [share]"""
    min_duration_s: Positive = 2.0
    """The shortest look at each."""
    processes: int = Field(default=3, ge=1)
    """Fresh processes that each is measured in, one by one. [processes]"""


class ExperimentFile(Table):
    """The whole file. Exactly one of `supernet` and `training` says where accuracy comes from."""

    name: Name | None = None
    """Of the run; else the file's name."""
    seed: int = Field(default=1, ge=0)
    """Of every random choice. [none]"""
    space: SpaceTable
    """What is searched."""
    data: DataTable
    """What is learned."""
    supernet: SupernetTable | None = None
    """How the supernet is trained whose weights candidates inherit."""
    training: TrainingTable | None = None
    """How each candidate is trained alone, in place of `[supernet]`."""
    search: SearchTable
    """How long is searched and with what."""
    target: list[TargetTable] = Field(min_length=1)
    """Where networks are timed; repeatable."""
    objective: list[ObjectiveTable] = Field(min_length=1)
    """What a network is wanted for; repeatable."""
    finalists: FinalistsTable = Field(default_factory=FinalistsTable)
    """How closely the front is measured in the end."""
