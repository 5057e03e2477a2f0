"""What a training step has to know of an inference graph: nodes, roles of tensors, shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

OLDEST_OPSET = 13
"""Before it, shapes and axes were attributes of operators whose gradients are written here."""

# The inputs that are learned whatever their size, and the running statistics.
_LEARNED: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
}
_STATISTICS: Mapping[str, tuple[int, ...]] = {"BatchNormalization": (3, 4)}

# Elsewhere a number (the 6 of x * relu6(x + 3) / 6) is a constant, and an array is learned.
_ARITHMETIC = ("Add", "Div", "Mul", "Sub")

# Larger floating tensors cannot steer shapes; leaving them out keeps shape inference quick.
_MAX_STEERING_ELEMENTS = 1024

_ELEMENTS: Mapping[int, type[np.floating]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
}


class UnsupportedOperatorError(WrongInputError):
    """The network has an operator whose gradient or training form is not known here.

    Args:
        kind: The operator.
        node: Name of the node.
        why: What is missing, and what to do.
    """

    def __init__(self, kind: str, node: str, why: str) -> None:
        self.kind = kind
        self.node = node
        super().__init__(f"no training step of operator {kind} (node {node!r}): {why}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """An inference graph, read.

    Args:
        nodes: In order of execution, without those of kind Constant.
        images: The one input.
        logits: The one output, (batch, classes).
        opset: Of the standard operators.
        element: TensorProto.FLOAT or TensorProto.DOUBLE, of parameters and activations.
        shapes: Of every tensor whose shape is static.
        parameters: What is learned, in order of first use.
        statistics: Running means and variances, in order of first use.
        constants: Every other initializer.
    """

    nodes: tuple[onnx.NodeProto, ...]
    images: str
    logits: str
    opset: int
    element: int
    shapes: Mapping[str, tuple[int, ...]]
    parameters: tuple[str, ...]
    statistics: tuple[str, ...]
    constants: Mapping[str, onnx.TensorProto]

    @property
    def batch(self) -> int:
        """Images in one step."""
        return self.shape(self.logits)[0]

    @property
    def classes(self) -> int:
        """Number of logits of an image."""
        return self.shape(self.logits)[1]

    @property
    def dtype(self) -> type[np.floating]:
        """Numpy's name of `element`."""
        return _ELEMENTS[self.element]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Raises:
            WrongInputError: It is dynamic.
        """
        if name not in self.shapes:
            raise WrongInputError(
                f"expected static shapes, tensor {name!r} has none: export the network with a "
                "fixed batch and resolution"
            )
        return self.shapes[name]

    def values(self, node: onnx.NodeProto, index: int) -> npt.NDArray[np.generic] | None:
        """Return the values of a node's constant input, None where it is left out.

        Raises:
            UnsupportedOperatorError: They are computed in the graph.
        """
        if len(node.input) <= index or not node.input[index]:
            return None
        name = node.input[index]
        if name not in self.constants:
            raise UnsupportedOperatorError(
                node.op_type, node.name, f"expected input {index} to be a constant, got {name!r}"
            )
        return numpy_helper.to_array(self.constants[name])


def read_network(model: onnx.ModelProto) -> Network:
    """Read an inference graph.

    Raises:
        WrongInputError: It is not an image classifier of one input and one output of logits with
            static shapes, or too old.
    """
    opset = _standard_opset(model)
    nodes, tensors = _lift_constants(model.graph)
    images = [value.name for value in model.graph.input if value.name not in tensors]
    outputs = [value.name for value in model.graph.output]
    if len(images) != 1 or len(outputs) != 1:
        raise WrongInputError(
            f"expected a network of one input and one output, got inputs {images} and outputs "
            f"{outputs}: export the classifier alone"
        )
    parameters, statistics = _roles(nodes, tensors)
    element = _element(tensors, parameters)
    shapes = _shapes(model, nodes, tensors)
    network = Network(
        nodes=nodes,
        images=images[0],
        logits=outputs[0],
        opset=opset,
        element=element,
        shapes=shapes,
        parameters=parameters,
        statistics=statistics,
        constants={
            name: tensor
            for name, tensor in tensors.items()
            if name not in parameters and name not in statistics
        },
    )
    _check_logits(network)
    return network


def _standard_opset(model: onnx.ModelProto) -> int:
    opset = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0)
    if opset < OLDEST_OPSET:
        raise WrongInputError(
            f"expected ONNX operators of version {OLDEST_OPSET} or newer, got {opset}: convert "
            "the file with onnx.version_converter.convert_version(model, 18)"
        )
    return opset


def _lift_constants(
    graph: onnx.GraphProto,
) -> tuple[tuple[onnx.NodeProto, ...], dict[str, onnx.TensorProto]]:
    """Return the nodes without constants, and all constants as tensors."""
    if graph.sparse_initializer:
        raise WrongInputError(
            "expected dense weights, got a sparse initializer: export the network without them"
        )
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant":
            tensors[node.output[0]] = _constant_tensor(node)
        else:
            nodes.append(node)
    return tuple(nodes), tensors


def _constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto:
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.output[0]
        return tensor
    kinds = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}
    if attribute.name not in kinds:
        raise UnsupportedOperatorError(
            "Constant", node.name, f"expected numbers, got the attribute {attribute.name}"
        )
    value = onnx.helper.get_attribute_value(attribute)
    return numpy_helper.from_array(np.array(value, dtype=kinds[attribute.name]), node.output[0])


def _roles(
    nodes: Sequence[onnx.NodeProto], tensors: Mapping[str, onnx.TensorProto]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    parameters: dict[str, None] = {}
    statistics: dict[str, None] = {}
    for node in nodes:
        for index, name in enumerate(node.input):
            if name not in tensors:
                continue
            if index in _STATISTICS.get(node.op_type, ()):
                statistics[name] = None
            elif _learned(node.op_type, index, tensors[name]):
                parameters[name] = None
    return tuple(parameters), tuple(statistics)


def _learned(kind: str, index: int, tensor: onnx.TensorProto) -> bool:
    if tensor.data_type not in _ELEMENTS:
        return False
    return index in _LEARNED.get(kind, ()) or (kind in _ARITHMETIC and math.prod(tensor.dims) > 1)


def _element(tensors: Mapping[str, onnx.TensorProto], parameters: Sequence[str]) -> int:
    found = sorted({tensors[name].data_type for name in parameters})
    if len(found) != 1:
        names = [TensorProto.DataType.Name(kind) for kind in found]
        raise WrongInputError(
            f"expected parameters of one type, FLOAT or DOUBLE, got {names or 'none'}: export "
            "the network in float32"
        )
    return int(found[0])


def _shapes(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    tensors: Mapping[str, onnx.TensorProto],
) -> dict[str, tuple[int, ...]]:
    """Infer shapes on a copy without the weights, which would be copied twice."""
    light = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    light.opset_import.extend(model.opset_import)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(nodes)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    graph.input.extend(value for value in model.graph.input if value.name not in tensors)
    for name, tensor in tensors.items():
        if tensor.data_type in _ELEMENTS and math.prod(tensor.dims) > _MAX_STEERING_ELEMENTS:
            graph.input.append(
                onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            )
        else:
            graph.initializer.append(tensor)
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    shapes = dict(_static(inferred.value_info))
    shapes.update(_static(inferred.input))
    shapes.update(_static(inferred.output))
    shapes.update({name: tuple(tensor.dims) for name, tensor in tensors.items()})
    return shapes


def _static(values: Sequence[onnx.ValueInfoProto]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for value in values:
        kind = value.type.tensor_type
        dims = kind.shape.dim
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            yield value.name, tuple(dim.dim_value for dim in dims)


def _check_logits(network: Network) -> None:
    shape = network.shape(network.logits)
    if len(shape) != 2:
        raise WrongInputError(
            f"expected logits (batch, classes), the output {network.logits!r} has shape "
            f"{shape}: export a classifier"
        )
    last = next((node for node in network.nodes if network.logits in node.output), None)
    if last is not None and last.op_type in {"LogSoftmax", "Softmax"}:
        raise WrongInputError(
            f"expected logits, the network ends in {last.op_type}: export it without; the step "
            "has its own cross-entropy"
        )
