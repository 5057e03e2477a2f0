"""The backends by name. Literal, resolved lazily, open to others by entry point."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from boardfront.device_agent.backends.base import BackendClass

_GROUP = "boardfront.backends"

_OWN = {
    "fake": "boardfront.device_agent.backends.fake:FakeBackend",
    "onnxruntime": "boardfront.device_agent.backends.onnxruntime:OnnxRuntimeBackend",
    "torch": "boardfront.device_agent.backends.torch:TorchBackend",
    "tvm": "boardfront.device_agent.backends.tvm:TvmBackend",
}


def places() -> dict[str, str]:
    """Return name -> "module:Class" of every backend that can be looked for.

    Raises:
        WrongInputError: If an installed package registers a name that is taken.
    """
    # Here, because a worker for one of our own backends starts sooner without it.
    from importlib.metadata import entry_points

    found = dict(_OWN)
    for entry in entry_points(group=_GROUP):
        if entry.name in found:
            raise WrongInputError(
                f"backend {entry.name!r} is registered twice, by {found[entry.name]} and "
                f"{entry.value}: uninstall one of them"
            )
        found[entry.name] = entry.value
    return found


def load(name: str) -> BackendClass:
    """Return the class of the backend `name`.

    Raises:
        WrongInputError: If there is none; the known names are listed.
    """
    known = _OWN if name in _OWN else places()
    if name not in known:
        raise WrongInputError(f"unknown backend {name!r}: expected one of {sorted(known)}")
    module, _, attribute = known[name].partition(":")
    return cast("BackendClass", getattr(importlib.import_module(module), attribute))
