"""From an ONNX graph to code: importing, fusing, scheduling, building. Runs where TVM is whole.

The agent's worker uses it, and the host where it compiles for a device.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from boardfront.device_agent.backends import tvm_graph
from boardfront.device_agent.backends.base import BackendError
from boardfront.device_agent.backends.tvm_import import import_tvm
from boardfront.protos.records import FailureKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx


@dataclass(frozen=True, kw_only=True, slots=True)
class Lowered:
    """A network as fused tensor functions.

    Args:
        module: The tvm.ir.IRModule.
        target: The tvm.target.Target it is meant for.
        tasks: Its distinct fused tasks by structural hash: as MetaSchedule writes workloads, and
            how often the network calls each.
        names: What TVM calls each task.
    """

    module: Any
    target: Any
    tasks: Mapping[str, tuple[Any, int]]
    names: Mapping[str, str]


def versions() -> str:
    """Return the versions that generated code depends on."""
    return f"tvm {version('apache-tvm')} ffi {version('apache-tvm-ffi')}"


def make_target(text: str, threads: int) -> Any:
    """Return a target.

    Args:
        text: A JSON object as TVM takes it; empty: this machine's processor.
        threads: Code is written for so many.

    Raises:
        BackendError: `unsupported`, if TVM does not know the target.
    """
    tvm = import_tvm()
    if text:
        wanted = json.loads(text)
    else:
        here = json.loads(str(tvm.target.Target.from_device("cpu")))
        wanted = {key: here[key] for key in ("kind", "mtriple", "mcpu", "mattr") if key in here}
    wanted["num-cores"] = threads
    try:
        return tvm.target.Target(wanted)
    except Exception as error:
        raise BackendError(
            FailureKind.UNSUPPORTED, f"TVM has no target {json.dumps(wanted)}: {_text(error)}"
        ) from error


def lower(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], target: Any) -> Lowered:
    """Import a network and fuse it into tasks.

    Raises:
        BackendError: `unsupported`, if TVM has not all its operators or fails on them.
    """
    import_tvm()
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx
    from tvm.s_tir import meta_schedule

    folded = tvm_graph.fold_batch_norms(model)
    try:
        module = from_onnx(folded, shape_dict={name: list(one) for name, one in shapes.items()})
        with target:
            module = relax.transform.DecomposeOpsForInference()(module)
            module = relax.get_pipeline("zero")(module)
        extracted = meta_schedule.relax_integration.extract_tasks(module, target)
    except Exception as error:
        raise _translated("import", error) from error
    tasks, names = {}, {}
    for one in extracted:
        workload = meta_schedule.database.Workload(one.dispatched[0]).as_json()
        tasks[str(workload[0])] = (workload, int(one.weight))
        names[str(workload[0])] = str(one.task_name)
    return Lowered(module=module, target=target, tasks=tasks, names=names)


def schedule(module: Any, best: Mapping[str, tuple[Any, Any]], target: Any) -> Any:
    """Return the module with tuned schedules in place of the naive ones.

    Args:
        module: Of `Lowered`.
        best: By task: the workload and its best record, as MetaSchedule writes them.
        target: What both are for.
    """
    if not best:
        return module
    tvm = import_tvm()
    from tvm.relax.transform import MetaScheduleApplyDatabase
    from tvm.s_tir import meta_schedule

    memory = meta_schedule.database.MemoryDatabase()
    for text, record in best.values():
        found = meta_schedule.database.Workload.from_json(text)
        workload = memory.commit_workload(found.mod)
        memory.commit_tuning_record(
            meta_schedule.database.TuningRecord.from_json(record, workload)
        )
    with target, memory, tvm.transform.PassContext(opt_level=3):
        return MetaScheduleApplyDatabase()(module)


def build(module: Any, target: Any, opt_level: int) -> Any:
    """Generate code; return TVM's executable.

    Raises:
        BackendError: `unsupported` or `out_of_memory`.
    """
    tvm = import_tvm()
    try:
        with tvm.transform.PassContext(opt_level=opt_level):
            return tvm.compile(module, target)
    except Exception as error:
        raise _translated("compile", error) from error


def _translated(what: str, error: Exception) -> BackendError:
    text = _text(error)
    if isinstance(error, MemoryError) or "bad_alloc" in text:
        return BackendError(FailureKind.OUT_OF_MEMORY, text)
    return BackendError(FailureKind.UNSUPPORTED, f"TVM does not {what} this network: {text}")


def _text(error: Exception) -> str:
    """Return an error on one line; TVM's hold a stack trace of C++ after the message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("File ", "Stack trace", "["))]
    return " ".join(told or lines)[:500] or type(error).__name__
