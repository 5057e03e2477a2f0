"""A SPOS network as an ONNX graph, written node by node.

Batch norms are kept: whether to fold them is the runtime's business. The channel shuffle is a
four-dimensional Reshape, Transpose, Reshape and a Split, which every runtime tried here takes.
Node and tensor names follow the place in the network and are the same in every process.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from boardfront.search.spaces.spos.plan import BlockPlan, ConvPlan, NetworkPlan

    Weights = Mapping[str, npt.NDArray[np.float32]]

OPSET = 18
IR_VERSION = 10
EPSILON = 1e-5


def write_network(
    plan: NetworkPlan,
    *,
    batch: int,
    weights: Weights | None = None,
    seed: int = 0,
) -> onnx.ModelProto:
    """Write a network in inference form.

    Args:
        plan: Layers of the network.
        batch: Fixed batch size of the input "images" (batch, in_channels, height, width).
        weights: State of the torch module by its names; None draws values from `seed` so that
            activations keep a normal scale: zeros and denormals would distort times.
        seed: Of the drawn values.

    Raises:
        WrongInputError: `batch` is not positive, or `weights` do not fit the network.
    """
    if batch < 1:
        raise WrongInputError(f"batch: expected at least 1, got {batch}")
    if weights is None:
        weights = draw_weights(plan, seed=seed)
    writer = _GraphWriter(weights, batch=batch)
    size = plan.resolution
    features = writer.conv_norm("stem", plan.stem, "images")
    size = plan.stem.output_resolution(size)
    for index, block in enumerate(plan.blocks):
        features = writer.block(f"blocks.{index}", block, features, size)
        size = block.output_resolution(size)
    features = writer.conv_norm("head", plan.head, features)
    pooled = writer.node("GlobalAveragePool", "pool", [features])
    flat = writer.node("Flatten", "flatten", [pooled], axis=1)
    matrix = writer.weight("classifier.weight", (plan.classes, plan.head.outputs))
    writer.node("Gemm", "classifier", [flat, matrix], output="logits", transB=1)
    return writer.finish(
        images=[batch, plan.stem.inputs, plan.resolution, plan.resolution],
        logits=[batch, plan.classes],
    )


def draw_weights(plan: NetworkPlan, *, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Draw normal-scale weights and batch-norm statistics under the torch module's names.

    A convolution before a ReLU has variance 2 / fan_in, one without 1 / fan_in, which keeps the
    second moment of the activations from layer to layer.

    Source: He et al. 2015, "Delving Deep into Rectifiers", section 2.2.
    """
    rng = np.random.Generator(np.random.SFC64(seed))
    weights: dict[str, npt.NDArray[np.float32]] = {}
    for name, conv in _named_convolutions(plan):
        fan_in = conv.inputs // conv.groups
        drawn = rng.standard_normal(
            (conv.outputs, fan_in, conv.kernel, conv.kernel), dtype=np.float32
        )
        drawn *= np.float32(math.sqrt((2 if conv.relu else 1) / (fan_in * conv.kernel**2)))
        weights[f"{name}.conv.weight"] = drawn
        spread = rng.standard_normal((4, conv.outputs), dtype=np.float32)
        spread *= np.float32(0.1)
        weights[f"{name}.norm.weight"] = 1 + spread[0]
        weights[f"{name}.norm.bias"] = spread[1]
        weights[f"{name}.norm.running_mean"] = spread[2]
        weights[f"{name}.norm.running_var"] = 1 + np.abs(spread[3])
    matrix = rng.standard_normal((plan.classes, plan.head.outputs), dtype=np.float32)
    matrix *= np.float32(math.sqrt(1 / plan.head.outputs))
    weights["classifier.weight"] = matrix
    return weights


def _named_convolutions(plan: NetworkPlan) -> list[tuple[str, ConvPlan]]:
    named = [("stem", plan.stem)]
    for index, block in enumerate(plan.blocks):
        for branch, layers in (("projection", block.projection), ("main", block.main)):
            named += [(f"blocks.{index}.{branch}.{i}", conv) for i, conv in enumerate(layers)]
    return [*named, ("head", plan.head)]


