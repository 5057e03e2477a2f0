"""Importing TVM without what this machine has no use for."""

from __future__ import annotations

import contextlib
import importlib
import platform
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def import_tvm() -> Any:
    """Return the module tvm.

    tvm_ffi imports torch where it is installed: 2.3 s and 200 MB for nothing.
    """
    with _hidden("torch"):
        return importlib.import_module("tvm")


def import_meta_schedule() -> Any:
    """Return the module tvm.s_tir.meta_schedule, ready to tune for this processor.

    It would parse the tensor intrinsics of all processors: half a minute on a laptop. xgboost
    would import scikit-learn where it is installed.
    """
    import_tvm()
    arm = platform.machine() in {"aarch64", "arm64"}
    for name in ("cuda", "rocm", "hexagon", "riscv_cpu", "x86" if arm else "arm_cpu"):
        whole = f"tvm.s_tir.tensor_intrin.{name}"
        sys.modules.setdefault(whole, types.ModuleType(whole))
    with _hidden("sklearn"):
        importlib.import_module("xgboost")
    return importlib.import_module("tvm.s_tir.meta_schedule")


@contextlib.contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Let imports of a module fail meanwhile, unless it is there already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
