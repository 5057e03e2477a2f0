"""Write sentinel.onnx: `python -m boardfront.device_agent.write_sentinel`. Needs onnx.

Another file is another sentinel: what was stored of the old one compares with nothing any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from boardfront.device_agent.sentinel import FILE

if TYPE_CHECKING:
    import onnx

_SEED = 20_240_917
_OPSET = 18
_IR_VERSION = 8
"""Of opset 18: older runtimes refuse a newer one."""

_LAYERS = (
    # kernel, channels in, channels out, groups
    (3, 16, 32, 1),
    (3, 32, 32, 1),
    (1, 32, 64, 1),
    (3, 64, 64, 64),
    (1, 64, 32, 1),
    (3, 32, 32, 1),
)
"""28 million multiply-adds on 32x32: about 1 ms on a laptop's core."""


def build() -> onnx.ModelProto:
    """Return the network: convolutions of the common kinds, (1, 16, 32, 32) in, (1, 32) out."""
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(_SEED)
    nodes, weights, value = [], [], "x"
    for index, (kernel, inner, outer, groups) in enumerate(_LAYERS):
        fan_in = kernel * kernel * inner // groups
        # Scaled so that values neither vanish nor grow: denormals would be timed instead.
        # Uniform, because its bits are the same on every machine.
        drawn = 2.0 * generator.random((outer, inner // groups, kernel, kernel)) - 1.0
        drawn *= np.sqrt(6.0 / fan_in)
        weights.append(numpy_helper.from_array(drawn.astype(np.float32), f"w{index}"))
        nodes.append(
            helper.make_node(
                "Conv",
                [value, f"w{index}"],
                [f"c{index}"],
                kernel_shape=[kernel, kernel],
                pads=[kernel // 2] * 4,
                group=groups,
            )
        )
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        value = f"r{index}"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "sentinel",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32])],
        weights,
    )
    return helper.make_model(
        graph,
        producer_name="boardfront",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )


def content() -> bytes:
    """Return the file's bytes; the same ones every time."""
    return bytes(build().SerializeToString(deterministic=True))


def main() -> None:
    """Write the file."""
    FILE.write_bytes(content())


if __name__ == "__main__":
    main()
