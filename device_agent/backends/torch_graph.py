"""An ONNX graph rebuilt as a torch module that can be trained.

The graph is data: node by node it becomes a call in a `torch.fx` graph, whose straight-line code
torch itself writes. Nothing is unpickled and no code travels. Why the network travels so:
docs/decisions/0008-how-a-training-step-travels.md.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import fx, nn

from boardfront.device_agent.backends.base import BackendError
from boardfront.device_agent.backends.torch_node import Node
from boardfront.device_agent.backends.torch_operators import FRESH, OPERATORS
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

STAGES_KEY = "boardfront.stages"
"""Metadata of a model: a JSON list of the values that end the stem and each stage, in order."""

_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """An input of a network; None stands for a dimension that the graph leaves open."""

    name: str
    shape: tuple[int | None, ...]
    floating: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A rebuilt network.

    Args:
        module: Takes the inputs in order and returns the output, or a tuple where there are more.
        inputs: In order.
        names: From an initializer to its key in the module's state.
        stages: Values that end the stem and each stage; empty where the graph does not say.
    """

    module: fx.GraphModule
    inputs: tuple[Input, ...]
    names: Mapping[str, str]
    stages: tuple[str, ...]


def rebuild(model: onnx.ModelProto, *, frozen_stages: int = 0) -> Network:
    """Rebuild a network with the values of its initializers.

    A float initializer becomes a parameter, but for batch-norm statistics, which become buffers,
    and single numbers that are an operand of arithmetic, which stay constants. All parameters
    are float32.

    Args:
        model: A checked model with its weights.
        frozen_stages: How many stages from the input, the stem being the first, have parameters
            that are not trained. Where nothing before a value is trained, backward stops there.

    Raises:
        BackendError: `unsupported` for an operator that is not known, `invalid_artifact` for a
            graph that is not whole or that does not have so many stages.
    """
    stages = stage_ends(model)
    builder = GraphBuilder(model)
    module = builder.build()
    for name in _frozen(model.graph, stages, frozen_stages):
        for key in builder.keys(name):
            module.get_parameter(key).requires_grad = False
    return Network(module=module, inputs=builder.inputs, names=builder.names, stages=stages)


def stage_ends(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the values that end the stem and each stage, as the model's metadata name them.

    Raises:
        BackendError: `invalid_artifact` for metadata that are not a list of names.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == STAGES_KEY), "[]")
    try:
        ends = json.loads(text)
    except ValueError:
        ends = None
    if not isinstance(ends, list) or not all(isinstance(end, str) for end in ends):
        raise _invalid(f"metadata {STAGES_KEY}: expected a JSON list of values, got {text[:80]!r}")
    return tuple(ends)


