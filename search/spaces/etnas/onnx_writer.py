"""An ET-NAS network as an ONNX graph, written node by node.

Batch norms are kept: whether to fold them is the runtime's business. Node and tensor names follow
the place in the network and are the same in every process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.protos.errors import WrongInputError
from boardfront.search.spaces.etnas.counting import count_network
from boardfront.search.spaces.onnx_graph import GraphWriter

if TYPE_CHECKING:
    import onnx

    from boardfront.search.spaces.etnas.plan import BlockPlan, NetworkPlan, SkipPlan
    from boardfront.search.spaces.onnx_graph import Weights

# Noted weights: sums would double the activations' second moment block by block, so that what
# is added to the residual is drawn small; a projected residual makes up for its ReLU.
INNER_GAIN = 0.5
LAST_GAIN = 0.125
RESIDUAL_GAIN = 2.0

# A serialised protobuf message holds less than 2 GiB; the nodes need some of it.
MOST_WEIGHT_BYTES = 2**31 - 2**24


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
        weights: State of the torch module by its names; None writes notes in their place.
        seed: Of the notes.

    Raises:
        WrongInputError: `batch` is not positive, `weights` do not fit the network, or the
            network has more weights than an ONNX file without external data can hold.
    """
    size_bytes = 4 * count_network(plan).params
    if size_bytes > MOST_WEIGHT_BYTES:
        raise WrongInputError(
            f"expected at most {MOST_WEIGHT_BYTES} bytes of weights in an ONNX model, got "
            f"{size_bytes}: choose an architecture with fewer channels or blocks"
        )
    writer = GraphWriter("etnas", batch=batch, weights=weights, seed=seed)
    features = "images"
    for index, conv in enumerate(plan.stem.layers):
        features = writer.conv_norm(f"stem.{index}", conv, features)
    if plan.stem.pooled:
        features = writer.node(
            "MaxPool",
            "stem.pool",
            [features],
            kernel_shape=[3, 3],
            strides=[2, 2],
            pads=[1, 1, 1, 1],
        )
    for index, block in enumerate(plan.blocks):
        if index == 0 or block.place.stride > 1:
            writer.end_stage(features)
        features = _write_block(writer, f"blocks.{index}", block, features)
    writer.end_stage(features)
    writer.classify(features, inputs=plan.features, classes=plan.classes, bias=True)
    return writer.finish(
        images=[batch, plan.stem.layers[0].inputs, plan.resolution, plan.resolution],
        logits=[batch, plan.classes],
    )


def _write_block(writer: GraphWriter, name: str, block: BlockPlan, features: str) -> str:
    nodes = [features]
    last = len(block.operators)
    for index, conv in enumerate(block.operators):
        node = index + 1
        gain = LAST_GAIN if node == last and block.squeeze is None else INNER_GAIN
        value = writer.conv_norm(f"{name}.operators.{index}", conv, nodes[-1], gain=gain)
        value = _join(writer, name, block, node, [*nodes, value])
        if node < last:
            value = writer.node("Relu", f"{name}.node{node}.relu", [value])
        nodes.append(value)
    out, residual = nodes[-1], features
    if block.squeeze is not None:
        out = writer.conv_norm(f"{name}.squeeze", block.squeeze, out, gain=LAST_GAIN)
    if block.residual is not None:
        residual = writer.conv_norm(
            f"{name}.residual", block.residual, residual, gain=RESIDUAL_GAIN
        )
    out = writer.node("Add", f"{name}.add", [out, residual])
    return writer.node("Relu", f"{name}.relu", [out])


def _join(writer: GraphWriter, name: str, block: BlockPlan, node: int, values: list[str]) -> str:
    """Add and concatenate the skips into a node, whose own value is the last of `values`."""
    *nodes, value = values
    for skip in block.skips_into(node, added=True):
        terms = [value, _skipped(writer, name, skip, nodes)]
        value = writer.node("Add", f"{name}.{skip.name}.add", terms)
    widening = block.skips_into(node, added=False)
    if not widening:
        return value
    parts = [value, *(_skipped(writer, name, skip, nodes) for skip in widening)]
    return writer.node("Concat", f"{name}.node{node}.concat", parts, axis=1)


def _skipped(writer: GraphWriter, name: str, skip: SkipPlan, nodes: list[str]) -> str:
    source = nodes[skip.source]
    if skip.projection is None:
        return source
    return writer.conv_norm(f"{name}.skips.{skip.name}", skip.projection, source, gain=INNER_GAIN)
