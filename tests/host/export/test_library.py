"""An exported network compiled by TVM."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from boardfront.host.experiment import TargetSettings
from boardfront.host.export import library
from boardfront.host.export.library import Library, LibraryDiffersError, compile_for
from boardfront.host.finalists import write_deployable
from boardfront.search.spaces.etnas import EtnasSettings, EtnasSpace

if TYPE_CHECKING:
    from pathlib import Path

    import onnx
    from tests.host.searching import Place

_ELF_AARCH64 = 0xB7

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tvm") is None, reason="TVM is not installed"),
]


def _needs(triple: str) -> pytest.MarkDecorator:
    missing = shutil.which(f"{triple}-gcc") is None
    return pytest.mark.skipif(missing, reason=f"no {triple}-gcc")


def _model() -> onnx.ModelProto:
    space = EtnasSpace(
        EtnasSettings(
            resolution=8,
            classes=10,
            in_channels=1,
            channels=(16,),
            last_channels=(16, 32),
            max_blocks=4,
        )
    )
    encoding = space.sample(np.random.default_rng(5))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = space.build(encoding).eval()
    return write_deployable(space, encoding, module, batch=1)


@_needs("x86_64-linux-gnu")
def test_a_library_beside_the_model(finished: Place, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    done = finished.call("export", "latest", "-o", str(folder), "--tvm", "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)["library"]
    assert told["file"] == "model.so"
    assert (folder / "model.so").read_bytes()[:4] == b"\x7fELF"
    assert told["target"]["mtriple"] == "x86_64-linux-gnu"
    assert told["tuning"] == "untuned"
    assert told["max_relative_error"] < library.RELATIVE_LIMIT
    assert "`model.so`" in (folder / "README.md").read_text()
    assert json.loads((folder / "promise.json").read_text())["library"] == told


@_needs("aarch64-linux-gnu")
def test_another_processor_s_library_is_made_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    code = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a76"}
    target = TargetSettings(
        name="board", device="local", backend="tvm", options={"target": json.dumps(code)}
    )
    made = compile_for(_model(), target, tmp_path)
    content = (tmp_path / "model.so").read_bytes()
    assert int.from_bytes(content[18:20], "little") == _ELF_AARCH64
    assert made.max_relative_error is None
    assert "not aarch64" in made.unchecked
    assert "It was not run: this machine is" in made.words()


@_needs("x86_64-linux-gnu")
def test_a_library_of_another_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    target = TargetSettings(name="board", device="local", backend="onnxruntime")
    made: Library = compile_for(_model(), target, tmp_path)
    other = _model()
    for tensor in other.graph.initializer:
        if tensor.name.startswith("classifier."):
            changed = numpy_helper.to_array(tensor) * np.float32(1.1)
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    with pytest.raises(LibraryDiffersError, match="export without --tvm"):
        library._check(other, tmp_path / made.file, "1")
    error, reason = library._check(_model(), tmp_path / "README.md", "1")
    assert error is None
    assert "does not run here" in reason
    assert replace(made, max_relative_error=None, unchecked=reason).words().endswith(".")
