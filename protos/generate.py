"""Generate the Python code of agent.proto, or check that the committed code is current.

Run it by `make protos`, which gives it an environment of its own: generated code runs on the
generator's protobuf and every newer one, so the generator is kept old for the boards' sake.

Usage:
    python protos/generate.py           # write
    python protos/generate.py --check   # exit 1 if what is committed differs
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_GENERATED = ("agent_pb2.py", "agent_pb2.pyi", "agent_pb2_grpc.py", "agent_pb2_grpc.pyi")


def main() -> int:
    """Run the generator; return the exit code."""
    parser = argparse.ArgumentParser(description="Generate code from agent.proto.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check: bool = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        fresh = _generate(Path(folder))
        stale = [name for name in _GENERATED if _read(_HERE / name) != fresh[name]]
        if not check:
            for name in stale:
                (_HERE / name).write_text(fresh[name])
    if check and stale:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run: make protos\n")
        return 1
    return 0


def _generate(folder: Path) -> dict[str, str]:
    tools = Path(sys.executable).parent
    subprocess.run(  # noqa: S603 - our own arguments
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path=boardfront/protos={_HERE}",
            f"--plugin=protoc-gen-mypy={tools / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={tools / 'protoc-gen-mypy_grpc'}",
            f"--python_out={folder}",
            f"--mypy_out={folder}",
            f"--mypy_grpc_out={folder}",
            f"--grpc_python_out={folder}",
            "boardfront/protos/agent.proto",
        ],
        check=True,
        capture_output=True,
    )
    out = folder / "boardfront" / "protos"
    return {name: (out / name).read_text() for name in _GENERATED}


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
