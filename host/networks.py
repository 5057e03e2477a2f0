"""What a person asks to have timed: an ONNX file, or an architecture of a space."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from boardfront.host.models import fixed_batch, read_model
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import Task, TaskKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boardfront.search.space import NetworkSpace

_SUFFIX = ".onnx"


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkChoice:
    """What was named.

    Args:
        text: Path of an ONNX file, or an encoding.
        space: The encoding's space; empty for a file.
        settings: Of the space.
    """

    text: str
    space: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskChoice:
    """What shall be timed of it.

    Args:
        kind: Inference, or a step of training.
        batch: Images at once, where the file does not fix it.
        frozen_stages: Stages from the input on whose parameters a step does not update.
        shapes: Of dynamic inputs, by name.
        with_weights: Send a file as it is instead of weightless.
    """

    kind: TaskKind = TaskKind.INFERENCE
    batch: int = 1
    frozen_stages: int = 0
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    with_weights: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A network ready to be sent, and the task in full."""

    label: str
    content: bytes = field(repr=False)
    structure_hash: str
    task: Task
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def choose(text: str, space: str, settings: Mapping[str, object]) -> NetworkChoice:
    """Return what a positional argument means: a file, or else an encoding of the space.

    Raises:
        WrongInputError: If it is neither.
    """
    if text.endswith(_SUFFIX) or Path(text).is_file():
        return NetworkChoice(text=text)
    if not space:
        raise WrongInputError(
            f"{text!r} is no file: expected an ONNX file, or an encoding together with --space"
        )
    return NetworkChoice(text=text, space=space, settings=settings)


def read_network(choice: NetworkChoice, asked: TaskChoice) -> Network:
    """Read or write the network, and make it a step of training where that is the artifact.

    Raises:
        WrongInputError: If there is no such file, space or encoding, or the task does not fit.
    """
    if asked.frozen_stages and asked.kind is TaskKind.INFERENCE:
        raise WrongInputError(
            f"--frozen-stages {asked.frozen_stages} with task inference: expected a training task"
        )
    found = _of_space(choice, asked) if choice.space else _of_file(choice, asked)
    return _as_step(found) if asked.kind is TaskKind.TRAINING_STEP_GRAPH else found


def _of_space(choice: NetworkChoice, asked: TaskChoice) -> Network:
    from boardfront.latency_models.structure import structure_hash
    from boardfront.search.spaces import catalog

    if asked.shapes:
        raise WrongInputError("--shape with --space: expected a file; a space fixes its shapes")
    space = catalog.load(choice.space, choice.settings)
    space.validate(choice.text)
    network_space = cast("NetworkSpace", space)
    model = network_space.write_onnx(choice.text, batch=asked.batch)
    return Network(
        label=f"{choice.space} {choice.text}",
        content=model.SerializeToString(deterministic=True),
        structure_hash=structure_hash(model),
        task=Task(
            kind=asked.kind,
            batch=asked.batch,
            resolution=network_space.resolution,
            classes=network_space.classes,
            frozen_stages=asked.frozen_stages,
        ),
    )


def _of_file(choice: NetworkChoice, asked: TaskChoice) -> Network:
    path = Path(choice.text)
    model = read_model(
        path, batch=asked.batch, shapes=asked.shapes, with_weights=asked.with_weights
    )
    return Network(
        label=path.name,
        content=model.content,
        structure_hash=model.structure_hash,
        task=Task(
            kind=asked.kind,
            batch=fixed_batch(model.content, asked.batch),
            frozen_stages=asked.frozen_stages,
        ),
        input_shapes=asked.shapes,
    )


def _as_step(network: Network) -> Network:
    """Write one training step of the network as a graph that needs no torch on the device."""
    import onnx

    from boardfront.latency_models.artifact import artifact_of
    from boardfront.latency_models.structure import structure_hash

    step = artifact_of(onnx.load_model_from_string(network.content), network.task)
    return replace(
        network,
        content=step.SerializeToString(deterministic=True),
        structure_hash=structure_hash(step),
    )
