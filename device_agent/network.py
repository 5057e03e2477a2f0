"""Networks as they come: read, checked and given weights before a runtime sees them.

Only workers call this: the agent itself imports no onnx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from boardfront.device_agent.backends.base import BackendError
from boardfront.device_agent.network_checks import (
    DEFAULT_LIMITS,
    NetworkLimits,
    check_network,
    elements,
    invalid,
    parts,
)
from boardfront.protos.errors import InvalidRecordError
from boardfront.protos.records import FailureKind
from boardfront.protos.weightless import STRETCH, Note, is_note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    import onnx

__all__ = ["NetworkLimits", "read_bytes", "read_network"]

_SIGN_AND_MANTISSA = np.uint32(0x807FFFFF)
_EXPONENT_OF_ONE = np.uint32(0x3F800000)

_NUMPY_TYPES = {"FLOAT": "<f4", "DOUBLE": "<f8", "FLOAT16": "<f2"}
_SINGLE = (1.1755e-38, 3.38e38)
_RANGES = {
    # Least normal and greatest number. Values are drawn in single precision.
    "FLOAT": _SINGLE,
    "DOUBLE": _SINGLE,
    "BFLOAT16": _SINGLE,
    "FLOAT16": (6.104e-05, 65504.0),
}


def read_network(artifact: Path, *, limits: NetworkLimits = DEFAULT_LIMITS) -> onnx.ModelProto:
    """Read a network whole: every note in it is replaced by the weights it stands for.

    Args:
        artifact: An ONNX file.
        limits: What is too much, and which operators beside the standard ones may occur.

    Raises:
        BackendError: `invalid_artifact`: it is no ONNX file, keeps data in other files, has
            custom operators, sparse or string tensors, a tensor whose data do not fit its shape,
            a note that cannot be read, or is over the limits; the size is known before anything
            is filled. `unsupported`: the package onnx is not installed.
    """
    model, _ = _read(artifact.read_bytes(), limits)
    return model


def read_bytes(artifact: Path, *, limits: NetworkLimits = DEFAULT_LIMITS) -> bytes:
    """Read a network as `read_network` does, for a runtime that wants a file's content.

    A file without notes is returned as it is.

    Raises:
        BackendError: As `read_network`; `invalid_artifact` also where the content would be over
            2 GiB, more than one ONNX file can hold.
    """
    content = artifact.read_bytes()
    model, filled = _read(content, limits)
    if not filled:
        return content
    try:
        return model.SerializeToString()
    except Exception as error:
        raise invalid(
            f"with its weights the network does not fit into one ONNX file of 2 GiB ({error}): "
            "measure a smaller network"
        ) from error


def _read(content: bytes, limits: NetworkLimits) -> tuple[onnx.ModelProto, int]:
    """Return the network and how many of its tensors were filled."""
    model = _parse(content)
    check_network(model, limits)
    noted = [tensor for tensor in _initializers(model) if is_note(tensor.raw_data)]
    for tensor in noted:
        _fill(tensor)
    return model, len(noted)


def _parse(content: bytes) -> onnx.ModelProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise BackendError(
            FailureKind.UNSUPPORTED,
            f"networks are read by the package onnx, which does not import ({error}): "
            "pip install 'boardfront[onnxruntime]'",
        ) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, UnicodeDecodeError) as error:
        raise invalid(
            "this is not an ONNX model (no valid protobuf): expected a file written by an ONNX "
            "exporter"
        ) from error
    if not model.graph.node:
        raise invalid(
            "this is not an ONNX model (no nodes in it): expected a file written by an ONNX "
            "exporter"
        )
    return model


def _initializers(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for part in parts(model):
        yield from getattr(part, "initializer", ())


def _fill(tensor: onnx.TensorProto) -> None:
    """Put the values that a tensor's note stands for into it."""
    import onnx

    name, kind = repr(tensor.name[:80]), onnx.TensorProto.DataType.Name(tensor.data_type)
    if kind not in _RANGES:
        raise invalid(
            f"initializer {name} of type {kind} has a note: expected one of {sorted(_RANGES)}"
        )
    try:
        note = Note.from_bytes(tensor.raw_data)
    except InvalidRecordError as error:
        raise invalid(f"initializer {name}: {error}") from error
    (least, most), (low, high) = note.magnitudes, _RANGES[kind]
    if not low <= least <= most <= high:
        raise invalid(
            f"initializer {name}: its note asks for values of {least:g} to {most:g}: expected "
            f"between {low:g} and {high:g}, the normal numbers of {kind}"
        )
    tensor.raw_data = _encode(_draw(note, elements(tensor)), kind)


def _draw(note: Note, count: int) -> npt.NDArray[np.float32]:
    """Return the values of a note; see protos/weightless.py."""
    words = np.random.SFC64(note.seed).random_raw(count // 2 + 1)
    bits = words.astype("<u8", copy=False).view("<u4")[:count]
    bits &= _SIGN_AND_MANTISSA
    bits |= _EXPONENT_OF_ONE
    values: npt.NDArray[np.float32] = bits.view("<f4")
    values *= np.float32(STRETCH * note.scale)
    values += np.float32(note.mean)
    return values


def _encode(values: npt.NDArray[np.float32], kind: str) -> bytes:
    if kind == "BFLOAT16":
        return (values.view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype(_NUMPY_TYPES[kind], copy=False).tobytes()
