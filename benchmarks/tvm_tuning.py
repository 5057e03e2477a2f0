"""Tunes networks of the `spos` space with TVM and compares with untuned code and ONNX Runtime.

    python benchmarks/tvm_tuning.py tune --state FOLDER --minutes 100
    python benchmarks/tvm_tuning.py report --state FOLDER

`tune` may be stopped and called again: finished tasks stay. `report` times each network untuned,
tuned and with ONNX Runtime, one thread, on one core, in turn; then each convolution alone: what
MetaSchedule measured for it against the same layer in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import logging
import math
import re
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from boardfront.device_agent import timing, worker
from boardfront.device_agent.backends import catalog
from boardfront.device_agent.backends.tvm_import import import_tvm
from boardfront.device_agent.backends.tvm_tasks import TaskDatabase
from boardfront.device_agent.process import WorkerProcess
from boardfront.protos import records
from boardfront.search.spaces import catalog as spaces

if TYPE_CHECKING:
    from collections.abc import Iterator

# The space of examples/quickstart.toml.
_SPACE = {
    "resolution": 16,
    "classes": 10,
    "in_channels": 1,
    "stem_channels": 24,
    "stem_stride": 1,
    "stages": [[48, 4], [96, 8]],
    "last_channels": 192,
}
_WITHIN_S = 600.0
_ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["tune", "report"])
    parser.add_argument("--state", type=Path, required=True, help="folder of the database")
    parser.add_argument("--minutes", type=float, default=30.0, help="budget of tuning")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--cpu", type=int, default=0, help="core that times are taken on")
    parser.add_argument(
        "--networks",
        default="3333-33333333",
        help="encodings with commas, or a number: so many drawn with seed 0",
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        artifacts = _write(options, Path(folder))
        if options.step == "tune":
            _tune(options, artifacts)
        else:
            _report(options, artifacts)
            _report_layers(options, Path(folder))


def _write(options: argparse.Namespace, folder: Path) -> dict[str, Path]:
    space: Any = spaces.load("spos", _SPACE)
    if options.networks.isdecimal():
        rng = np.random.default_rng(0)
        encodings = [space.sample(rng) for _ in range(int(options.networks))]
    else:
        encodings = options.networks.split(",")
    artifacts = {}
    for encoding in encodings:
        artifacts[encoding] = folder / f"{encoding}.onnx"
        model = space.write_onnx(encoding, batch=options.batch)
        artifacts[encoding].write_bytes(model.SerializeToString())
    return artifacts


def _tune(options: argparse.Namespace, artifacts: dict[str, Path]) -> None:
    """Register every network, then tune the tasks of all, most frequent first."""
    if not list(options.state.glob("tvm/*/networks/*.json")):
        for artifact in artifacts.values():
            with WorkerProcess() as process:
                _load(process, options, artifact, "tvm")
                process.ask({"do": "compile"}, within_s=_WITHIN_S, what="compile")
    with WorkerProcess() as process:
        _load(process, options, next(iter(artifacts.values())), "tvm", everywhere=True)
        command = worker.tune_command(60.0 * options.minutes, whole_space=True)
        process.ask(command, within_s=60.0 * options.minutes + _WITHIN_S, what="tune")
    for database in _databases(options.state):
        tuned = [database.tuned(task) for task in database.counts()]
        done = sum(one is not None and one.finished for one in tuned)
        trials = sum(one.trials for one in tuned if one is not None)
        print(f"{done} of {len(tuned)} tasks finished, {trials} trials")


def _report(options: argparse.Namespace, artifacts: dict[str, Path]) -> None:
    print("median ms a run (least to most over the rounds)")
    for encoding, artifact in artifacts.items():
        kinds = {
            "untuned": ("tvm", {"tuning": "off"}),
            "tuned": ("tvm", {}),
            "onnxruntime": ("onnxruntime", {}),
        }
        processes = {kind: WorkerProcess() for kind in kinds}
        try:
            answers = {}
            for kind, (backend, settings) in kinds.items():
                _load(processes[kind], options, artifact, backend, **settings)
                answers[kind] = processes[kind].ask(
                    {"do": "compile"}, within_s=_WITHIN_S, what="compile"
                )
            times_ms = _times_ms(processes)
        finally:
            for process in processes.values():
                process.close()
        reference_ms = statistics.median(times_ms["onnxruntime"])
        print(f"{encoding}: {answers['tuned']['tuned_fraction']:.0%} of the tasks tuned")
        for kind, found in times_ms.items():
            median_ms = statistics.median(found)
            print(
                f"  {kind:12} {median_ms:8.3f} ({min(found):.3f} to {max(found):.3f})  "
                f"{median_ms / reference_ms:6.2f} x onnxruntime"
            )


def _times_ms(processes: dict[str, WorkerProcess]) -> dict[str, list[float]]:
    """Time each worker in turn, so that a wandering clock moves all alike."""
    loops = {}
    for kind, process in processes.items():
        command = {"do": "warm_up", "min_duration_s": 0.1}
        steady_s = process.ask(command, within_s=_WITHIN_S, what="warm-up")["steady_s"]
        loops[kind] = max(1, math.ceil(0.01 / steady_s))
    found: dict[str, list[float]] = {kind: [] for kind in processes}
    for _ in range(_ROUNDS):
        for kind, process in processes.items():
            plan = timing.WindowPlan(loops=loops[kind], samples=5, gap_s=0.0)
            answer = process.ask(worker.window_command(plan), within_s=_WITHIN_S, what="run")
            found[kind].append(1e3 * statistics.median(answer["samples_s"]))
    return found


def _report_layers(options: argparse.Namespace, folder: Path) -> None:
    print("convolutions, worst first: TVM tuned us, ONNX Runtime us, ratio, calls, layer")
    rows = []
    others_s, untuned = 0.0, 0
    for database in _databases(options.state):
        for task, count in database.counts().items():
            tuned = database.tuned(task)
            if tuned is None or tuned.best_s is None:
                untuned += 1
                continue
            shapes = _conv_shapes(database.workload(task))
            if shapes is None:
                others_s += count * tuned.best_s
                continue
            reference_s = _reference_s(options, folder, *shapes)
            rows.append((tuned.best_s / reference_s, tuned.best_s, reference_s, count, shapes))
    for ratio, best_s, reference_s, count, shapes in sorted(rows, reverse=True):
        data, weight, output = ("x".join(map(str, one)) for one in shapes)
        print(
            f"  {1e6 * best_s:8.1f} {1e6 * reference_s:8.1f} {ratio:6.2f} {count:4d}  "
            f"{data} by {weight} to {output}"
        )
    print(
        f"  {1e6 * others_s:.1f} us in tasks that are no convolution, by their calls; "
        f"{untuned} tasks untuned"
    )


def _conv_shapes(workload: Any) -> tuple[tuple[int, ...], ...] | None:
    """Return the shapes of data, weights and output of a task that is a convolution."""
    import_tvm()
    from tvm.s_tir.meta_schedule.database import Workload

    text = Workload.from_json(workload).mod["main"].script()
    signature = text.partition("def main(")[2].partition("):")[0]
    shapes = [
        tuple(int(size) for size in re.findall(r"int64\((\d+)\)", buffer))
        for buffer in signature.split("T.Buffer(")[1:]
    ]
    four = [shape for shape in shapes if len(shape) == 4]
    if "conv2d" not in text or len(four) < 3:
        return None
    return four[0], four[1], four[-1]


def _reference_s(options: argparse.Namespace, folder: Path, *shapes: tuple[int, ...]) -> float:
    """Time a convolution in ONNX Runtime: what each of 16 more of them adds to a run of one."""
    one_s, many_s = (_run_s(options, folder, copies, *shapes) for copies in (1, 17))
    return (many_s - one_s) / 16


def _run_s(
    options: argparse.Namespace, folder: Path, copies: int, *shapes: tuple[int, ...]
) -> float:
    """Time convolutions with bias and ReLU side by side, each with weights of its own."""
    data, weight, output = shapes
    generator = np.random.default_rng(0)
    settings: dict[str, Any] = {
        "pads": [weight[2] // 2] * 4,
        "strides": [round(data[2] / output[2])] * 2,
        "group": data[1] // weight[1],
    }
    nodes, outputs, weights = [], [], []
    for k in range(copies):
        nodes.append(helper.make_node("Conv", ["x", f"w{k}", f"b{k}"], [f"a{k}"], **settings))
        nodes.append(helper.make_node("Relu", [f"a{k}"], [f"y{k}"]))
        outputs.append(helper.make_tensor_value_info(f"y{k}", TensorProto.FLOAT, output))
        for name, shape in ((f"w{k}", weight), (f"b{k}", weight[:1])):
            values = generator.standard_normal(shape).astype(np.float32)
            weights.append(numpy_helper.from_array(values, name))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, data)]
    graph = helper.make_graph(nodes, "layers", inputs, outputs, weights)
    opset = helper.make_opsetid("", 18)
    path = folder / "layers.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()
    )
    with WorkerProcess() as process:
        _load(process, options, path, "onnxruntime")
        process.ask({"do": "compile"}, within_s=_WITHIN_S, what="compile")
        return statistics.median(_times_ms({"layers": process})["layers"]) / 1e3


def _load(
    process: WorkerProcess,
    options: argparse.Namespace,
    artifact: Path,
    backend: str,
    *,
    everywhere: bool = False,
    **settings: str,
) -> None:
    found = catalog.load(backend)
    subject = records.Subject(subject_id="s", artifact_sha256="", backend=backend)
    resolved = found.resolve(settings, found.probe())
    task = records.Task(batch=options.batch)
    cpus = () if everywhere else (options.cpu,)
    command = worker.load_command(subject, task, resolved, artifact, cpus, options.state)
    process.ask(command, within_s=_WITHIN_S, what="load")


def _databases(state: Path) -> Iterator[TaskDatabase]:
    for folder in sorted(state.glob("tvm/*/networks")):
        yield TaskDatabase(folder.parent)


if __name__ == "__main__":
    main()
