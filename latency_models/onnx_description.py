"""Describe the parts of an ONNX graph by plain JSON values, without names and weights."""

from __future__ import annotations

import onnx
import onnx.numpy_helper

from boardfront.protos.errors import WrongInputError

Description = object
"""A JSON value. The type is recursive, and mypy needs no more than that it can be serialised."""

_MAX_COUNTED_ELEMENTS = 64
_COUNTED_TYPES = frozenset(
    {onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.BOOL},
)


def describe_value(value: object) -> Description:
    """Describe an attribute's value that holds no tensor and no graph."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int | float | str):
        return value
    if isinstance(value, onnx.TypeProto):
        return describe_type(value, {})
    if hasattr(value, "__iter__"):
        return [describe_value(entry) for entry in value]
    raise WrongInputError(
        f"expected attributes of the ONNX standard's types, got {type(value).__name__}: "
        "export the model without this attribute",
    )


def describe_tensor(tensor: onnx.TensorProto) -> Description:
    """Describe a tensor by type and shape, and by value where it steers what is computed."""
    dims = list(tensor.dims)
    elements = 1
    for dim in dims:
        elements *= dim
    inside = tensor.data_location != onnx.TensorProto.EXTERNAL
    if inside and elements <= _MAX_COUNTED_ELEMENTS and tensor.data_type in _COUNTED_TYPES:
        values = onnx.numpy_helper.to_array(tensor).astype(int).ravel().tolist()
        return [tensor.data_type, dims, values]
    return [tensor.data_type, dims]


def describe_sparse(sparse: onnx.SparseTensorProto) -> Description:
    """Describe a sparse tensor by type, shape and number of elements."""
    return ["sparse", list(sparse.dims), list(sparse.values.dims), sparse.values.data_type]


def describe_type(what: onnx.TypeProto, symbols: dict[str, int]) -> Description:
    """Describe a type; symbolic dimensions are numbered by `symbols` in order of appearance."""
    kind = what.WhichOneof("value")
    if kind != "tensor_type":
        return [kind, what.SerializeToString(deterministic=True).hex()]
    tensor = what.tensor_type
    if not tensor.HasField("shape"):
        return [tensor.elem_type, None]
    return [tensor.elem_type, [_dimension(dim, symbols) for dim in tensor.shape.dim]]


def _dimension(
    dim: onnx.TensorShapeProto.Dimension,
    symbols: dict[str, int],
) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value
    if dim.dim_param:
        return f"symbol {symbols.setdefault(dim.dim_param, len(symbols))}"
    return None
