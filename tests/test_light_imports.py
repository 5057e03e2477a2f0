"""A board installs little: importing the agent pulls in none of the heavy libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAVY = (
    *("torch", "pymoo", "textual", "sklearn", "pandas", "onnxruntime", "onnx", "pydantic"),
    *("sqlalchemy", "typer", "rich", "alembic", "scipy", "cryptography"),
)
_AGENT = ("cli", "server", "agent", "worker")


@pytest.mark.parametrize(
    "modules",
    [
        [f"boardfront.device_agent.{name}" for name in _AGENT],
        ["boardfront.protos.codec", "boardfront.protos.statistics"],
    ],
    ids=["agent", "protos"],
)
def test_importing_it_is_light(modules: list[str]) -> None:
    code = f"import sys, {', '.join(modules)}; print(sorted(set({_HEAVY}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_worker_has_no_server() -> None:
    # Each subject starts one: what it imports is what a search of thousands waits for.
    code = "import sys, boardfront.device_agent.worker; print('grpc' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "False"
