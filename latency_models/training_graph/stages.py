"""Which parameters the first stages of a network have."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from boardfront.latency_models.training_graph.network import read_network
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

STAGES_KEY = "boardfront.stages"
"""Metadata of a model: a JSON list of the tensors that end the stem and each stage, in order."""


def stage_parameters(model: onnx.ModelProto, stages: int) -> frozenset[str]:
    """Return the parameters from the images to the end of the first stages.

    Args:
        model: Inference graph.
        stages: How many, the stem being the first; 0 returns none.

    Raises:
        WrongInputError: The model does not name the ends of so many stages.
    """
    if stages == 0:
        return frozenset()
    ends = _stage_ends(model)
    if not 0 < stages <= len(ends):
        raise WrongInputError(
            f"frozen stages: expected 0 to {len(ends)}, as many as the network names in its "
            f"metadata {STAGES_KEY}, the stem included, got {stages}: freeze fewer, or have the "
            "network written by one of the spaces"
        )
    network = read_network(model)
    before = _upstream(network.nodes, ends[stages - 1])
    return frozenset(before.intersection(network.parameters))


def _stage_ends(model: onnx.ModelProto) -> list[str]:
    text = next((entry.value for entry in model.metadata_props if entry.key == STAGES_KEY), "[]")
    try:
        ends = json.loads(text)
    except ValueError:
        ends = None
    made = {name for node in model.graph.node for name in node.output}
    if not isinstance(ends, list) or not all(isinstance(end, str) and end in made for end in ends):
        raise WrongInputError(
            f"metadata {STAGES_KEY}: expected a JSON list of tensors that nodes make, got "
            f"{text[:80]!r}: have the network written by one of the spaces"
        )
    return ends


def _upstream(nodes: Sequence[onnx.NodeProto], end: str) -> set[str]:
    """Return every tensor that `end` depends on."""
    wanted = {end}
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            wanted.update(name for name in node.input if name)
    return wanted