class _GraphWriter:
    """Adds nodes and initializers to a model; each method returns its output tensor's name.

    Tensors are written straight into the model: `make_graph` and `make_model` would copy every
    weight twice more, which is most of the time for a network of some million parameters.
    """

    def __init__(self, weights: Weights, *, batch: int) -> None:
        self._model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="boardfront")
        self._model.opset_import.append(helper.make_opsetid("", OPSET))
        self._graph = self._model.graph
        self._graph.name = "spos"
        self._weights = weights
        self._used: set[str] = set()
        self._batch = batch

    def node(
        self, kind: str, name: str, inputs: list[str], output: str = "", **attributes: Any
    ) -> str:
        output = output or f"{name}.out"
        self._graph.node.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def weight(self, name: str, shape: tuple[int, ...]) -> str:
        if name not in self._weights:
            raise WrongInputError(
                f"weights: expected {name!r}, which is not there: pass the state of build()"
            )
        values = np.ascontiguousarray(self._weights[name], dtype=np.float32)
        if values.shape != shape:
            raise WrongInputError(
                f"weights {name!r}: expected shape {shape}, got {values.shape}: "
                "pass the state of build() of the same encoding"
            )
        self._used.add(name)
        self._tensor(name, values.astype("<f4", copy=False), TensorProto.FLOAT)
        return name

    def conv_norm(self, name: str, conv: ConvPlan, features: str) -> str:
        shape = (conv.outputs, conv.inputs // conv.groups, conv.kernel, conv.kernel)
        features = self.node(
            "Conv",
            f"{name}.conv",
            [features, self.weight(f"{name}.conv.weight", shape)],
            kernel_shape=[conv.kernel] * 2,
            strides=[conv.stride] * 2,
            pads=[conv.kernel // 2] * 4,
            group=conv.groups,
        )
        parts = ("weight", "bias", "running_mean", "running_var")
        norm = [self.weight(f"{name}.norm.{part}", (conv.outputs,)) for part in parts]
        features = self.node(
            "BatchNormalization", f"{name}.norm", [features, *norm], epsilon=EPSILON
        )
        return self.node("Relu", f"{name}.relu", [features]) if conv.relu else features

    def block(self, name: str, block: BlockPlan, features: str, size: int) -> str:
        if block.stride == 1:
            passed, worked = self._shuffle_and_split(name, block.inputs, features, size)
        else:
            passed = worked = features
        for index, conv in enumerate(block.projection):
            passed = self.conv_norm(f"{name}.projection.{index}", conv, passed)
        for index, conv in enumerate(block.main):
            worked = self.conv_norm(f"{name}.main.{index}", conv, worked)
        return self.node("Concat", f"{name}.concat", [passed, worked], axis=1)

    def finish(self, *, images: list[int], logits: list[int]) -> onnx.ModelProto:
        """Declare input and output and return the model.

        Raises:
            WrongInputError: A weight has no place in the network.
        """
        for name in self._weights:
            if name not in self._used and not name.endswith(".num_batches_tracked"):
                raise WrongInputError(
                    f"weights {name!r} have no place in this network: "
                    "pass the state of build() of the same encoding"
                )
        float32 = TensorProto.FLOAT
        self._graph.input.append(helper.make_tensor_value_info("images", float32, images))
        self._graph.output.append(helper.make_tensor_value_info("logits", float32, logits))
        return self._model

    def _shuffle_and_split(
        self, name: str, channels: int, features: str, size: int
    ) -> tuple[str, str]:
        half = channels // 2
        pairs = self._integers(f"{name}.pairs", [self._batch, half, 2, size * size])
        whole = self._integers(f"{name}.whole", [self._batch, channels, size, size])
        sizes = self._integers(f"{name}.halves", [half, half])
        features = self.node("Reshape", f"{name}.to_pairs", [features, pairs])
        features = self.node("Transpose", f"{name}.shuffle", [features], perm=[0, 2, 1, 3])
        features = self.node("Reshape", f"{name}.to_whole", [features, whole])
        passed, worked = f"{name}.passed", f"{name}.worked"
        split = helper.make_node(
            "Split", [features, sizes], [passed, worked], name=f"{name}.split", axis=1
        )
        self._graph.node.append(split)
        return passed, worked

    def _integers(self, name: str, values: list[int]) -> str:
        self._tensor(name, np.array(values, dtype="<i8"), TensorProto.INT64)
        return name

    def _tensor(self, name: str, values: npt.NDArray[Any], kind: int) -> None:
        tensor = self._graph.initializer.add()
        tensor.name = name
        tensor.data_type = kind
        tensor.dims.extend(values.shape)
        tensor.raw_data = values.tobytes()
