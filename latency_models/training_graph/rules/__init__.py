"""One gradient an operator: `RULES` is the whole list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.latency_models.training_graph.rules import (
    activations,
    arithmetic,
    conv,
    layout,
    norm,
    pooling,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

    from boardfront.latency_models.training_graph.share import Rule
    from boardfront.latency_models.training_graph.writer import StepWriter

RULES: Mapping[str, Rule] = {
    "Add": arithmetic.add,
    "AveragePool": pooling.average_pool,
    "BatchNormalization": norm.norm,
    "Clip": activations.clip,
    "Concat": layout.concat,
    "Conv": conv.conv,
    "Div": arithmetic.div,
    "Flatten": layout.reshape,
    "Gemm": arithmetic.gemm,
    "GlobalAveragePool": pooling.global_average_pool,
    "HardSigmoid": activations.hard_sigmoid,
    "HardSwish": activations.hard_swish,
    "Identity": layout.same,
    "LeakyRelu": activations.leaky_relu,
    "MatMul": arithmetic.matmul,
    "MaxPool": pooling.max_pool,
    "Mul": arithmetic.mul,
    "Pad": layout.pad,
    "ReduceMean": pooling.reduce_mean,
    "ReduceSum": pooling.reduce_sum,
    "Relu": activations.relu,
    "Reshape": layout.reshape,
    "Sigmoid": activations.sigmoid,
    "Slice": layout.cut,
    "Split": layout.split,
    "Squeeze": layout.reshape,
    "Sub": arithmetic.sub,
    "Sum": arithmetic.add,
    "Tanh": activations.tanh,
    "Transpose": layout.transpose,
    "Unsqueeze": layout.reshape,
}

TRAINING_FORMS: Mapping[str, Callable[[StepWriter, onnx.NodeProto], None]] = {
    "BatchNormalization": norm.write_norm,
}
"""What computes otherwise in training than in inference."""

RANDOM_IN_TRAINING = frozenset({"Dropout"})
"""What would need random numbers: not in a step that has to be the same everywhere."""
