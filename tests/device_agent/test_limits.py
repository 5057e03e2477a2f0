"""What a worker may take is held, and what it took is told rightly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.device_agent import harness
from tests.device_agent.harness import programme, result_of, serving

from boardfront.device_agent import cli, guard, limits
from boardfront.device_agent.process import WorkerFailedError, WorkerProcess
from boardfront.protos.records import FailureKind

_PROBE = {"do": "probe"}
_MIB = 1 << 20


def test_a_worker_is_held_before_anything_is_loaded() -> None:
    with limits.worker_memory(300 * _MIB), WorkerProcess() as worker:
        worker.ask(_PROBE, within_s=harness.WITHIN_S, what="probe")
        (pid,) = guard.descendants(worker._process.pid)
        proc = _lines(pid, "limits")
        assert proc["Max data size"].split()[:2] == [str(300 * _MIB)] * 2
        # One byte: no core file, and none for a collector behind a pipe either.
        assert proc["Max core file size"].split()[:2] == ["1", "1"]
        assert _lines(pid, "status")["NoNewPrivs:"] == "1"
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
        own = Path("/proc/self/oom_score_adj").read_text()
        guards = Path(f"/proc/{worker._process.pid}/oom_score_adj").read_text()
        assert guards == own
    assert limits.worker_memory_bytes() == limits.default_memory_bytes()


def test_the_peak_is_the_workers_own_not_its_parents() -> None:
    # getrusage's figure begins at the size of whoever called exec.
    code = (
        "import sys, subprocess; ballast = bytearray(b'x') * (200 << 20); "
        "done = subprocess.run([sys.executable, '-c', sys.argv[1]], close_fds=False); "
        "sys.exit(done.returncode)"
    )
    inner = (
        "from boardfront.device_agent import limits\n"
        "small = limits.peak_rss_bytes()\nkept = bytearray(b'x') * (60 << 20)\n"
        "big = limits.peak_rss_bytes()\ndel kept\n"
        "print([small, big, limits.peak_rss_bytes()])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, inner], capture_output=True, text=True, check=True, timeout=30
    )
    small, big, after = json.loads(done.stdout)
    assert small < 100 * _MIB
    assert big >= small + 55 * _MIB
    # The kernel keeps the count a few pages a thread behind.
    assert abs(after - big) < _MIB


def test_a_result_carries_the_peak_of_its_worker(tmp_path: Path) -> None:
    ballast = bytearray(b"x") * (200 * _MIB)
    with serving(tmp_path) as (_, wire):
        result = result_of(wire.measure(programme()))
    peak_bytes = result.circumstances.worker_peak_rss_bytes
    assert peak_bytes is not None
    assert 5 * _MIB < peak_bytes < 150 * _MIB
    del ballast


def test_memory_of_several_processes_is_counted_once() -> None:
    code = (
        "import os, time; kept = bytearray(b'x') * (80 << 20); os.fork(); os.fork(); "
        "os.write(1, b'ready\\n'); time.sleep(60)"
    )
    top = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert top.stdout is not None
        for _ in range(4):
            assert top.stdout.readline() == b"ready\n"
        pids = [top.pid, *guard.descendants(top.pid)]
        assert len(pids) == 4
        assert limits.resident_bytes(pids, over_bytes=1 << 50) > 4 * 80 * _MIB
        assert 80 * _MIB < limits.resident_bytes(pids, over_bytes=0) < 2 * 80 * _MIB
        assert limits.resident_bytes([2**22 + 1], over_bytes=0) == 0
    finally:
        os.killpg(top.pid, 9)
        top.communicate(timeout=harness.WITHIN_S)


def test_the_kernels_count_of_kills_is_read_wherever_it_is(tmp_path: Path) -> None:
    assert limits.oom_kills(tmp_path) == 0
    _write(tmp_path / "proc/vmstat", "pgfault 7\noom_kill 3\noom_kill_other 9\n")
    assert limits.oom_kills(tmp_path) == 3
    _write(tmp_path / "proc/self/cgroup", "4:cpu,memory:/job\n0::/unit/agent\n")
    _write(tmp_path / "sys/fs/cgroup/unit/agent/memory.events", "oom 8\noom_kill 2\n")
    assert limits.oom_kills(tmp_path) == 5
    _write(tmp_path / "sys/fs/cgroup/memory/job/memory.oom_control", "under_oom 0\noom_kill 1\n")
    assert limits.oom_kills(tmp_path) == 6
    assert limits.oom_kills() >= 0


def test_the_default_is_a_share_of_what_the_container_has(tmp_path: Path) -> None:
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert limits.default_memory_bytes(tmp_path) == int(0.8 * machine_bytes)
    _write(tmp_path / "proc/self/cgroup", "0::/\n")
    _write(tmp_path / "sys/fs/cgroup/memory.max", "max\n")
    assert limits.default_memory_bytes(tmp_path) == int(0.8 * machine_bytes)
    _write(tmp_path / "sys/fs/cgroup/memory.max", f"{500 * _MIB}\n")
    assert limits.default_memory_bytes(tmp_path) == 400 * _MIB
    _write(tmp_path / "sys/fs/cgroup/memory.max", "4096\n")
    assert limits.default_memory_bytes(tmp_path) == limits.MIN_MEMORY_BYTES


@pytest.mark.parametrize(
    ("rises", "kind", "named"),
    [
        (True, FailureKind.OUT_OF_MEMORY, "by the kernel, which had no memory left"),
        (False, FailureKind.CRASHED, "the worker died by signal SIGKILL during probe"),
    ],
)
def test_killed_by_the_kernel_is_told_from_killed(
    monkeypatch: pytest.MonkeyPatch, *, rises: bool, kind: FailureKind, named: str
) -> None:
    with WorkerProcess() as worker:
        worker.ask(_PROBE, within_s=harness.WITHIN_S, what="probe")
        # The counter is the kernel's: nobody can make it rise without taking the machine's memory.
        counted = limits.oom_kills() + rises
        monkeypatch.setattr(limits, "oom_kills", lambda: counted)
        (pid,) = guard.descendants(worker._process.pid)
        os.kill(pid, 9)
        with pytest.raises(WorkerFailedError) as caught:
            worker.ask(_PROBE, within_s=harness.WITHIN_S, what="probe")
    assert caught.value.failure.kind is kind
    assert named in caught.value.failure.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("what():  std::bad_alloc", True),
        ("[E] bad allocation", True),
        ("CUDA error: out of memory", True),
        ("Failed to allocate memory for requested buffer of size 8", True),
        ("MemoryError", True),
        ("Segmentation fault", False),
        ("", False),
    ],
)
def test_last_words_on_memory(text: str, *, expected: bool) -> None:
    assert limits.tells_of_memory(text) is expected


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--worker-memory-mb", "255"),
        ("--artifact-store-mb", "0"),
        ("--artifact-days", "-1"),
        ("--max-artifact-mb", "0"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    assert cli.main(["serve", "--state", str(tmp_path), option, value]) == 2
    printed = capsys.readouterr().err
    assert f"{option} {value}" in printed
    assert printed.count("\n") == 1


def _lines(pid: int, name: str) -> dict[str, str]:
    """Return a table of /proc by its first column, which ends where two spaces or a tab are."""
    found = {}
    for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
        key, _, rest = line.replace("\t", "  ").partition("  ")
        found[key] = rest.strip()
    return found


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
