"""Writing a network as an ONNX graph node by node, with given weights or without any."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from boardfront.protos.errors import WrongInputError
from boardfront.protos.weightless import Note

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from boardfront.search.spaces.conv import ConvPlan

    Weights = Mapping[str, npt.NDArray[np.float32]]

OPSET = 18
IR_VERSION = 10
EPSILON = 1e-5
STAGES_KEY = "boardfront.stages"
"""Metadata of a model: a JSON list of the values that end the stem and each stage, in order."""
SPREAD = 0.1
"""Standard deviation of biases, and of what a batch norm has around its means."""

NORM_MEANS = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
_SEEDS_OF_A_NETWORK = 1 << 20


class GraphWriter:
    """Adds nodes and initializers to a model; each method returns its output tensor's name.

    Tensors are written straight into the model: `make_graph` and `make_model` would copy every
    weight twice more, which is most of the time for a network of some million parameters.

    Args:
        name: Of the graph.
        batch: Fixed batch size.
        weights: State of the torch module by its names; None leaves a note in place of every
            weight (see protos/weightless.py). Filled by them the activations keep a normal
            scale: zeros and denormals would distort times.
        seed: Of the notes, 0 to 2**43 - 1.

    Raises:
        WrongInputError: `batch` is not positive.
    """

    def __init__(self, name: str, *, batch: int, weights: Weights | None, seed: int) -> None:
        if batch < 1:
            raise WrongInputError(f"batch: expected at least 1, got {batch}")
        self._model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="boardfront")
        self._model.opset_import.append(helper.make_opsetid("", OPSET))
        self._graph = self._model.graph
        self._graph.name = name
        self._weights = weights
        self._seed = seed * _SEEDS_OF_A_NETWORK
        self._used: set[str] = set()
        self._stages: list[str] = []

    def end_stage(self, features: str) -> None:
        """Mark a tensor as the end of the stem (the first call) or of the next stage."""
        self._stages.append(features)

    def node(
        self, kind: str, name: str, inputs: list[str], output: str = "", **attributes: Any
    ) -> str:
        """Add a node of one output, which is named after the node unless `output` is given."""
        output = output or f"{name}.out"
        self.nodes(kind, name, inputs, [output], **attributes)
        return output

    def nodes(
        self, kind: str, name: str, inputs: list[str], outputs: list[str], **attributes: Any
    ) -> None:
        """Add a node of several outputs."""
        self._graph.node.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))

    def conv_norm(
        self, name: str, conv: ConvPlan, features: str, *, gain: float | None = None
    ) -> str:
        """Add a convolution, its batch norm, and the ReLU where the plan has one.

        Args:
            name: Of the module; its weights are "NAME.conv.weight" and "NAME.norm.*".
            conv: The layer.
            features: Its input tensor.
            gain: Noted weights have variance gain / fan_in; None takes 2 before a ReLU and 1
                without, which keeps the second moment of the activations from layer to layer.

        Source: He et al. 2015, "Delving Deep into Rectifiers", section 2.2.
        """
        if gain is None:
            gain = 2 if conv.relu else 1
        kernel = self._normal(f"{name}.conv.weight", conv.shape, gain=gain)
        norm = self._norm(f"{name}.norm", conv.outputs)
        features = self.node(
            "Conv",
            f"{name}.conv",
            [features, kernel],
            kernel_shape=[conv.kernel] * 2,
            strides=[conv.stride] * 2,
            pads=[conv.kernel // 2] * 4,
            group=conv.groups,
        )
        features = self.node(
            "BatchNormalization", f"{name}.norm", [features, *norm], epsilon=EPSILON
        )
        return self.node("Relu", f"{name}.relu", [features]) if conv.relu else features

    def classify(self, features: str, *, inputs: int, classes: int, bias: bool) -> None:
        """Add global average pooling and the linear layer "classifier", which gives "logits"."""
        pooled = self.node("GlobalAveragePool", "pool", [features])
        flat = self.node("Flatten", "flatten", [pooled], axis=1)
        terms = [flat, self._normal("classifier.weight", (classes, inputs), gain=1)]
        if bias:
            terms.append(self._bias("classifier.bias", classes))
        self.node("Gemm", "classifier", terms, output="logits", transB=1)

    def integers(self, name: str, values: list[int]) -> str:
        """Add a constant of 64-bit integers."""
        content = np.array(values, dtype="<i8").tobytes()
        self._tensor(name, (len(values),), TensorProto.INT64, content)
        return name

    def finish(self, *, images: list[int], logits: list[int]) -> onnx.ModelProto:
        """Declare input and output shapes and return the model.

        Raises:
            WrongInputError: A weight has no place in the network.
        """
        for name in self._weights or ():
            if name not in self._used and not name.endswith(".num_batches_tracked"):
                raise WrongInputError(
                    f"weights {name!r} have no place in this network: "
                    "pass the state of build() of the same encoding"
                )
        if self._stages:
            self._model.metadata_props.add(key=STAGES_KEY, value=json.dumps(self._stages))
        float32 = TensorProto.FLOAT
        self._graph.input.append(helper.make_tensor_value_info("images", float32, images))
        self._graph.output.append(helper.make_tensor_value_info("logits", float32, logits))
        return self._model

    def _normal(self, name: str, shape: tuple[int, ...], *, gain: float) -> str:
        return self._weight(name, shape, scale=math.sqrt(gain / math.prod(shape[1:])))

    def _norm(self, name: str, channels: int) -> list[str]:
        return [
            self._weight(f"{name}.{part}", (channels,), mean=mean, scale=SPREAD)
            for part, mean in NORM_MEANS.items()
        ]

    def _bias(self, name: str, outputs: int) -> str:
        return self._weight(name, (outputs,), scale=SPREAD)

    def _weight(
        self, name: str, shape: tuple[int, ...], *, scale: float, mean: float = 0.0
    ) -> str:
        """Add a weight: the given one, or a note of mean and standard deviation."""
        self._used.add(name)
        if self._weights is None:
            note = Note(mean=mean, scale=scale, seed=self._seed)
            self._seed += 1
            content = note.to_bytes()
        else:
            content = _given(name, shape, self._weights)
        self._tensor(name, shape, TensorProto.FLOAT, content)
        return name

    def _tensor(self, name: str, shape: tuple[int, ...], kind: int, content: bytes) -> None:
        tensor = self._graph.initializer.add()
        tensor.name = name
        tensor.data_type = kind
        tensor.dims.extend(shape)
        tensor.raw_data = content


def _given(name: str, shape: tuple[int, ...], weights: Weights) -> bytes:
    if name not in weights:
        raise WrongInputError(
            f"weights: expected {name!r}, which is not there: pass the state of build()"
        )
    values = np.ascontiguousarray(weights[name], dtype="<f4")
    if values.shape != shape:
        raise WrongInputError(
            f"weights {name!r}: expected shape {shape}, got {values.shape}: "
            "pass the state of build() of the same encoding"
        )
    return values.tobytes()
