"""The geometry that convolutions and poolings share: where a window's taps fall."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from boardfront.latency_models.training_graph.attributes import attribute
from boardfront.latency_models.training_graph.network import UnsupportedOperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from boardfront.latency_models.training_graph.network import Network
    from boardfront.latency_models.training_graph.writer import StepWriter

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A two-dimensional sliding window; every pair is (height, width).

    Args:
        inputs: Resolution that goes in.
        outputs: Resolution that comes out.
        kernel: Taps.
        strides: Between windows.
        dilations: Between taps.
        before: Padding above and left.
        after: Padding below and right, so much of it as a window reaches.
    """

    inputs: Pair
    outputs: Pair
    kernel: Pair
    strides: Pair
    dilations: Pair
    before: Pair
    after: Pair

    @property
    def pointwise(self) -> bool:
        """Whether the output's pixels are the input's, one to one."""
        return self.kernel == (1, 1) and self.strides == (1, 1) and self.inputs == self.outputs

    @property
    def taps(self) -> Iterator[Pair]:
        """Yield the taps in row-major order."""
        return product(range(self.kernel[0]), range(self.kernel[1]))

    @property
    def output_padding(self) -> Pair:
        """Rows and columns at the end that no window reaches: the stride does not divide them.

        A transposed convolution has to be told them, or its result is too small.
        """
        rest = [
            size + before + after - self._reach(axis)
            for axis, (size, before, after) in enumerate(
                zip(self.inputs, self.before, self.after, strict=True)
            )
        ]
        return (rest[0], rest[1])

    def transposed(self) -> dict[str, Any]:
        """Return the attributes of the ConvTranspose that takes outputs back to inputs."""
        return {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": (*self.before, *self.after),
            "output_padding": self.output_padding,
        }

    def pad(self, step: StepWriter, images: str, value: float = 0.0) -> str:
        """Pad the last two of four axes."""
        return step.pad(images, (0, 0, *self.before, 0, 0, *self.after), value)

    def tap(self, step: StepWriter, padded: str, tap: Pair) -> str:
        """Return what every window sees at one tap: (..., *outputs) of (..., *padded)."""
        starts = [tap[axis] * self.dilations[axis] for axis in (0, 1)]
        ends = [
            starts[axis] + (self.outputs[axis] - 1) * self.strides[axis] + 1 for axis in (0, 1)
        ]
        return step.cut(padded, starts, ends, (2, 3), self.strides)

    def _reach(self, axis: int) -> int:
        """Padded size that the windows of one axis cover."""
        taps = self.dilations[axis] * (self.kernel[axis] - 1) + 1
        return (self.outputs[axis] - 1) * self.strides[axis] + taps


def read_window(network: Network, node: onnx.NodeProto, kernel: tuple[int, ...]) -> Window:
    """Read the window of a convolution or pooling.

    Raises:
        UnsupportedOperatorError: It is not two-dimensional.
    """
    sizes, results = network.shape(node.input[0]), network.shape(node.output[0])
    if len(kernel) != 2 or len(sizes) != 4:
        raise UnsupportedOperatorError(
            node.op_type, node.name, f"expected two dimensions, got a kernel {kernel}"
        )
    inputs, outputs = (sizes[2], sizes[3]), (results[2], results[3])
    strides = _pair(attribute(node, "strides", (1, 1)))
    dilations = _pair(attribute(node, "dilations", (1, 1)))
    covered = [
        (outputs[axis] - 1) * strides[axis] + dilations[axis] * (kernel[axis] - 1) + 1
        for axis in (0, 1)
    ]
    padding = [max(0, covered[axis] - inputs[axis]) for axis in (0, 1)]
    mode = attribute(node, "auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = attribute(node, "pads", (0, 0, 0, 0))
        before, after = _pair(pads[:2]), _pair(pads[2:])
    elif mode == "SAME_LOWER":
        before, after = _pair([-(-p // 2) for p in padding]), _pair([p // 2 for p in padding])
    else:  # SAME_UPPER; VALID has no padding at all
        before, after = _pair([p // 2 for p in padding]), _pair([-(-p // 2) for p in padding])
    # A pooling that rounds up looks further than its padding.
    after = _pair(
        [max(after[axis], covered[axis] - inputs[axis] - before[axis]) for axis in (0, 1)]
    )
    return Window(
        inputs=inputs,
        outputs=outputs,
        kernel=_pair(kernel),
        strides=strides,
        dilations=dilations,
        before=before,
        after=after,
    )


def _pair(values: tuple[int, ...] | list[int]) -> Pair:
    return (int(values[0]), int(values[1]))
