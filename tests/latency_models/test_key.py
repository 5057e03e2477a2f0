"""A key holds everything a time is true for, in any order of writing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from boardfront.latency_models.key import TimeKey
from boardfront.protos.records import Origin, Target, Task, TaskKind

_KEY = TimeKey(
    structure_hash="s",
    task=Task(),
    fingerprint="f",
    backend="onnxruntime",
    backend_version="1",
    options=(("b", "2"), ("a", "1")),
    input_shapes=(("y", (1, 2)), ("x", (3,))),
)


def test_order_of_options_and_shapes_does_not_count() -> None:
    other = dataclasses.replace(
        _KEY,
        options=tuple(reversed(_KEY.options)),
        input_shapes=tuple(reversed(_KEY.input_shapes)),
    )
    assert other == _KEY
    assert other.digest == _KEY.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"structure_hash": "t"},
        {"task": Task(batch=2)},
        {"task": Task(kind=TaskKind.TRAINING_STEP)},
        {"fingerprint": "g"},
        {"backend": "tvm"},
        {"backend_version": "2"},
        {"options": (("a", "1"),)},
        {"tuning": "t"},
        {"cpus": "4-7"},
        {"input_shapes": (("x", (4,)),)},
        {"measurement_protocol_version": 99},
        {"origin": Origin.EMULATED},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_field_counts(changes: dict[str, Any]) -> None:
    assert dataclasses.replace(_KEY, **changes).digest != _KEY.digest


def test_of_target_copies_the_whole_target() -> None:
    target = Target(
        fingerprint="f",
        backend="onnxruntime",
        backend_version="1",
        options={"a": "1", "b": "2"},
        tuning="",
    )
    key = TimeKey.of_target(
        target,
        structure_hash="s",
        task=Task(),
        input_shapes={"x": (3,), "y": (1, 2)},
        origin=Origin.MEASURED,
    )
    assert key == _KEY


def test_the_digest_is_stable() -> None:
    # Origin: this implementation at its first version. A change orphans every stored time.
    first = dataclasses.replace(_KEY, measurement_protocol_version=1)
    assert first.digest == "cbf96e88c57204e91dc442bfa19151ca94979fb374fc8befe849a212f483537e"
