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
    """A table that knows its keys, and takes no text for a number."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class SpaceTable(Table):
    """[space]: a name and whatever that space understands."""

    model_config = ConfigDict(extra="allow")
    name: Name


class DataTable(Table):
    """[data]."""

    name: Name
    url: Name | None = None


class TrainingTable(Table):
    """[training]."""

    epochs: int = Field(ge=1)
    batch: int = Field(ge=2)
    learning_rate: Positive
    momentum: BelowOne = 0.9
    weight_decay: float = Field(default=4e-5, ge=0)
    label_smoothing: BelowOne = 0.1
    gradient_clip: Positive = 5.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    augment: bool = True


class SupernetTable(TrainingTable):
    """[supernet]."""

    recalibration_images: int = Field(default=2048, ge=1)


class SearchTable(Table):
    """[search]."""

    algorithm: Name = "nsga2"
    population: int = Field(ge=2)
    evaluations: int = Field(ge=2)
    crossover_probability: Probability = 0.9
    mutation_probability: Probability = 0.8


class TargetTable(Table):
    """[[target]]."""

    name: Name
    device: Devices = ("local",)
    backend: Name
    options: dict[str, OptionText] = Field(default_factory=dict)
    task: Literal["inference", "training-step"] = "inference"
    batch: int = Field(default=1, ge=1)
    precision: Precision = 0.03
    min_duration_s: Positive = 0.3
    cpus: Cpus = ""
    reference: Name = "space"
    verdicts: dict[NotOk, Literal["retry", "accept", "drop"]] = Field(default_factory=dict)
    retries: int = Field(default=2, ge=0)
    cool_down_s: float = Field(default=1.0, ge=0)
    start_below_c: float | None = None


class ObjectiveTable(Table):
    """[[objective]]."""

    name: Name
    kind: Literal["accuracy", "latency"]
    target: Name | None = None
    limit_ms: Positive | None = None


class FinalistsTable(Table):
    """[finalists]."""

    precision: Precision = 0.01
    min_duration_s: Positive = 2.0
    processes: int = Field(default=3, ge=1)


class ExperimentFile(Table):
    """The whole file. Exactly one of `supernet` and `training` says where accuracy comes from."""

    name: Name | None = None
    seed: int = Field(default=1, ge=0)
    space: SpaceTable
    data: DataTable
    supernet: SupernetTable | None = None
    training: TrainingTable | None = None
    search: SearchTable
    target: list[TargetTable] = Field(min_length=1)
    objective: list[ObjectiveTable] = Field(min_length=1)
    finalists: FinalistsTable = Field(default_factory=FinalistsTable)
