"""A few of the wrong inputs that `benchmarks/fuzz.py` makes by the hundred thousand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.fuzz import credentials, replies, samples, targets, wire
from tests.fuzz.mutation import Mutator

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

_SEED = 20_261_122


def test_messages() -> None:
    found = targets.fuzz_messages(Mutator(_SEED), 3000)
    assert found.total() == 3000
    assert min(found[kind] for kind in ("no message", "no record", "record")) > 50


def test_artifacts() -> None:
    found = targets.fuzz_artifacts(Mutator(_SEED), 2000)
    assert found["no network"] > 100
    assert found["network, programme"] > 20


def test_uploads(tmp_path: Path) -> None:
    found = targets.fuzz_uploads(Mutator(_SEED), 100, tmp_path)
    assert min(found["refused"], found["taken"]) > 5


def test_a_journal_on_a_rotten_disk(tmp_path: Path) -> None:
    found = targets.fuzz_journal(Mutator(_SEED), 100, tmp_path)
    assert min(found["read"], found["moved aside"]) > 5


def test_credentials(tmp_path: Path) -> None:
    found = credentials.fuzz_credentials(Mutator(_SEED), 90, tmp_path)
    assert min(found[f"{kind} refused"] for kind in ("install", "revoke", "load")) > 5


def test_requests(tmp_path: Path) -> None:
    found = wire.fuzz_wire(Mutator(_SEED), 600, tmp_path)
    methods = {name.split()[0] for name in found}
    assert methods == {*samples.requests(), "UploadArtifact"}
    assert found["Submit INVALID_ARGUMENT"] > 10
    assert found["Submit OK"] > 0


def test_replies() -> None:
    found = replies.fuzz_replies(Mutator(_SEED), 400)
    assert found["run InvalidRecordError"] > 0
    assert found["run OK"] > 0


def test_networks_in_a_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = wire.fuzz_runs(Mutator(_SEED), 4, tmp_path)
    assert found.total() == 4


def test_the_same_seed_spoils_the_same_way() -> None:
    first, second = (list(targets.spoilt_requests(Mutator(_SEED), 200)) for _ in range(2))
    assert first == second
    assert len(set(first)) > 100