class GraphBuilder:
    """Turns nodes into calls; the operators (torch_operators.py) ask it for what they read.

    Args:
        model: A checked model with its weights.

    Raises:
        BackendError: `invalid_artifact` for an input that is not a tensor.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.names: dict[str, str] = {}
        self._model = model
        self._graph = fx.Graph()
        self._root = nn.Module()
        self._values: dict[str, fx.Node] = {}
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._parameters: dict[tuple[str, bool], nn.Parameter] = {}
        self._keys: dict[str, list[str]] = {}
        self._modules = 0
        self._readers = _readers(model.graph)
        self._makers: dict[str, str] = {}
        self.inputs = tuple(
            _input(value) for value in model.graph.input if value.name not in self._constants
        )

    def build(self) -> fx.GraphModule:
        """Return the module of all nodes.

        Raises:
            BackendError: `unsupported` or `invalid_artifact`, naming the node.
        """
        for index, given in enumerate(self.inputs):
            self._values[given.name] = self._graph.placeholder(f"input_{index}")
        for node in self._model.graph.node:
            self._add(node)
        outputs = tuple(self._value(output.name) for output in self._model.graph.output)
        self._graph.output(outputs[0] if len(outputs) == 1 else outputs)
        self._graph.lint()
        return fx.GraphModule(self._root, self._graph)

    def keys(self, name: str) -> Sequence[str]:
        """Return the keys in the module's state of the parameters made of an initializer."""
        return self._keys.get(name, ())

    def call(self, function: Callable[..., Any], *operands: Any, **options: Any) -> fx.Node:
        """Add a call of a function."""
        return self._graph.call_function(function, operands, options)

    def module(
        self, module: nn.Module, features: fx.Node, tensors: Mapping[str, tuple[str, bool]]
    ) -> fx.Node:
        """Add a call of a module.

        Args:
            module: Without values.
            features: Its input.
            tensors: From its attribute to (initializer, whether transposed).
        """
        key = f"m{self._modules}"
        self._modules += 1
        self._root.add_module(key, module)
        for attribute, (name, transposed) in tensors.items():
            if attribute in dict(module.named_buffers(recurse=False)):
                module.register_buffer(attribute, self.tensor(name))
            else:
                setattr(module, attribute, self._parameter(name, transposed=transposed))
                self._keys.setdefault(name, []).append(f"{key}.{attribute}")
            self.names.setdefault(name, f"{key}.{attribute}")
        return self._graph.call_module(key, (features,))

    def value(self, node: Node, index: int) -> fx.Node:
        """Return a computed value that a node reads."""
        return self._value(node.inputs[index], node.title)

    def weight_shape(self, node: Node, index: int) -> tuple[int, ...] | None:
        """Return the shape of the initializer that a node reads, None for a computed value."""
        tensor = self._constants.get(node.inputs[index])
        return None if tensor is None else tuple(tensor.dims)

    def operand(self, node: Node, index: int) -> fx.Node | float:
        """Return an operand of arithmetic: a value, a parameter, or a plain number."""
        name = node.inputs[index]
        if name not in self._constants:
            return self._value(name, node.title)
        tensor = self.tensor(name)
        if tensor.numel() == 1:
            return tensor.item()
        key = f"p{len(self._root._parameters)}"  # noqa: SLF001 - a name that is not taken
        self._root.register_parameter(key, self._parameter(name, transposed=False))
        self._keys.setdefault(name, []).append(key)
        self.names.setdefault(name, key)
        return self._graph.get_attr(key)

    def numbers(self, node: Node, index: int) -> list[Any] | None:
        """Return the numbers of a constant input, or None where it is left out.

        Raises:
            BackendError: `unsupported`: it is computed.
        """
        if len(node.inputs) <= index or not node.inputs[index]:
            return None
        if node.inputs[index] not in self._constants:
            raise node.refused(f"input {index} is computed, expected a constant")
        return self._array(node.inputs[index]).reshape(-1).tolist()

    def tensor(self, name: str) -> torch.Tensor:
        """Return the values of an initializer; all kinds of floats as float32."""
        array = self._array(name)
        return torch.tensor(array.astype(np.float32) if array.dtype.kind == "f" else array)

    def _array(self, name: str) -> npt.NDArray[Any]:
        return numpy_helper.to_array(self._constants[name])

    def _parameter(self, name: str, *, transposed: bool) -> nn.Parameter:
        if (name, transposed) not in self._parameters:
            tensor = self.tensor(name)
            tensor = tensor.T.contiguous() if transposed else tensor
            self._parameters[name, transposed] = nn.Parameter(tensor)
        return self._parameters[name, transposed]

    def _value(self, name: str, reader: str = "the graph's output") -> fx.Node:
        if name not in self._values:
            what = "is a constant" if name in self._constants else "is made by no node before it"
            raise _invalid(f"{reader}: its input {name!r} {what}, expected a computed value")
        return self._values[name]

    def _add(self, proto: onnx.NodeProto) -> None:
        if proto.op_type == "Constant":
            self._constants[proto.output[0]] = _constant(proto)
            return
        node = Node.of(proto, overwrites=self._may_overwrite(proto))
        if node.kind not in OPERATORS:
            raise node.refused(f"no such operator here, expected one of {', '.join(OPERATORS)}")
        made = OPERATORS[node.kind](self, node)
        for name, value in zip(node.outputs, made, strict=False):
            self._values[name] = value
            self._makers[name] = node.kind

    def _may_overwrite(self, proto: onnx.NodeProto) -> bool:
        """Return whether a node may write over its input, as the spaces' own modules do.

        It may where nothing else reads that value, neither forward nor backward.
        """
        source = proto.input[0] if proto.input else ""
        return self._readers[source] == 1 and self._makers.get(source) in FRESH


def _frozen(graph: onnx.GraphProto, stages: Sequence[str], frozen_stages: int) -> Iterator[str]:
    """Yield the names of all constants from the input to the end of the last frozen stage."""
    if not frozen_stages:
        return
    if frozen_stages > len(stages):
        raise _invalid(
            f"{frozen_stages} frozen stages: the network marks {len(stages)} (stem included) in "
            f"its metadata {STAGES_KEY}: freeze fewer, or write the model by one of the spaces"
        )
    makers = {name: node for node in graph.node for name in node.output}
    waiting, seen = [stages[frozen_stages - 1]], set[str]()
    if waiting[0] not in makers:
        raise _invalid(f"metadata {STAGES_KEY}: no node makes {waiting[0]!r}")
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in makers:
            waiting.extend(makers[name].input)
        else:
            yield name


def _readers(graph: onnx.GraphProto) -> Counter[str]:
    read = Counter(name for node in graph.node for name in node.input)
    read.update(output.name for output in graph.output)
    return read


def _input(value: onnx.ValueInfoProto) -> Input:
    if not value.type.HasField("tensor_type"):
        raise _invalid(f"input {value.name!r}: expected a tensor")
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)
    return Input(name=value.name, shape=shape, floating=tensor.elem_type in _FLOATS)


def _constant(node: onnx.NodeProto) -> onnx.TensorProto:
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return cast("onnx.TensorProto", value)
    if attribute.name in {"value_float", "value_floats"}:
        return numpy_helper.from_array(np.array(value, dtype=np.float32))
    if attribute.name in {"value_int", "value_ints"}:
        return numpy_helper.from_array(np.array(value, dtype=np.int64))
    raise BackendError(
        FailureKind.UNSUPPORTED,
        f"node {node.name!r} (Constant): {attribute.name} is not supported, expected numbers",
    )


def _invalid(message: str) -> BackendError:
    return BackendError(FailureKind.INVALID_ARTIFACT, message)
