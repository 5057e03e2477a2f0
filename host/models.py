"""ONNX files that a person names: read, checked, described for the agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnx


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """An ONNX file and what identifies the network in it.

    Args:
        path: Of the file.
        content: What is sent to a device: without its large weights, unless they were asked for.
        structure_hash: Of the network, with or without weights.
    """

    path: Path
    content: bytes = field(repr=False)
    structure_hash: str


def read_model(
    path: Path,
    *,
    batch: int,
    shapes: Mapping[str, tuple[int, ...]],
    with_weights: bool = False,
) -> ModelFile:
    """Read an ONNX file, and leave its large weights out: times do not depend on them.

    Args:
        path: Of the file.
        batch: Asked batch size; a model whose first dimension is fixed must agree.
        shapes: For its dynamic inputs, by name.
        with_weights: Whether to take the file as it is, for a runtime that makes use of zeros.

    Raises:
        WrongInputError: If there is no such file, it is no ONNX model, shapes do not fit, or what
            is to be sent lies in other files.
    """
    import onnx

    from boardfront.latency_models.structure import structure_hash
    from boardfront.latency_models.weightless import without_weights

    try:
        content = path.read_bytes()
    except OSError as error:
        raise WrongInputError(
            f"cannot read {path}: {error.strerror}: expected an ONNX file"
        ) from error
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise WrongInputError(
            f"{path} is not an ONNX model (no valid protobuf): expected a file written by an "
            "ONNX exporter"
        ) from error
    if not model.graph.node:
        raise WrongInputError(
            f"{path} is not an ONNX model (no nodes in it): expected a file written by an ONNX "
            "exporter"
        )
    _check_inputs(path, model, batch=batch, shapes=shapes)
    if not with_weights:
        content = without_weights(model)
        model = onnx.load_model_from_string(content)
    _refuse_external_data(path, model)
    return ModelFile(path=path, content=content, structure_hash=structure_hash(model))


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Parse `name=1x3x224x224`.

    Raises:
        WrongInputError: If the text has another form.
    """
    name, equals, dimensions = text.rpartition("=")
    parts = dimensions.split("x")
    if not equals or not name or not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise WrongInputError(f"--shape {text!r}: expected NAME=1x3x224x224")
    return name, tuple(int(part) for part in parts)


def parse_option(text: str) -> tuple[str, str]:
    """Parse `key=value`.

    Raises:
        WrongInputError: If the text has another form.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise WrongInputError(f"--option {text!r}: expected KEY=VALUE, e.g. threads=4")
    return key, value


def _refuse_external_data(path: Path, model: onnx.ModelProto) -> None:
    from onnx.external_data_helper import uses_external_data

    outside = [t.name for t in model.graph.initializer if uses_external_data(t)]
    if outside:
        raise WrongInputError(
            f"{path} keeps {len(outside)} tensors in other files: expected one file; save it with "
            "onnx.save(onnx.load(path), path, save_as_external_data=False)"
        )


def _check_inputs(
    path: Path, model: onnx.ModelProto, *, batch: int, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {v.name: _dimensions(v) for v in model.graph.input if v.name not in weights}
    for name in shapes:
        if name not in inputs:
            raise WrongInputError(
                f"--shape {name}: {path} has no such input: expected one of {sorted(inputs)}"
            )
    for name, dimensions in inputs.items():
        _check_input(path, name, dimensions, batch=batch, asked=shapes.get(name))


def _check_input(
    path: Path,
    name: str,
    dimensions: Sequence[int | None],
    *,
    batch: int,
    asked: tuple[int, ...] | None,
) -> None:
    text = "x".join("?" if d is None else str(d) for d in dimensions)
    if asked is not None:
        fits = len(asked) == len(dimensions) and all(
            d is None or d == a for d, a in zip(dimensions, asked, strict=True)
        )
        if not fits:
            raise WrongInputError(
                f"--shape {name}={'x'.join(map(str, asked))} does not fit: {path} has "
                f"{name}={text}"
            )
        return
    if any(d is None for d in dimensions[1:]):
        raise WrongInputError(
            f"input {name} of {path} has dynamic dimensions {text}: give them by "
            f"--shape {name}={text.replace('?', 'N')}"
        )
    if dimensions and dimensions[0] is not None and batch not in {1, dimensions[0]}:
        raise WrongInputError(
            f"--batch {batch} does not fit: {path} has {name}={text}, its batch is fixed; export "
            "it with a dynamic first dimension"
        )


def fixed_batch(content: bytes, batch: int) -> int:
    """Return the batch that is timed: the model's own where it is fixed, else `batch`."""
    import onnx

    model = onnx.load_model_from_string(content)
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in weights:
            dimensions = _dimensions(value)
            if dimensions and dimensions[0] is not None:
                return dimensions[0]
            break
    return batch


def _dimensions(value: onnx.ValueInfoProto) -> list[int | None]:
    return [
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None
        for d in value.type.tensor_type.shape.dim
    ]
