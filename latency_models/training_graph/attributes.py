"""Reading attributes of nodes, with the standard's defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import helper

if TYPE_CHECKING:
    import onnx


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return an attribute, text as str; `default` where the node does not have it."""
    for entry in node.attribute:
        if entry.name == name:
            value = helper.get_attribute_value(entry)
            return value.decode() if isinstance(value, bytes) else value
    return default
