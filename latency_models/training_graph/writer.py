"""Writing the nodes of a step: short names, constants held once, opsets told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from boardfront.latency_models.training_graph.network import Network

_REDUCE_SUM_BY_INPUT = 13
_REDUCE_MEAN_BY_INPUT = 18


class StepWriter:
    """Adds nodes to the graph of a step; methods return the name of the tensor they make.

    Args:
        network: What is trained.

    Attributes:
        owner: Name of the network's node for which is written; names of nodes begin with it, so
            that a profile shows where time goes.
        saved: What a forward rule keeps for its gradient, by a name of its own.
        updated: Latest value of a running statistic that a node has updated.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.owner = "step"
        self.saved: dict[str, str] = {}
        self.updated: dict[str, str] = {}
        self.graph = onnx.GraphProto(name="training-step")
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0
        self._prefix = _free_prefix(network)

    def copy(self, node: onnx.NodeProto) -> None:
        """Add one of the network's own nodes."""
        self.graph.node.append(node)

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node of one output, named `output` where that is given."""
        self._count += 1
        output = output or f"{self._prefix}{self._count}"
        node = helper.make_node(
            kind, inputs, [output], name=f"{self.owner}/{self._count}", **attributes
        )
        self.graph.node.append(node)
        return output

    def tensor(self, values: npt.NDArray[Any]) -> str:
        """Return a constant; equal ones are held once."""
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._constants:
            name = f"{self._prefix}c{len(self._constants)}"
            self.graph.initializer.append(numpy_helper.from_array(values, name))
            self._constants[key] = name
        return self._constants[key]

    def integers(self, values: Sequence[int]) -> str:
        """Return a constant of 64-bit integers, one dimension."""
        return self.tensor(np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """Return a constant number of the parameters' type, no dimension."""
        return self.tensor(np.array(value, dtype=self.network.dtype))

    def scale(self, tensor: str, factor: float) -> str:
        """Multiply by a constant number."""
        return self.op("Mul", tensor, self.number(factor))

    def to_number(self, condition: str) -> str:
        """Turn true and false into 1 and 0 of the parameters' type."""
        return self.op("Cast", condition, to=self.network.element)

    def total(self, tensor: str, axes: Sequence[int], *, keep: bool = False) -> str:
        """Sum over axes."""
        return self._reduce("ReduceSum", tensor, axes, keep=keep, since=_REDUCE_SUM_BY_INPUT)

    def mean(self, tensor: str, axes: Sequence[int], *, keep: bool = False) -> str:
        """Average over axes."""
        return self._reduce("ReduceMean", tensor, axes, keep=keep, since=_REDUCE_MEAN_BY_INPUT)

    def reshape(self, tensor: str, shape: Sequence[int]) -> str:
        """Give another shape to the same elements."""
        return self.op("Reshape", tensor, self.integers(shape))

    def transpose(self, tensor: str, order: Sequence[int]) -> str:
        """Reorder axes."""
        return self.op("Transpose", tensor, perm=list(order))

    def pad(self, tensor: str, pads: Sequence[int], value: float = 0.0) -> str:
        """Pad by a constant: first what goes before each axis, then what goes behind."""
        if not any(pads):
            return tensor
        return self.op("Pad", tensor, self.integers(pads), self.number(value))

    def cut(
        self,
        tensor: str,
        starts: Sequence[int],
        ends: Sequence[int],
        axes: Sequence[int],
        steps: Sequence[int] | None = None,
    ) -> str:
        """Slice."""
        terms = [tensor, self.integers(starts), self.integers(ends), self.integers(axes)]
        if steps is not None and any(step != 1 for step in steps):
            terms.append(self.integers(steps))
        return self.op("Slice", *terms)

    def _reduce(
        self, kind: str, tensor: str, axes: Sequence[int], *, keep: bool, since: int
    ) -> str:
        if self.network.opset >= since:
            return self.op(kind, tensor, self.integers(axes), keepdims=int(keep))
        return self.op(kind, tensor, axes=list(axes), keepdims=int(keep))


def _free_prefix(network: Network) -> str:
    """Choose a beginning that no name of the network has."""
    names = {name for node in network.nodes for name in (*node.input, *node.output)}
    for prefix in ("g", "step/", "training-step/"):
        if not any(name.startswith(prefix) for name in names):
            return prefix
    raise WrongInputError(
        "expected a network without tensors called 'training-step/...': rename them"
    )
