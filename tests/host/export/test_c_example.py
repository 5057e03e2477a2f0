"""The C program of an export, compiled and run."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

if TYPE_CHECKING:
    from tests.host.searching import Place

_INCLUDE = Path(__file__).with_name("include")
_LIBRARY = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
    pytest.mark.skipif(_LIBRARY is None, reason="this onnxruntime brings no shared library"),
]


@pytest.fixture(scope="module")
def exported(finished: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("c") / "net"
    done = finished.call("export", "latest", "-o", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def example(exported: Path) -> Path:
    """The program, compiled as its head says, with every warning an error."""
    assert _LIBRARY is not None
    libraries = exported.parent / "lib"
    libraries.mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (libraries / name).symlink_to(_LIBRARY)
    program = exported.parent / "example"
    done = subprocess.run(
        [
            *("cc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"),
            *(str(exported / "example.c"), "-o", str(program), "-I", str(_INCLUDE)),
            *("-L", str(libraries), "-lonnxruntime", f"-Wl,-rpath,{libraries}"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return program


def _run(program: Path, model: Path, data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(program), str(model)], input=data, capture_output=True, timeout=60, check=False
    )


def test_it_computes_what_python_computes(example: Path, exported: Path) -> None:
    told = json.loads((exported / "promise.json").read_text())
    shape = told["input"]["shape"]
    bytes_ = np.random.default_rng(4).integers(0, 256, size=shape, dtype=np.uint8)
    mean = np.array(told["normalisation"]["mean"]).reshape(1, -1, 1, 1)
    std = np.array(told["normalisation"]["std"]).reshape(1, -1, 1, 1)
    images = ((bytes_ / 255 - mean) / std).astype(np.float32)
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    (wanted,) = session.run(None, {told["input"]["name"]: images})
    done = _run(example, exported / "model.onnx", bytes_.tobytes())
    assert done.returncode == 0, done.stderr
    *scores, _class, best = done.stdout.decode().split()
    np.testing.assert_allclose([float(one) for one in scores], wanted[0], rtol=1e-4, atol=1e-5)
    assert int(best) == int(np.argmax(wanted[0]))


def test_its_errors_are_words(example: Path, exported: Path) -> None:
    done = _run(example, exported / "nothing.onnx", b"\0" * 64)
    assert done.returncode == 1
    assert b"nothing.onnx" in done.stderr
    done = _run(example, exported / "model.onnx", b"\0")
    assert done.returncode == 1
    assert b"expected 64 bytes" in done.stderr


def test_the_page_shows_lines_of_the_program(exported: Path) -> None:
    page = (exported / "README.md").read_text()
    program = (exported / "example.c").read_text()
    shown = page.partition("```c\n")[2].partition("```")[0]
    lines = [line for line in shown.splitlines() if line]
    assert len(lines) > 8
    assert all(line in program for line in lines)
