"""ONNX outputs beside torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from boardfront.host.export.agreement import (
    BATCHES,
    RELATIVE_LIMIT,
    OutputsDifferError,
    compare,
    difference,
)
from boardfront.host.finalists import write_deployable
from boardfront.search.spaces.etnas import EtnasSettings, EtnasSpace

SPACE = EtnasSpace(
    EtnasSettings(
        resolution=8,
        classes=10,
        in_channels=1,
        channels=(16,),
        last_channels=(16, 32),
        max_blocks=6,
    )
)
ENCODING = SPACE.sample(np.random.default_rng(5))


def _module() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return SPACE.build(ENCODING).eval()


@pytest.mark.parametrize("batch", [1, 3])
def test_what_was_written_agrees(batch: int) -> None:
    module = _module()
    model = write_deployable(SPACE, ENCODING, module, batch=batch)
    found = compare(SPACE, ENCODING, module, model)
    assert found.batches[0] == batch
    assert set(found.batches) == {batch, *BATCHES}
    assert found.inputs == 4 * sum(found.batches)
    assert 0.0 <= found.max_relative_error <= RELATIVE_LIMIT
    assert found.max_abs_error < 1e-3


def test_other_weights_are_refused() -> None:
    module = _module()
    model = write_deployable(SPACE, ENCODING, module, batch=1)
    # The classifier's: nothing behind it could undo a change.
    weight = next(one for one in reversed(model.graph.initializer) if len(one.dims) == 2)
    changed = numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    with pytest.raises(OutputsDifferError, match=r"differ from torch's by 0\.0"):
        compare(SPACE, ENCODING, module, model)


def test_difference() -> None:
    wanted = np.array([3.0, 4.0], dtype=np.float32)
    found = np.array([3.0, 4.5], dtype=np.float32)
    # The norm of (3, 4) is 5.
    assert difference(found, wanted) == pytest.approx((0.5, 0.1))
    assert difference(found[:1], wanted) == (float("inf"), float("inf"))
    assert difference(found * np.float32("nan"), wanted)[1] == float("inf")
