"""Workers and whole agents in isolation: what holds, what is timed, and where it cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.device_agent import harness
from tests.device_agent.harness import make_job, result_of
from tests.device_agent.onnx_files import conv_net

from boardfront.device_agent import isolation, limits, protections
from boardfront.device_agent.agent import Agent, WorkerRules
from boardfront.device_agent.backends import catalog
from boardfront.device_agent.process import WorkerFailedError, WorkerProcess
from boardfront.device_agent.protections import WorkerBounds
from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from pathlib import Path

_ROOT = os.geteuid() == 0


def _may_isolate() -> bool:
    with WorkerProcess() as worker:
        return worker.protections().no_network


pytestmark = pytest.mark.timeout(60)
isolating = pytest.mark.skipif(not _may_isolate(), reason="this system gives no namespaces")


@isolating
def test_a_worker_is_isolated_and_the_kernel_says_so(tmp_path: Path) -> None:
    with protections.workers(WorkerBounds(state=tmp_path)), WorkerProcess() as worker:
        held = worker.protections()
        answer = worker.ask({"do": "probe"}, within_s=harness.WITHIN_S, what="probe")
    assert held == protections.Protections(
        no_new_privileges=True,
        no_network=True,
        sealed_files=True,
        file_bytes=isolation.FILE_BYTES,
        open_files=isolation.OPEN_FILES,
        tasks=isolation.TASKS if not _ROOT and isolation._kernel() >= (5, 14) else None,
    )
    assert answer["backends"]
    bounds = WorkerBounds(isolation=isolation.OFF, state=tmp_path)
    with protections.workers(bounds), WorkerProcess() as worker:
        held = worker.protections()
    assert (held.no_new_privileges, held.no_network, held.sealed_files) == (True, False, False)


def test_a_worker_that_never_was_has_no_protections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protections, "guard_arguments", lambda: ("on",))
    with WorkerProcess() as worker, pytest.raises(WorkerFailedError, match="its start"):
        worker.protections()


def _subject_of(name: str, content: bytes) -> records.Subject:
    options = {"threads": "1"} if name != "fake" else {}
    tuning_s = 1.5 if name == "tvm" else 0.0
    made = harness.subject(content, backend=name, options=options)
    return records.Subject(
        subject_id=made.subject_id,
        artifact_sha256=made.artifact_sha256,
        backend=name,
        options=made.options,
        tuning_budget_s=tuning_s,
    )


@isolating
@pytest.mark.parametrize(
    "name", ["onnxruntime", "torch", pytest.param("tvm", marks=pytest.mark.slow)]
)
def test_networks_are_timed_and_tuned_in_isolation(name: str, tmp_path: Path) -> None:
    info = catalog.load(name).probe()
    if not info.available:
        pytest.skip(info.reason)
    content = conv_net(channels=4)
    rules = WorkerRules(isolation=isolation.ON)
    deadlines = records.Deadlines(queue_s=60.0, compile_s=40.0, run_s=10.0)
    with harness.serving(tmp_path / "state", workers=rules) as (_, wire):
        job = make_job(subjects=(_subject_of(name, content),), deadlines=deadlines)
        wire.submit(job, content)
        request = agent_pb2.WatchRequest(job_id=job.job_id)
        # Importing TVM three times takes long on a busy machine.
        messages = wire.stub.Watch(request, timeout=55.0)
        events = [codec.from_message(message, records.JobEvent) for message in messages]
    assert result_of(harness.answers(events)["s0"]).statistics.median_s > 0
    # Found by trials, which are timed in processes that the worker starts.
    schedules = list((tmp_path / "state" / "tuning").rglob("schedules/*.json"))
    assert bool(schedules) == (name == "tvm")


def test_an_agent_that_must_isolate_and_cannot_does_not_serve(tmp_path: Path) -> None:
    agent = Agent(tmp_path, workers=WorkerRules(isolation=isolation.ON))
    try:
        agent._bounds = WorkerBounds(isolation=isolation.OFF)
        with pytest.raises(BoardfrontError, match="a worker is not isolated"):
            agent.start()
    finally:
        agent.stop()


@isolating
@pytest.mark.parametrize("user", ["self", "another"])
def test_a_whole_agent_measures_as_a_plain_user(user: str, tmp_path: Path) -> None:
    if user == "another" and not (_ROOT and shutil.which("unshare")):
        pytest.skip("only root can be mapped to a plain user that may read this interpreter")
    # To the agent it is user 1000: it isolates its workers by a user namespace in this one.
    prefix = ("unshare", "--user", "--map-user=1000", "--map-group=1000") if user != "self" else ()
    options = ("--worker-isolation", "on")
    with harness.AgentProcess(tmp_path / "state", options=options, prefix=prefix) as agent:
        wire = harness.Wire(agent.address)
        content = conv_net(channels=4)
        job = make_job(subjects=(harness.subject(content, backend="onnxruntime"),))
        assert result_of(harness.answers(wire.run(job, content))["s0"]).statistics.median_s > 0
        wire.close()
        assert agent.terminate() == 0


_CONTAINED = ("setpriv", "--bounding-set=-sys_admin")
contained = pytest.mark.skipif(
    not _ROOT or shutil.which("setpriv") is None, reason="only root can be root without rights"
)


@contained
def test_root_in_a_container_serves_unless_isolation_is_demanded(tmp_path: Path) -> None:
    command = [*_CONTAINED, sys.executable, "-m", "boardfront.device_agent.cli", "serve"]
    done = subprocess.run(
        [*command, "--listen=127.0.0.1:0", f"--state={tmp_path}", "--worker-isolation=on"],
        capture_output=True,
        text=True,
        timeout=harness.WITHIN_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "--worker-isolation on: this is root without the right to make namesp" in done.stderr
    assert "CAP_SYS_ADMIN" in done.stderr
    with harness.AgentProcess(tmp_path, prefix=_CONTAINED) as agent:
        wire = harness.Wire(agent.address)
        assert result_of(wire.measure(harness.programme())).statistics.median_s > 0
        wire.close()


@contained
def test_the_doctor_says_why_it_is_not_isolated() -> None:
    code = (
        "from boardfront.device_agent import doctor\n"
        "for found in doctor._worker_isolation():\n"
        "    print(found.severity.value, found.name, '|', found.evidence, '|', found.remedy)"
    )
    done = subprocess.run(
        [*_CONTAINED, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=harness.WITHIN_S,
        check=True,
    )
    rights, network, files = done.stdout.splitlines()
    assert rights.startswith("good worker rights | 512 processes")
    for line in (network, files):
        assert line.startswith("warning worker ")
        assert "as in a container | run the agent as a user of its own" in line


def test_too_many_processes_end_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_PROCESSES", 0)
    with WorkerProcess() as worker, pytest.raises(WorkerFailedError) as caught:
        worker.ask({"do": "probe"}, within_s=harness.WITHIN_S, what="probe")
    assert "1 processes during probe: the limit is 0" in caught.value.failure.message


@pytest.mark.parametrize(
    ("files", "uid", "reason", "remedy"),
    [
        (
            {"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
            1000,
            "AppArmor",
            "apparmor_restrict_unprivileged_userns=0",
        ),
        (
            {"proc/sys/kernel/unprivileged_userns_clone": "0\n"},
            1000,
            "switched off",
            "unprivileged_userns_clone=1",
        ),
        ({"proc/sys/user/max_user_namespaces": "0\n"}, 1000, "switched off", "max_user_names"),
        ({}, 1000, "no user namespaces", "CONFIG_USER_NS"),
        (
            {"proc/self/ns/user": "", "proc/self/status": "CapEff:\t00000000a80425fb\n"},
            0,
            "as in a container",
            "CAP_SYS_ADMIN",
        ),
        (
            {"proc/self/ns/user": "", "proc/self/status": "CapEff:\t000001ffffffffff\n"},
            0,
            "refuses namespaces",
            "seccomp",
        ),
        ({"proc/self/ns/user": ""}, 1000, "refuses namespaces", "seccomp"),
    ],
)
def test_why_not_and_what_to_do(
    tmp_path: Path, files: dict[str, str], uid: int, reason: str, remedy: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = protections.obstacle(tmp_path, uid)
    assert reason in found[0]
    assert remedy in found[1]
