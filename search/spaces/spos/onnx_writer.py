"""A SPOS network as an ONNX graph, written node by node.

Batch norms are kept: whether to fold them is the runtime's business. The channel shuffle is a
four-dimensional Reshape, Transpose, Reshape and a Split, which every runtime tried here takes.
Node and tensor names follow the place in the network and are the same in every process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boardfront.search.spaces.onnx_graph import GraphWriter

if TYPE_CHECKING:
    import onnx

    from boardfront.search.spaces.onnx_graph import Weights
    from boardfront.search.spaces.spos.plan import BlockPlan, NetworkPlan


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
        WrongInputError: `batch` is not positive, or `weights` do not fit the network.
    """
    writer = GraphWriter("spos", batch=batch, weights=weights, seed=seed)
    size = plan.resolution
    features = writer.conv_norm("stem", plan.stem, "images")
    size = plan.stem.output_resolution(size)
    for index, block in enumerate(plan.blocks):
        if block.stride > 1:
            writer.end_stage(features)
        shape = [batch, block.inputs, size, size]
        features = _write_block(writer, f"blocks.{index}", block, features, shape)
        size = block.output_resolution(size)
    writer.end_stage(features)
    features = writer.conv_norm("head", plan.head, features)
    writer.classify(features, inputs=plan.head.outputs, classes=plan.classes, bias=False)
    return writer.finish(
        images=[batch, plan.stem.inputs, plan.resolution, plan.resolution],
        logits=[batch, plan.classes],
    )


def _write_block(
    writer: GraphWriter, name: str, block: BlockPlan, features: str, shape: list[int]
) -> str:
    if block.stride == 1:
        passed, worked = _shuffle_and_split(writer, name, features, shape)
    else:
        passed = worked = features
    for index, conv in enumerate(block.projection):
        passed = writer.conv_norm(f"{name}.projection.{index}", conv, passed)
    for index, conv in enumerate(block.main):
        worked = writer.conv_norm(f"{name}.main.{index}", conv, worked)
    return writer.node("Concat", f"{name}.concat", [passed, worked], axis=1)


def _shuffle_and_split(
    writer: GraphWriter, name: str, features: str, shape: list[int]
) -> tuple[str, str]:
    batch, channels, height, width = shape
    half = channels // 2
    pairs = writer.integers(f"{name}.pairs", [batch, half, 2, height * width])
    whole = writer.integers(f"{name}.whole", shape)
    sizes = writer.integers(f"{name}.halves", [half, half])
    features = writer.node("Reshape", f"{name}.to_pairs", [features, pairs])
    features = writer.node("Transpose", f"{name}.shuffle", [features], perm=[0, 2, 1, 3])
    features = writer.node("Reshape", f"{name}.to_whole", [features, whole])
    passed, worked = f"{name}.passed", f"{name}.worked"
    writer.nodes("Split", f"{name}.split", [features, sizes], [passed, worked], axis=1)
    return passed, worked
