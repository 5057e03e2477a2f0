"""The wheel holds the package under its import name, and everything that it needs at run time."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_FOLDERS = ("device_agent", "host", "latency_models", "protos", "search")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel that was just built."""
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=_ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = target.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("folder", _FOLDERS)
def test_each_folder_is_a_subpackage(names: set[str], folder: str) -> None:
    assert f"boardfront/{folder}/__init__.py" in names
    assert f"boardfront/{folder}/py.typed" in names
    assert not any(name.startswith(f"{folder}/") for name in names)


def test_boardfront_is_a_namespace(names: set[str]) -> None:
    assert "boardfront/__init__.py" not in names


def test_what_is_not_python_travels_too(names: set[str]) -> None:
    assert "boardfront/protos/agent.proto" in names
    assert "boardfront/protos/agent_pb2_grpc.pyi" in names
    assert "boardfront/latency_models/migrations/versions/0001_measurements.py" in names
    assert "boardfront/host/report/templates/page.css" in names


def test_tests_stay_at_home(names: set[str]) -> None:
    assert not any("tests" in Path(name).parts for name in names)


@pytest.mark.parametrize("folder", _FOLDERS)
def test_a_bare_import_says_what_to_import(folder: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"ImportError: import boardfront.{folder}, not {folder}" in done.stderr
