"""What a gradient rule is given: one node, what is known behind it, what is wanted before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from boardfront.latency_models.training_graph.attributes import attribute
from boardfront.latency_models.training_graph.network import UnsupportedOperatorError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import onnx

    from boardfront.latency_models.training_graph.writer import StepWriter


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A node's part of the backward pass.

    Args:
        step: Where the rule writes.
        node: Of the network.
        outputs: Gradient of each output, None where nothing depends on it.
        wanted: For each input, whether its gradient is asked for.
    """

    step: StepWriter
    node: onnx.NodeProto
    outputs: tuple[str | None, ...]
    wanted: tuple[bool, ...]

    @property
    def slope(self) -> str:
        """Gradient of the first output, which has one: otherwise no rule is asked."""
        slope = self.outputs[0]
        if slope is None:
            raise self.unsupported("expected a gradient of its first output")
        return slope

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of an input."""
        return self.step.network.shape(self.node.input[index])

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return self.step.network.shape(self.node.output[0])

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute of the node."""
        return attribute(self.node, name, default)

    def unsupported(self, why: str) -> UnsupportedOperatorError:
        """Return the error that names this node."""
        return UnsupportedOperatorError(self.node.op_type, self.node.name, why)


class Rule(Protocol):
    """The gradient of one kind of operator."""

    def __call__(self, share: Share) -> Sequence[str | None]:
        """Write it; return the gradient of each input, None where none is wanted or exists."""


def sum_to(step: StepWriter, tensor: str, have: Sequence[int], want: Sequence[int]) -> str:
    """Sum over the axes along which an operand of shape `want` was broadcast to `have`."""
    if tuple(have) == tuple(want):
        return tensor
    aligned = [1] * (len(have) - len(want)) + list(want)
    axes = [axis for axis, size in enumerate(aligned) if size != have[axis]]
    if axes:
        tensor = step.total(tensor, axes, keep=True)
    return tensor if len(want) == len(have) else step.reshape(tensor, want)
