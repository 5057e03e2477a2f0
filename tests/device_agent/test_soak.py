"""The benchmark of leaks, in short: nothing grows from one measurement to the next."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(120)

_SCRIPT = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.slow
def test_twenty_measurements_leave_nothing_behind() -> None:
    done = subprocess.run(
        [sys.executable, str(_SCRIPT), "--measurements", "20", "--json"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["broken"] == []
    first, last = found["looks"]
    assert (first["measurements"], last["measurements"]) == (10, 20)
    assert last["children"] == last["worker_folders"] == 0
    # Of 22 artifacts of 256 KiB each, the store of 1 MiB holds the last four.
    assert (last["artifacts"], last["artifacts_bytes"]) == (4, 1 << 20)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"files": 15}, "open files after 20"),
        ({"threads": 15}, "threads after 20"),
        ({"children": 1}, "processes after 20"),
        ({"rss_bytes": (50 << 20) + (6 << 20)}, "memory after 20"),
        ({"artifacts_bytes": (1 << 20) + 1}, "artifacts after 20"),
        ({"other_disk_bytes": 1 << 20}, "disk after 20"),
        ({"worker_folders": 1}, "worker folders after 20"),
    ],
)
def test_each_leak_is_named(changes: dict[str, int], named: str) -> None:
    soak = _module()
    first = soak.Look(
        measurements=10,
        elapsed_s=1.0,
        files=10,
        threads=10,
        children=0,
        rss_bytes=50 << 20,
        artifacts=4,
        artifacts_bytes=1 << 20,
        other_disk_bytes=100,
        worker_folders=0,
    )
    assert soak.broken_bounds([first, replace(first, measurements=20)], 1) == []
    broken = soak.broken_bounds([first, replace(first, measurements=20, **changes)], 1)
    assert broken == [f"{named} measurements"]


def _module() -> Any:
    spec = importlib.util.spec_from_file_location("soak", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module
    spec.loader.exec_module(module)
    return module
