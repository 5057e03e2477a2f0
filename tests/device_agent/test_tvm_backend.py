"""The backend tvm in its worker: compiled, checked, tuned, killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper
from tests.device_agent.onnx_files import conv_net, unknown_operator

from boardfront.device_agent import worker
from boardfront.device_agent.backends.onnxruntime import OnnxRuntimeBackend
from boardfront.device_agent.backends.tvm import TvmBackend
from boardfront.device_agent.process import WorkerFailedError, WorkerProcess
from boardfront.protos import records
from boardfront.protos.records import FailureKind
from boardfront.search.spaces import catalog

if TYPE_CHECKING:
    from pathlib import Path

_INFO = TvmBackend.probe()
_WITHIN_S = 60.0

pytestmark = [
    pytest.mark.skipif(not _INFO.available, reason=_INFO.reason or "available"),
    pytest.mark.timeout(120),
]


def _load(
    process: WorkerProcess, artifact: Path, state: Path | None, **options: str
) -> dict[str, Any]:
    subject = records.Subject(subject_id="s", artifact_sha256="", backend="tvm")
    resolved = TvmBackend.resolve(options, _INFO)
    command = worker.load_command(subject, records.Task(), resolved, artifact, state=state)
    return process.ask(command, within_s=_WITHIN_S, what="load")


def _compile(artifact: Path, state: Path | None, **options: str) -> dict[str, Any]:
    with WorkerProcess() as process:
        _load(process, artifact, state, **options)
        answer = process.ask({"do": "compile"}, within_s=_WITHIN_S, what="compile")
        runs = process.ask(
            {"do": "warm_up", "min_duration_s": 0.01}, within_s=_WITHIN_S, what="warm-up"
        )
        assert runs["steady_s"] > 0.0
        return answer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(conv_net(channels=4))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "settings", "encoding"),
    [
        (
            "spos",
            {
                "resolution": 16,
                "in_channels": 1,
                "classes": 10,
                "stem_channels": 8,
                "stages": [[16, 2], [32, 2]],
                "last_channels": 32,
            },
            "3x-75",
        ),
        (
            "etnas",
            {
                "resolution": 32,
                "classes": 10,
                "channels": [16],
                "last_channels": [16, 32],
                "max_blocks": 6,
            },
            "",
        ),
    ],
    ids=["spos", "etnas"],
)
def test_networks_of_a_space_come_out_right(
    tmp_path: Path, space: str, settings: dict[str, object], encoding: str
) -> None:
    made: Any = catalog.load(space, settings)
    encoding = encoding or made.sample(np.random.default_rng(0))
    artifact = tmp_path / "network.onnx"
    artifact.write_bytes(made.write_onnx(encoding, batch=2).SerializeToString())
    subject = records.Subject(subject_id="s", artifact_sha256="", backend="tvm")
    options = TvmBackend.resolve({}, _INFO)
    state = tmp_path / "state"
    with WorkerProcess() as process:
        command = worker.load_command(
            subject, records.Task(batch=2), options, artifact, state=state
        )
        process.ask(command, within_s=_WITHIN_S, what="load")
        answer = process.ask({"do": "compile"}, within_s=_WITHIN_S, what="compile")
    assert answer["tuning"] == "untuned"
    assert answer["tuned_fraction"] == 0.0
    assert answer["notes"] == []
    (checked,) = (state / "tvm" / "verified").iterdir()
    assert float(checked.read_text()) < 1e-4


def test_an_operator_that_tvm_has_not_is_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(unknown_operator())
    with pytest.raises(WorkerFailedError, match="Frobnicate") as caught:
        _compile(path, None)
    assert caught.value.failure.kind in {FailureKind.UNSUPPORTED, FailureKind.INVALID_ARTIFACT}


def test_outputs_that_onnxruntime_does_not_give_are_a_typed_failure(tmp_path: Path) -> None:
    # Roots of negative numbers: no norm tells whether such outputs are right.
    graph = helper.make_graph(
        [helper.make_node("Sqrt", ["x"], ["y"])],
        "roots",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
    )
    opset = helper.make_opsetid("", 18)
    path = tmp_path / "model.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()
    )
    with pytest.raises(WorkerFailedError, match="differs from ONNX Runtime's") as caught:
        _compile(path, None)
    assert caught.value.failure.kind is FailureKind.UNSUPPORTED
    assert _compile(path, None, verify="off")["tuning"] == "untuned"


@pytest.mark.slow  # 16 s on two free cores: a round of candidates, and TVM imported five times
def test_tuned_schedules_are_kept_and_used(model: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with WorkerProcess() as process:
        _load(process, model, state)
        # One round of candidates: the budget is over before a second can begin.
        answer = process.ask(worker.tune_command(0.1), within_s=_WITHIN_S, what="tune")
        below = psutil.Process(process._process.pid).children(recursive=True)
        assert not [one for one in below if "tvm_trial" in " ".join(one.cmdline())]
    assert answer["tuned_fraction"] == 0.5
    tuned = _compile(model, state)
    assert tuned["tuning"].startswith("metaschedule-")
    assert tuned["tuned_fraction"] == 0.5
    untuned = _compile(model, state, tuning="off")
    assert untuned["tuning"] == "untuned"
    assert untuned["tuned_fraction"] == 0.0
    assert len(list((state / "tvm" / "verified").iterdir())) == 2


@pytest.fixture
def library(model: Path, tmp_path: Path) -> Path:
    """The model compiled elsewhere, for this processor."""
    path = tmp_path / "model.library"
    command = [sys.executable, "-m", "boardfront.device_agent.backends.tvm_library"]
    target = '{"kind": "llvm"}'
    subprocess.run([*command, str(model), str(path), target], timeout=60, check=True)
    return path


@pytest.mark.skipif(shutil.which("g++") is None, reason="a library is linked by a C++ compiler")
def test_a_library_runs_only_where_native_code_may(library: Path, tmp_path: Path) -> None:
    subject = records.Subject(subject_id="s", artifact_sha256="", backend="tvm")
    options = TvmBackend.resolve({"compile_on": "host"}, _INFO)
    command = worker.load_command(subject, records.Task(), options, library, state=tmp_path / "s")
    with (
        WorkerProcess() as process,
        pytest.raises(WorkerFailedError, match="--run-native-code") as caught,
    ):
        process.ask(command, within_s=_WITHIN_S, what="load")
    assert caught.value.failure.kind is FailureKind.UNSUPPORTED
    with WorkerProcess() as process:
        process.ask({**command, "native_code": True}, within_s=_WITHIN_S, what="load")
        answer = process.ask({"do": "compile"}, within_s=_WITHIN_S, what="compile")
        mapped = psutil.Process(process._process.pid).children()[0].memory_maps()
        # The check imports onnxruntime; the compiler, 200 MB of LLVM, stays out.
        assert not [one.path for one in mapped if "libtvm_compiler" in one.path]
    assert answer["tuning"] == "untuned"
    assert len(list((tmp_path / "s" / "tvm" / "verified").iterdir())) == 1


@pytest.mark.parametrize("compile_on", ["device", "host"])
def test_a_file_of_the_other_kind_is_refused(model: Path, tmp_path: Path, compile_on: str) -> None:
    path = model
    if compile_on == "device":
        path = tmp_path / "model.library"
        path.write_bytes(b"PK\x03\x04 and so on")
    subject = records.Subject(subject_id="s", artifact_sha256="", backend="tvm")
    options = TvmBackend.resolve({"compile_on": compile_on}, _INFO)
    command = worker.load_command(subject, records.Task(), options, path)
    with WorkerProcess() as process, pytest.raises(WorkerFailedError) as caught:
        process.ask({**command, "native_code": True}, within_s=_WITHIN_S, what="load")
    assert caught.value.failure.kind is FailureKind.INVALID_ARTIFACT


def test_without_a_folder_nothing_is_tuned(model: Path) -> None:
    with WorkerProcess() as process:
        _load(process, model, None)
        with pytest.raises(WorkerFailedError, match="no folder for tuned schedules") as caught:
            process.ask(worker.tune_command(1.0), within_s=_WITHIN_S, what="tune")
    assert caught.value.failure.kind is FailureKind.UNSUPPORTED


@pytest.mark.slow  # 6 s on two free cores, until the first candidate is built
def test_a_tuning_that_is_killed_leaves_no_child(model: Path, tmp_path: Path) -> None:
    with WorkerProcess() as process:
        _load(process, model, tmp_path / "state")
        process._commands.write('{"do": "tune", "budget_s": 60.0, "whole_space": true}\n')
        process._commands.flush()
        guard = psutil.Process(process._process.pid)
        trials: list[psutil.Process] = []
        end_s = time.monotonic() + _WITHIN_S
        while not trials and time.monotonic() < end_s:
            time.sleep(0.1)
            below = guard.children(recursive=True)
            trials = [one for one in below if "tvm_trial" in " ".join(one.cmdline())]
    assert trials
    assert not any(one.is_running() for one in trials)


def test_a_backend_with_nothing_to_tune_says_so(model: Path) -> None:
    with WorkerProcess() as process:
        options = OnnxRuntimeBackend.resolve({}, OnnxRuntimeBackend.probe())
        subject = records.Subject(subject_id="s", artifact_sha256="", backend="onnxruntime")
        command = worker.load_command(subject, records.Task(), options, model)
        process.ask(command, within_s=_WITHIN_S, what="load")
        with pytest.raises(WorkerFailedError, match="nothing to tune"):
            process.ask(worker.tune_command(1.0), within_s=_WITHIN_S, what="tune")
