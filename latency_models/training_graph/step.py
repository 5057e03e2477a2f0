"""A training step as one ONNX graph, by differentiating the inference graph.

The graph's inputs are images, labels, every parameter, its momentum buffer and every running
statistic; its outputs the loss and what of these the step has changed. See
docs/decisions/0009-the-portable-training-step.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from boardfront.latency_models.training_graph.inputs import describe_inputs
from boardfront.latency_models.training_graph.names import (
    INPUTS_KEY,
    LABELS,
    LOSS,
    TASK_KEY,
    momentum_name,
    next_name,
)
from boardfront.latency_models.training_graph.network import (
    Network,
    UnsupportedOperatorError,
    read_network,
)
from boardfront.latency_models.training_graph.rules import (
    RANDOM_IN_TRAINING,
    RULES,
    TRAINING_FORMS,
)
from boardfront.latency_models.training_graph.share import Share
from boardfront.latency_models.training_graph.writer import StepWriter
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import TaskKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, MutableSequence, Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Sgd:
    """Stochastic gradient descent as torch has it, without dampening or Nesterov.

    Args:
        learning_rate: Above 0.
        momentum: From 0 to below 1.
        weight_decay: At least 0; on every parameter.

    Raises:
        WrongInputError: A number lies outside its range.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 4e-5

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf"):
            raise WrongInputError(f"learning_rate: expected above 0, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise WrongInputError(f"momentum: expected from 0 to below 1, got {self.momentum}")
        if not 0 <= self.weight_decay < float("inf"):
            raise WrongInputError(f"weight_decay: expected at least 0, got {self.weight_decay}")


def training_step(
    model: onnx.ModelProto, *, sgd: Sgd | None = None, frozen: Collection[str] = ()
) -> onnx.ModelProto:
    """Write one training step of a classifier.

    Forward in training mode, cross-entropy averaged over the batch, backward, SGD with momentum
    and weight decay, batch-norm statistics moved. Weights of `model` are not read, only their
    shapes: a file whose weights are notes will do.

    Args:
        model: Inference graph of fixed shapes whose one output is logits (batch, classes).
            Learned are weights of Conv, Gemm, MatMul and BatchNormalization, and arrays in sums
            and products; batch norms that were folded into convolutions are gone and are not
            trained.
        sgd: Its numbers, constants of the graph.
        frozen: Parameters that stay as they are; they are inputs only, and the backward pass
            ends where nothing before it learns. Batch-norm statistics move all the same.

    Returns:
        A model without weights. Inputs: the network's own; "labels", int64 (batch,); parameters
        and statistics by their names; "momentum/NAME" of every parameter that learns. Outputs:
        "loss", a number; "next/NAME" of everything that has a next value.

    Raises:
        UnsupportedOperatorError: An operator's gradient or training form is not known.
        WrongInputError: `model` is no such classifier, or `frozen` names no parameter of it.
    """
    network = read_network(model)
    _check_names(network, frozen)
    step = StepWriter(network)
    _write_forward(step)
    slope = _write_loss(step)
    learning = [name for name in network.parameters if name not in frozen]
    gradients = _write_backward(step, slope, learning)
    trained = [name for name in learning if name in gradients]
    for name in trained:
        _write_update(step, name, gradients[name], sgd or Sgd())
    return _finish(model, step, trained)


def _check_names(network: Network, frozen: Collection[str]) -> None:
    strange = sorted(set(frozen) - set(network.parameters))
    if strange:
        raise WrongInputError(
            f"frozen: expected names of parameters such as {network.parameters[0]!r}, got "
            f"{strange[0]!r}"
        )
    taken = {name for node in network.nodes for name in (*node.input, *node.output)}
    for name in (LABELS, LOSS):
        if name in taken:
            raise WrongInputError(
                f"expected a network without a tensor called {name!r}, which the step needs: "
                "rename it"
            )


def _write_forward(step: StepWriter) -> None:
    for node in step.network.nodes:
        step.owner = node.name or node.output[0]
        if node.op_type in RANDOM_IN_TRAINING:
            raise UnsupportedOperatorError(
                node.op_type, node.name, "it is random in training: export the network without it"
            )
        if node.op_type in TRAINING_FORMS and node.domain in {"", "ai.onnx"}:
            TRAINING_FORMS[node.op_type](step, node)
        else:
            step.copy(node)


def _write_loss(step: StepWriter) -> str:
    """Write the cross-entropy; return its gradient with respect to the logits."""
    network = step.network
    step.owner = LOSS
    share = 1 / network.batch
    classes = step.tensor(np.arange(network.classes, dtype=np.int64)[None])
    labels = step.reshape(LABELS, (network.batch, 1))
    chosen = step.to_number(step.op("Equal", labels, classes))
    logs = step.op("LogSoftmax", network.logits, axis=1)
    hits = step.total(step.op("Mul", logs, chosen), (0, 1))
    step.op("Mul", hits, step.number(-share), output=LOSS)
    return step.scale(step.op("Sub", step.op("Exp", logs), chosen), share)


def _write_backward(step: StepWriter, slope: str, learning: Iterable[str]) -> dict[str, str]:
    """Go through the nodes from last to first; return the gradient of every tensor that has one.

    A tensor has one if it depends on a parameter that learns and the loss depends on it.
    """
    network = step.network
    moving = _moving(network.nodes, learning)
    found: dict[str, list[str]] = {network.logits: [slope]}
    gradients: dict[str, str] = {}
    for node in reversed(network.nodes):
        step.owner = f"{node.name or node.output[0]}.gradient"
        outputs = tuple(_summed(step, found.pop(name, [])) for name in node.output)
        wanted = tuple(name in moving for name in node.input)
        if not any(wanted) or not any(outputs):
            continue
        share = Share(step=step, node=node, outputs=outputs, wanted=wanted)
        for name, gradient in zip(node.input, _apply(share), strict=False):
            if gradient is not None and name in moving:
                found.setdefault(name, []).append(gradient)
    step.owner = "sum"
    for name in learning:
        total = _summed(step, found.get(name, []))
        if total is not None:
            gradients[name] = total
    return gradients


def _moving(nodes: Sequence[onnx.NodeProto], learning: Iterable[str]) -> set[str]:
    """Return all tensors that depend on what learns."""
    moving = set(learning)
    for node in nodes:
        if not moving.isdisjoint(node.input):
            moving.update(name for name in node.output if name)
    return moving


def _apply(share: Share) -> Sequence[str | None]:
    node = share.node
    if node.op_type not in RULES or node.domain not in {"", "ai.onnx"}:
        raise share.unsupported(
            f"expected one of {', '.join(RULES)}: write the network with these"
        )
    return RULES[node.op_type](share)


def _summed(step: StepWriter, terms: Sequence[str]) -> str | None:
    if not terms:
        return None
    total = terms[0]
    for term in terms[1:]:
        total = step.op("Add", total, term)
    return total


def _write_update(step: StepWriter, name: str, gradient: str, sgd: Sgd) -> None:
    step.owner = f"{name}.update"
    if sgd.weight_decay:
        gradient = step.op("Add", gradient, step.scale(name, sgd.weight_decay))
    buffer = momentum_name(name)
    moved = step.op("Add", step.scale(buffer, sgd.momentum), gradient, output=next_name(buffer))
    step.op("Sub", name, step.scale(moved, sgd.learning_rate), output=next_name(name))


def _finish(source: onnx.ModelProto, step: StepWriter, trained: Sequence[str]) -> onnx.ModelProto:
    network, graph = step.network, step.graph
    buffers = {momentum_name(name): network.shape(name) for name in trained}
    state = {name: network.shape(name) for name in (*network.parameters, *network.statistics)}
    _declare(graph.input, {network.images: network.shape(network.images)}, network.element)
    _declare(graph.input, {LABELS: (network.batch,)}, TensorProto.INT64)
    _declare(graph.input, {**state, **buffers}, network.element)
    moved = [*trained, *step.updated]
    after = {next_name(name): state[name] for name in moved}
    after.update({next_name(name): shape for name, shape in buffers.items()})
    _declare(graph.output, {LOSS: (), **after}, network.element)
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(t for name, t in network.constants.items() if name in used)
    model = onnx.ModelProto(ir_version=max(source.ir_version, 4), producer_name="boardfront")
    model.opset_import.extend(source.opset_import)
    model.functions.extend(source.functions)
    model.graph.CopyFrom(graph)
    described = describe_inputs(network, trained)
    for key, value in ((TASK_KEY, TaskKind.TRAINING_STEP_GRAPH.value), (INPUTS_KEY, described)):
        model.metadata_props.add(key=key, value=value)
    return model


def _declare(
    place: MutableSequence[onnx.ValueInfoProto],
    shapes: Mapping[str, tuple[int, ...]],
    element: int,
) -> None:
    place.extend(
        helper.make_tensor_value_info(name, element, shape) for name, shape in shapes.items()
    )
