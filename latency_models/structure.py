"""Name a network by its structure: what it computes on which shapes, not with which weights.

Two exports of one architecture share a hash; a time measured for one is true for the other.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from boardfront.latency_models.onnx_description import (
    Description,
    describe_sparse,
    describe_tensor,
    describe_type,
    describe_value,
)
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def structure_hash(model: onnx.ModelProto) -> str:
    """Hash the canonical graph of `model`.

    Counted: operators and their domains, attributes, wiring, opset versions, shapes and types of
    inputs, outputs and initializers, and the values of integer and boolean tensors of up to 64
    elements (shapes, axes, pads: they steer what is computed). Not counted: names, the values
    of all other tensors, intermediate shapes (they follow from the rest), doc strings, metadata.
    The order of nodes in the file does not count, except between nodes that no chain of
    operators above or below them tells apart.

    Args:
        model: An ONNX model; external weights need not be loaded.

    Returns:
        A sha256 in 64 hexadecimal digits.

    Raises:
        WrongInputError: A node reads a value that nothing produces, or the graph has a cycle.
    """
    opsets = _opsets(model.opset_import)
    functions = sorted(
        json.dumps(
            [
                _domain(f.domain),
                f.name,
                _opsets(f.opset_import),
                _canonical(_function_scope(f), {}),
            ],
        )
        for f in model.functions
    )
    return _digest(["v1", opsets, functions, _canonical(_graph_scope(model.graph), {})])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scope:
    """A graph, a subgraph or a function: what they have in common.

    `inputs` and `outputs` pair a value's name with the description of its type.
    """

    inputs: Sequence[tuple[str, Description]]
    outputs: Sequence[tuple[str, Description]]
    constants: Mapping[str, Description]
    nodes: Sequence[onnx.NodeProto]


def _graph_scope(graph: onnx.GraphProto) -> _Scope:
    constants: dict[str, Description] = {t.name: describe_tensor(t) for t in graph.initializer}
    for sparse in graph.sparse_initializer:
        constants[sparse.values.name] = describe_sparse(sparse)
    symbols: dict[str, int] = {}
    return _Scope(
        inputs=[
            (v.name, describe_type(v.type, symbols))
            for v in graph.input
            if v.name not in constants
        ],
        outputs=[(v.name, describe_type(v.type, symbols)) for v in graph.output],
        constants=constants,
        nodes=graph.node,
    )


def _function_scope(function: onnx.FunctionProto) -> _Scope:
    return _Scope(
        inputs=[(name, None) for name in function.input],
        outputs=[(name, None) for name in function.output],
        constants={},
        nodes=function.node,
    )


def _canonical(scope: _Scope, outer: Mapping[str, Description]) -> Description:
    """Describe a scope by lists of plain values, with every value numbered in canonical order."""
    leaves: dict[str, Description] = {name: ["outer", what] for name, what in outer.items()}
    leaves.update({name: ["constant", what] for name, what in scope.constants.items()})
    leaves.update(
        {name: ["input", i, what] for i, (name, what) in enumerate(scope.inputs)},
    )
    parts = [_Node.of(node) for node in scope.nodes]
    keys = _node_keys(parts, leaves, scope.outputs)
    numbers = {name: i for i, (name, _) in enumerate(scope.inputs)}
    lines = [
        [parts[i].what, [_number(name, numbers, leaves) for name in parts[i].reads], made]
        for i, made in _canonical_order(parts, keys, numbers)
    ]
    outputs = [[_number(name, numbers, leaves), what] for name, what in scope.outputs]
    return [[what for _, what in scope.inputs], lines, outputs]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Node:
    """One node: its own description, all that it reads, all that it makes ("" is left out)."""

    what: Description
    reads: tuple[str, ...]
    makes: tuple[str, ...]

    @classmethod
    def of(cls, node: onnx.NodeProto) -> _Node:
        captured = _captured(node)
        labels: dict[str, Description] = {name: i for i, name in enumerate(captured)}
        attributes = sorted(
            (json.dumps([a.name, _attribute(a, labels)]) for a in node.attribute),
        )
        return cls(
            what=[_domain(node.domain), node.op_type, node.overload, attributes],
            reads=(*node.input, *captured),
            makes=tuple(node.output),
        )


def _number(name: str, numbers: dict[str, int], leaves: Mapping[str, Description]) -> object:
    """Return a value's number; a constant is described in full where it is first read."""
    if name == "":
        return None
    if name in numbers:
        return numbers[name]
    numbers[name] = len(numbers)
    return [numbers[name], leaves[name]]


