"""Every catalogued backend that is available here keeps what backends/base.py promises."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from tests.device_agent import harness
from tests.device_agent.onnx_files import conv_net

from boardfront.device_agent import timing, worker
from boardfront.device_agent.backends import catalog
from boardfront.device_agent.backends.base import BackendError
from boardfront.device_agent.process import WorkerFailedError, WorkerProcess
from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import FailureKind, TaskKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.parametrize("name", catalog.places()),
]


@pytest.fixture(scope="module")
def probed() -> dict[str, records.BackendInfo]:
    """What a worker without any subject finds."""
    with WorkerProcess() as process:
        answer = process.ask({"do": "probe"}, within_s=harness.WITHIN_S, what="probe")
    infos = [
        codec.from_message(
            json_format.ParseDict(item, agent_pb2.BackendInfo()), records.BackendInfo
        )
        for item in answer["backends"]
    ]
    return {info.name: info for info in infos}


@pytest.fixture
def info(name: str, probed: dict[str, records.BackendInfo]) -> records.BackendInfo:
    found = probed[name]
    if not found.available:
        pytest.skip(found.reason)
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(conv_net())
    return path


@contextlib.contextmanager
def _worker(
    info: records.BackendInfo, artifact: Path, task: records.Task | None = None
) -> Iterator[tuple[WorkerProcess, dict[str, Any]]]:
    """Start a worker; yield it with its first command."""
    options = catalog.load(info.name).resolve({}, info)
    subject = records.Subject(subject_id="s", artifact_sha256="", backend=info.name)
    with WorkerProcess() as process:
        yield process, worker.load_command(subject, task or records.Task(), options, artifact)


def _ask(process: WorkerProcess, command: dict[str, Any]) -> dict[str, Any]:
    return process.ask(command, within_s=harness.WITHIN_S, what=command["do"])


def test_a_probe_says_what_it_is_or_what_is_missing(
    name: str, probed: dict[str, records.BackendInfo]
) -> None:
    found = probed[name]
    assert found.name == name
    if not found.available:
        assert found.reason
        return
    assert found.version
    assert found.tasks
    assert len({option.name for option in found.options}) == len(found.options)
    assert all(option.allowed and option.description for option in found.options)


def test_importing_its_module_imports_no_runtime(name: str) -> None:
    module = catalog.places()[name].partition(":")[0]
    code = (
        f"import sys, {module}; "
        "print(sorted({'onnxruntime', 'onnx', 'torch', 'tvm', 'rknn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


def test_options_are_completed_by_their_defaults(name: str, info: records.BackendInfo) -> None:
    defaults = {option.name: option.default for option in info.options}
    resolve = catalog.load(name).resolve
    assert resolve({}, info) == defaults
    given = {key: value for key, value in defaults.items() if value}
    assert resolve(given, info) == defaults


def test_an_unknown_option_names_the_known(name: str, info: records.BackendInfo) -> None:
    with pytest.raises(BackendError, match="no option 'warp'") as caught:
        catalog.load(name).resolve({"warp": "9"}, info)
    assert caught.value.kind is FailureKind.UNSUPPORTED
    assert all(repr(option.name) in str(caught.value) for option in info.options)


def test_a_value_that_is_not_allowed_names_the_allowed(
    name: str, info: records.BackendInfo
) -> None:
    for option in info.options:
        with pytest.raises(BackendError) as caught:
            catalog.load(name).resolve({option.name: "\x00 never"}, info)
        assert caught.value.kind is FailureKind.UNSUPPORTED
        assert option.name in str(caught.value)
        assert option.allowed in str(caught.value)


def test_a_network_is_loaded_compiled_warmed_up_and_timed(
    info: records.BackendInfo, model: Path
) -> None:
    with _worker(info, model) as (process, load):
        assert _ask(process, load)["duration_s"] >= 0.0
        assert _ask(process, {"do": "compile"})["duration_s"] >= 0.0
        warm = _ask(process, {"do": "warm_up", "min_duration_s": 0.05})
        assert len(warm["runs_s"]) >= 3
        assert warm["steady_s"] > 0.0
        plan = timing.WindowPlan(loops=2, samples=3, gap_s=0.0)
        windows = [_ask(process, worker.window_command(plan)) for _ in range(2)]
        assert all(len(window["samples_s"]) == 3 for window in windows)
        assert all(min(window["samples_s"]) > 0.0 for window in windows)
        assert warm["now_s"] <= windows[0]["start_s"] < windows[0]["end_s"]
        assert windows[0]["end_s"] <= windows[1]["start_s"]


@pytest.mark.parametrize("content", [b"", b"\x08\x0a\xff\xff"])
def test_what_is_no_network_is_an_invalid_artifact(
    info: records.BackendInfo, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with _worker(info, path) as (process, load):

        def load_and_compile() -> None:
            _ask(process, load)
            _ask(process, {"do": "compile"})

        with pytest.raises(WorkerFailedError) as caught:
            load_and_compile()
    assert caught.value.failure.kind is FailureKind.INVALID_ARTIFACT
    assert caught.value.failure.message


def test_a_task_it_does_not_claim_is_unsupported(info: records.BackendInfo, model: Path) -> None:
    for kind in set(TaskKind) - set(info.tasks):
        task = dataclasses.replace(records.Task(), kind=kind)
        with _worker(info, model, task) as (process, load):
            with pytest.raises(WorkerFailedError, match=kind.value) as caught:
                _ask(process, load)
            assert caught.value.failure.kind is FailureKind.UNSUPPORTED


@pytest.mark.slow
def test_every_task_it_claims_is_loaded(info: records.BackendInfo, model: Path) -> None:
    for kind in info.tasks:
        task = dataclasses.replace(records.Task(), kind=kind)
        with _worker(info, model, task) as (process, load):
            _ask(process, load)


def test_its_name_is_taken(name: str) -> None:
    with pytest.raises(WrongInputError, match=f"unknown backend '{name}2'.*'{name}'"):
        catalog.load(f"{name}2")
