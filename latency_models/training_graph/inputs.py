"""What values a step's inputs may have, for an agent that has to draw them.

A time does not depend on which values they are, as long as they are ordinary: neither zeros nor
denormals, variances above zero, labels that name a class, activations of a normal scale.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from boardfront.latency_models.training_graph.attributes import attribute
from boardfront.latency_models.training_graph.names import LABELS, momentum_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

    from boardfront.latency_models.training_graph.network import Network

Draw = dict[str, object]

_SPREAD = 0.1


def describe_inputs(network: Network, trained: Iterable[str]) -> str:
    """Write, as JSON, for every input how its values are drawn.

    {"kind": "normal", "mean": m, "scale": s}: m + s * z, z a standard normal number;
    {"kind": "positive", "mean": m, "scale": s}: m + s * abs(z);
    {"kind": "zeros"}: momentum before the first step;
    {"kind": "labels", "below": n}: whole numbers from 0 to n - 1.
    """
    draws: dict[str, Draw] = {
        network.images: _normal(0.0, 1.0),
        LABELS: {"kind": "labels", "below": network.classes},
    }
    for node in network.nodes:
        for index, name in enumerate(node.input):
            if name in draws:
                continue
            if name in network.parameters:
                draws[name] = _draw_parameter(node, index, network.shape(name))
            elif name in network.statistics:
                draws[name] = _draw_statistic(index)
    draws.update({momentum_name(name): {"kind": "zeros"} for name in trained})
    return json.dumps(draws, separators=(",", ":"))


def _draw_parameter(node: onnx.NodeProto, index: int, shape: tuple[int, ...]) -> Draw:
    """Choose mean and scale so that activations keep their second moment through the layer.

    Source: He et al. 2015, "Delving Deep into Rectifiers", section 2.2.
    """
    kind = node.op_type
    if kind == "Conv" and index == 1:
        return _normal(0.0, math.sqrt(2 / math.prod(shape[1:])))
    if kind in {"Gemm", "MatMul"} and len(shape) > 1 and index < 2:
        turned = attribute(node, "transB", 0)
        return _normal(0.0, math.sqrt(1 / shape[-1 if turned else -2]))
    around_one = (kind == "BatchNormalization" and index == 1) or kind in {"Mul", "Div"}
    return _normal(1.0 if around_one else 0.0, _SPREAD)


def _draw_statistic(index: int) -> Draw:
    if index == 3:
        return _normal(0.0, _SPREAD)
    return {"kind": "positive", "mean": 1.0, "scale": _SPREAD}


def _normal(mean: float, scale: float) -> Draw:
    # Four digits: the file is read by people too, and a scale needs no more.
    return {"kind": "normal", "mean": mean, "scale": float(f"{scale:.4g}")}