def _node_keys(
    parts: Sequence[_Node],
    leaves: Mapping[str, Description],
    outputs: Sequence[tuple[str, Description]],
) -> list[str]:
    """Give each node a key from everything above it and everything below it."""
    order = _file_independent_order(parts, leaves)
    above = {name: _digest(what) for name, what in leaves.items()}
    above[""] = ""
    for i in order:
        digest = _digest([parts[i].what, [above[name] for name in parts[i].reads]])
        above.update({name: f"{digest}.{k}" for k, name in enumerate(parts[i].makes) if name})
    _check_known([name for name, _ in outputs], above)
    readers: dict[str, list[str]] = {}
    for k, (name, what) in enumerate(outputs):
        readers.setdefault(name, []).append(_digest(["output", k, what]))
    keys = [""] * len(parts)
    for i in reversed(order):
        below = [sorted(readers.get(name, [])) for name in parts[i].makes]
        reads = [above[name] for name in parts[i].reads]
        keys[i] = _digest([parts[i].what, reads, below])
        for k, name in enumerate(parts[i].reads):
            readers.setdefault(name, []).append(f"{keys[i]}.{k}")
    return keys


def _file_independent_order(
    parts: Sequence[_Node],
    leaves: Mapping[str, Description],
) -> list[int]:
    """Return node indices in some order in which every value is made before it is read."""
    makers = {name: i for i, part in enumerate(parts) for name in part.makes if name}
    known = makers.keys() | leaves.keys()
    waiting: list[int] = []
    readers: dict[int, list[int]] = {}
    for i, part in enumerate(parts):
        _check_known(part.reads, known)
        sources = {makers[name] for name in part.reads if name in makers and name not in leaves}
        waiting.append(len(sources))
        for source in sources:
            readers.setdefault(source, []).append(i)
    order = [i for i, count in enumerate(waiting) if count == 0]
    for i in order:
        for reader in readers.get(i, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                order.append(reader)
    if len(order) < len(parts):
        raise WrongInputError(
            f"expected a graph without cycles, got one among {len(parts) - len(order)} nodes: "
            "export the model again and run onnx.checker on it",
        )
    return order


def _canonical_order(
    parts: Sequence[_Node],
    keys: Sequence[str],
    numbers: dict[str, int],
) -> Iterable[tuple[int, list[int | None]]]:
    """Yield nodes, and the numbers of what they make, by key and then by what they read."""
    makers = {name: i for i, part in enumerate(parts) for name in part.makes if name}
    waiting = [{makers[name] for name in part.reads if name in makers} for part in parts]
    readers: dict[int, list[int]] = {}
    ready: list[tuple[str, list[int], int]] = []
    for i, sources in enumerate(waiting):
        for source in sources:
            readers.setdefault(source, []).append(i)
        if not sources:
            heapq.heappush(ready, (keys[i], [], i))
    while ready:
        _, _, i = heapq.heappop(ready)
        yield i, [_make(name, numbers) for name in parts[i].makes]
        for reader in readers.get(i, ()):
            waiting[reader].discard(i)
            if not waiting[reader]:
                reads = [numbers.get(name, -1) for name in parts[reader].reads]
                heapq.heappush(ready, (keys[reader], reads, reader))


def _make(name: str, numbers: dict[str, int]) -> int | None:
    if name == "":
        return None
    return numbers.setdefault(name, len(numbers))


def _check_known(names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name and name not in known:
            raise WrongInputError(
                f"expected every value to be an input, a constant or a node's output, got "
                f"{name!r}: export the model again and run onnx.checker on it",
            )


def _captured(node: onnx.NodeProto) -> list[str]:
    """List the outer values that a node's subgraphs read, in the order of first reading."""
    captured: dict[str, None] = {}
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            captured.update(dict.fromkeys(_free_names(graph)))
    return list(captured)


def _free_names(graph: onnx.GraphProto) -> list[str]:
    own = {v.name for v in graph.input} | {t.name for t in graph.initializer} | {""}
    own |= {t.values.name for t in graph.sparse_initializer}
    own |= {name for node in graph.node for name in node.output}
    read = [name for node in graph.node for name in (*node.input, *_captured(node))]
    return [name for name in (*read, *(v.name for v in graph.output)) if name not in own]


def _attribute(attribute: onnx.AttributeProto, outer: Mapping[str, Description]) -> Description:
    kind = onnx.AttributeProto.AttributeType.Name(attribute.type)
    value: Description
    if attribute.ref_attr_name:
        value = ["reference", attribute.ref_attr_name]
    elif attribute.name in {"value_float", "value_floats"}:
        value = len(attribute.floats)  # the weights of a Constant, by their shape alone
    elif kind in {"GRAPH", "GRAPHS"}:
        graphs = [attribute.g] if kind == "GRAPH" else attribute.graphs
        value = [_canonical(_graph_scope(graph), outer) for graph in graphs]
    elif kind in {"TENSOR", "TENSORS"}:
        value = [
            describe_tensor(t) for t in ([attribute.t] if kind == "TENSOR" else attribute.tensors)
        ]
    elif kind == "SPARSE_TENSOR":
        value = describe_sparse(attribute.sparse_tensor)
    else:
        value = describe_value(onnx.helper.get_attribute_value(attribute))
    return [kind, value]


def _opsets(entries: Iterable[onnx.OperatorSetIdProto]) -> list[tuple[str, int]]:
    return sorted({(_domain(entry.domain), entry.version) for entry in entries})


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _digest(what: Description) -> str:
    return hashlib.sha256(json.dumps(what, separators=(",", ":")).encode()).hexdigest()
