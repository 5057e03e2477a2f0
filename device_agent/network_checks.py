"""What is refused of a network before any runtime sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from boardfront.device_agent.backends.base import BackendError
from boardfront.protos.records import FailureKind
from boardfront.protos.weightless import is_note

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

    Part: TypeAlias = onnx.GraphProto | onnx.FunctionProto

STANDARD_DOMAINS = frozenset(
    {
        *("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training"),
        *("ai.onnx.preview", "ai.onnx.preview.training"),
    }
)
"""Those of the ONNX standard. Whether it knows an operator of theirs is the runtime's to say."""

_MOST_DIMENSIONS = 32
_MOST_FUNCTIONS = 1000
_BITS = {
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64"), 64),
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 32),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 16),
    **dict.fromkeys(("INT8", "UINT8", "BOOL", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ"), 8),
    **dict.fromkeys(("FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"), 8),
    **dict.fromkeys(("INT4", "UINT4", "FLOAT4E2M1"), 4),
    **dict.fromkeys(("INT2", "UINT2"), 2),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkLimits:
    """What is too much, and what is no custom operator.

    Args:
        filled_bytes: Of all tensors of a network, with the weights that notes stand for.
        nodes: Of all graphs, with local functions written out wherever they are called.
        domains: Of the operators that a runtime brings beside the standard's.
    """

    filled_bytes: int = 4 << 30
    nodes: int = 200_000
    domains: frozenset[str] = frozenset()


DEFAULT_LIMITS = NetworkLimits()


def check_network(model: onnx.ModelProto, limits: NetworkLimits) -> None:
    """Refuse what no runtime is to see. Nothing is filled or opened for it.

    Raises:
        BackendError: `invalid_artifact`: external data, custom operators, sparse or string
            tensors, data that do not fit their shape, or a size over the limits.
    """
    size_bytes = 0
    for part in parts(model):
        _refuse_sparse(part)
        for tensor in getattr(part, "initializer", ()):
            size_bytes += _checked_bytes(tensor, may_be_note=True)
        for tensor in _attribute_tensors(part):
            size_bytes += _checked_bytes(tensor, may_be_note=False)
    if size_bytes > limits.filled_bytes:
        raise invalid(
            f"the network's tensors take {size_bytes} bytes: expected at most "
            f"{limits.filled_bytes}: measure a smaller network"
        )
    _check_operators(model, limits)


def parts(model: onnx.ModelProto) -> Iterator[Part]:
    """Yield every graph and every local function, subgraphs included."""
    tops: list[Part] = [*_top_graphs(model), *model.functions]
    for top in tops:
        yield from _with_subgraphs(top)


def elements(tensor: onnx.TensorProto) -> int:
    """Return how many elements a tensor's shape has."""
    return math.prod(tensor.dims)


def invalid(message: str) -> BackendError:
    """Return the error of an artifact that is refused."""
    return BackendError(FailureKind.INVALID_ARTIFACT, message)


def _top_graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    of_training = [(info.initialization, info.algorithm) for info in model.training_info]
    return [model.graph, *(graph for pair in of_training for graph in pair)]


def _with_subgraphs(top: Part) -> Iterator[Part]:
    pending = [top]
    while pending:
        part = pending.pop()
        yield part
        for attribute in _attributes(part):
            if attribute.HasField("g"):
                pending.append(attribute.g)
            pending.extend(attribute.graphs)


def _attributes(part: Part) -> Iterator[onnx.AttributeProto]:
    for node in part.node:
        yield from node.attribute
    yield from getattr(part, "attribute_proto", ())


def _attribute_tensors(part: Part) -> Iterator[onnx.TensorProto]:
    for attribute in _attributes(part):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors


def _refuse_sparse(part: Part) -> None:
    # A few bytes of one can ask for any amount of memory, once a runtime writes it out.
    if getattr(part, "sparse_initializer", ()) or any(
        attribute.HasField("sparse_tensor") or attribute.sparse_tensors
        for attribute in _attributes(part)
    ):
        raise invalid(
            f"sparse tensors in {part.name[:80]!r}: expected dense ones: convert them first"
        )


def _checked_bytes(tensor: onnx.TensorProto, *, may_be_note: bool) -> int:
    """Return the size of a tensor's values, which its data must have."""
    name = repr(tensor.name[:80])
    _refuse_external(tensor, name)
    bits = _BITS.get(_type_name(tensor))
    if bits is None:
        raise invalid(
            f"tensor {name} is of type {_type_name(tensor)}: expected one of {sorted(_BITS)}"
        )
    dims = list(tensor.dims)
    if len(dims) > _MOST_DIMENSIONS or any(dim < 0 for dim in dims):
        raise invalid(
            f"tensor {name} has the shape {dims[:_MOST_DIMENSIONS]}: expected at most "
            f"{_MOST_DIMENSIONS} dimensions, none negative"
        )
    size_bytes = -(-elements(tensor) * bits // 8)
    raw_data = tensor.raw_data
    if may_be_note and is_note(raw_data):
        return size_bytes
    found_bytes = len(raw_data) if raw_data else _listed_bytes(tensor, bits)
    if found_bytes != size_bytes:
        raise invalid(
            f"tensor {name} of shape {dims} needs {size_bytes} bytes of data, got {found_bytes}: "
            "export the model again"
        )
    return size_bytes


def _refuse_external(tensor: onnx.TensorProto, name: str) -> None:
    if not tensor.data_location and not tensor.external_data:
        return
    locations = [entry.value for entry in tensor.external_data if entry.key == "location"]
    raise invalid(
        f"tensor {name} keeps its data in another file, {(locations or ['unnamed'])[0][:200]!r}: "
        "expected one file with everything in it: save the model without external data"
    )


def _type_name(tensor: onnx.TensorProto) -> str:
    # By way of the descriptor: an installed onnx may be older than the file.
    found = tensor.DESCRIPTOR.enum_types_by_name["DataType"].values_by_number.get(tensor.data_type)
    return str(tensor.data_type) if found is None else str(found.name)


def _listed_bytes(tensor: onnx.TensorProto, bits: int) -> int:
    """Return the size of values that stand in a typed list: one entry each, or packed in bytes."""
    entries = max(
        *(len(tensor.float_data), len(tensor.int32_data), len(tensor.int64_data)),
        *(len(tensor.double_data), len(tensor.uint64_data)),
    )
    return entries * max(bits, 8) // 8


def _check_operators(model: onnx.ModelProto, limits: NetworkLimits) -> None:
    """Refuse custom operators and too many nodes."""
    known = STANDARD_DOMAINS | limits.domains
    local = _local_functions(model, known)
    for part in parts(model):
        for node in part.node:
            if node.domain not in known and _called(node) not in local:
                raise invalid(
                    f"operator {node.op_type[:80]!r} of domain {node.domain[:80]!r} is a custom "
                    f"one: expected the ONNX standard's{_besides(limits)}"
                )
    nodes = _count_nodes(model, local)
    if nodes > limits.nodes:
        raise invalid(f"{nodes} nodes: expected at most {limits.nodes}: measure a smaller network")


def _besides(limits: NetworkLimits) -> str:
    return f" or one of {sorted(limits.domains)}" if limits.domains else ""


_Function: TypeAlias = tuple[str, str, str]


def _called(node: onnx.NodeProto) -> _Function:
    return (node.domain, node.op_type, node.overload)


def _local_functions(
    model: onnx.ModelProto, known: frozenset[str]
) -> Mapping[_Function, onnx.FunctionProto]:
    if len(model.functions) > _MOST_FUNCTIONS:
        raise invalid(
            f"{len(model.functions)} local functions: expected at most {_MOST_FUNCTIONS}"
        )
    for function in model.functions:
        if function.domain in known:
            raise invalid(
                f"local function {function.name[:80]!r} is of the domain {function.domain!r}, "
                "which is not its own: expected a name that hides no standard operator"
            )
    return {(f.domain, f.name, f.overload): f for f in model.functions}


def _count_nodes(model: onnx.ModelProto, local: Mapping[_Function, onnx.FunctionProto]) -> int:
    """Count the nodes that are left when every call is replaced by the function's body."""
    calls = {key: _nodes_below(function) for key, function in local.items()}
    sizes: dict[_Function, int] = {}
    while len(sizes) < len(calls):
        ready = [
            key
            for key, nodes in calls.items()
            if key not in sizes and all(n in sizes or n not in calls for n in nodes)
        ]
        if not ready:
            stuck = next(key for key in calls if key not in sizes)
            raise invalid(
                f"local function {stuck[1][:80]!r} calls itself: expected none that does"
            )
        for key in ready:
            sizes[key] = sum(sizes.get(node, 1) for node in calls[key])
    return sum(sizes.get(node, 1) for graph in _top_graphs(model) for node in _nodes_below(graph))


def _nodes_below(top: Part) -> list[_Function]:
    """List what the nodes of a graph or function call, those of its subgraphs included."""
    return [_called(node) for part in _with_subgraphs(top) for node in part.node]
