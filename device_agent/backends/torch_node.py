"""A node of an ONNX graph with plain values, as the operators of torch_operators.py read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from boardfront.device_agent.backends.base import BackendError
from boardfront.protos.records import FailureKind

_DOMAINS = {"", "ai.onnx"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A node, with plain values for attributes.

    `overwrites` says whether it may write its output over its first input.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    overwrites: bool

    @classmethod
    def of(cls, proto: onnx.NodeProto, *, overwrites: bool) -> Node:
        """Read a node."""
        kind = proto.op_type if proto.domain in _DOMAINS else f"{proto.domain}.{proto.op_type}"
        return cls(
            name=proto.name or next(iter(proto.output), ""),
            kind=kind,
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes={
                a.name: _plain(onnx.helper.get_attribute_value(a)) for a in proto.attribute
            },
            overwrites=overwrites,
        )

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"node {self.name!r} ({self.kind})"

    def has(self, index: int) -> bool:
        """Return whether an optional input is given."""
        return len(self.inputs) > index and bool(self.inputs[index])

    def refused(self, why: str) -> BackendError:
        """Return the error that this node cannot be rebuilt."""
        return BackendError(FailureKind.UNSUPPORTED, f"{self.title} in backend torch: {why}")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float):
        # The shortest decimal number: an epsilon of float32 is meant to be 1e-5.
        return float(str(np.float32(value)))
    return value
