"""Small networks around one operator: images plus a learned offset, the operator, a classifier.

The offset's gradient is the operator's gradient with respect to its argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from tests.latency_models.training_graph import steps

from boardfront.latency_models.training_graph import LOSS, Sgd, next_name, training_step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.latency_models.training_graph.steps import Array, Values

CLASSES = 5

# Without decay the momentum after a first step is the gradient itself.
SGD = Sgd(weight_decay=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """An operator, or a few, in ONNX and in torch.

    Args:
        nodes: From "x" to "y".
        forward: The same in torch, given x and the learned arrays.
        shape: Of x, the batch first.
        learned: Arrays that the nodes read, beside "offset" and the classifier's.
        constants: Numbers and shapes that the nodes read.
        statistics: Running ones, which the torch form moves in place.
        opset: Of the nodes.
    """

    nodes: Sequence[onnx.NodeProto]
    forward: Callable[[torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]
    shape: tuple[int, ...] = (2, 4, 6, 6)
    learned: Mapping[str, Array] | None = None
    constants: Mapping[str, Array] | None = None
    statistics: Mapping[str, Array] | None = None
    opset: int = 18


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **how: Any) -> Any:
    """Make a node named after its first output."""
    return helper.make_node(kind, list(inputs), list(outputs), name=f"{outputs[0]}-node", **how)


def check(case: Case, *, seed: int = 0) -> tuple[float, float]:
    """Compare every gradient and the loss; return the worst error in float32 and in float64."""
    rng = np.random.default_rng(seed)
    state: Values = {"offset": rng.standard_normal(case.shape)}
    state.update(
        {name: np.asarray(v, dtype=np.float64) for name, v in (case.learned or {}).items()}
    )
    statistics = {
        name: np.asarray(v, dtype=np.float64) for name, v in (case.statistics or {}).items()
    }
    images = rng.standard_normal(case.shape)
    labels = rng.integers(0, CLASSES, case.shape[0])
    with torch.no_grad():
        x = torch.from_numpy(images + state["offset"])
        tensors = {name: torch.tensor(value) for name, value in (state | statistics).items()}
        result = case.forward(x, tensors)
    features = result.flatten(1).shape[1]
    state["head"] = rng.standard_normal((features, CLASSES)) / np.sqrt(features)
    model = _model(case, state | statistics, result.flatten(1).shape)
    truth = _truth(case, state, statistics, (images, labels))
    errors = []
    for network, opened in (
        (model, steps.open_float32),
        (steps.as_double(model), steps.open_float64),
    ):
        step = training_step(network, sgd=SGD)
        onnx.checker.check_model(step, full_check=True)
        found = opened(step)(steps.start(step, state | statistics, images, labels))
        assert set(found) == {LOSS, *(next_name(name) for name in truth if name != LOSS)}
        errors.append(
            max(
                steps.distance(found[name if name == LOSS else next_name(name)], true)
                for name, true in truth.items()
            )
        )
    return errors[0], errors[1]


def _truth(case: Case, state: Values, statistics: Values, data: tuple[Array, Array]) -> Values:
    tensors = {
        name: torch.from_numpy(value.copy()).requires_grad_() for name, value in state.items()
    }
    running = {name: torch.tensor(value) for name, value in statistics.items()}
    losses, truth = steps.train(
        lambda x: (
            case.forward(x + tensors["offset"], tensors | running).flatten(1) @ tensors["head"]
        ),
        tensors,
        data,
        SGD,
    )
    truth.update({name: value.numpy() for name, value in running.items()})
    truth[LOSS] = np.array(losses[0])
    return truth


def _model(case: Case, state: Values, flat: Sequence[int]) -> onnx.ModelProto:
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, case.shape)
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, (case.shape[0], CLASSES))
    nodes = [
        node("Add", ["images", "offset"], ["x"]),
        *case.nodes,
        node("Reshape", ["y", "flat"], ["features"]),
        node("MatMul", ["features", "head"], ["logits"]),
    ]
    constants = {"flat": np.array(flat, dtype=np.int64), **(case.constants or {})}
    tensors = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in state.items()]
    tensors += [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "case", [images], [logits], tensors)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=8
    )
