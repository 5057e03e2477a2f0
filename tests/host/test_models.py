"""A person's file travels without its large weights, unless they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from tests.device_agent.onnx_files import conv_net

from boardfront.host.models import read_model
from boardfront.latency_models.structure import structure_hash
from boardfront.protos.errors import WrongInputError
from boardfront.protos.weightless import is_note

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "net.onnx").write_bytes(conv_net(64))
    return tmp_path / "net.onnx"


def test_a_file_travels_weightless_or_as_it_is(path: Path) -> None:
    light = read_model(path, batch=1, shapes={})
    full = read_model(path, batch=1, shapes={}, with_weights=True)
    assert full.content == path.read_bytes()
    assert len(light.content) < 1000
    tensors = onnx.load_model_from_string(light.content).graph.initializer
    assert all(is_note(tensor.raw_data) for tensor in tensors)
    expected = structure_hash(onnx.load_model_from_string(full.content))
    assert light.structure_hash == full.structure_hash == expected


def test_weights_in_another_file_are_needed_only_to_be_sent(path: Path) -> None:
    expected = read_model(path, batch=1, shapes={})
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=1024)
    (path.parent / "w.bin").unlink()
    assert read_model(path, batch=1, shapes={}) == expected
    with pytest.raises(WrongInputError, match="keeps 2 tensors in other files"):
        read_model(path, batch=1, shapes={}, with_weights=True)
