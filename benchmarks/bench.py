"""What the benchmarks share: a local agent with a store of its own, and networks to measure."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from boardfront.host.fleet.address import LocalAgent
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.measurer import DeviceMeasurer
from boardfront.host.models import read_model
from boardfront.latency_models.base import ReferenceModel, TimeRequest
from boardfront.latency_models.store import MeasurementStore
from boardfront.latency_models.structure import structure_hash
from boardfront.protos.records import Deadlines, Task
from boardfront.search.reference import choose_reference
from boardfront.search.spaces import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"

# The quickstart's space: networks of one to three milliseconds in batches of eight.
SPACE = {
    "resolution": 16,
    "classes": 10,
    "in_channels": 1,
    "stem_channels": 24,
    "stem_stride": 1,
    "stages": [[48, 4], [96, 8]],
    "last_channels": 192,
}
BATCH = 8


@contextlib.contextmanager
def local_measurer() -> Iterator[DeviceMeasurer]:
    """A measurer over a fresh local agent; both are gone afterwards."""
    with tempfile.TemporaryDirectory() as state:
        agent = LocalAgent(Path(state) / "agent")
        client = AgentClient(agent)
        with MeasurementStore(Path(state) / "store.db") as store:
            try:
                yield DeviceMeasurer(client, store)
            finally:
                client.close()
                agent.close()


def space_requests(count: int, seed: int = 0) -> tuple[list[TimeRequest], ReferenceModel]:
    """Return fresh requests for networks of the space, and the space's reference."""
    space = catalog.load("spos", SPACE)
    rng = np.random.default_rng(seed)
    reference = choose_reference(space, rng)  # type: ignore[arg-type]
    requests = [_request(space, space.sample(rng)) for _ in range(count)]
    asked = _request(space, reference)
    return requests, ReferenceModel(
        model=asked.model, structure_hash=asked.structure_hash, label=reference
    )


def file_request(name: str) -> TimeRequest:
    """Return a fresh request for one of the networks inside the onnx package."""
    model = read_model(LIGHT / f"{name}.onnx", batch=1, shapes={})
    return TimeRequest(
        model=model.content,
        structure_hash=model.structure_hash,
        task=Task(),
        backend="onnxruntime",
        label=name,
        fresh=True,
        deadlines=Deadlines(run_s=60.0),
    )


def _request(space: object, encoding: str) -> TimeRequest:
    model = space.write_onnx(encoding, batch=BATCH)  # type: ignore[attr-defined]
    return TimeRequest(
        model=model.SerializeToString(deterministic=True),
        structure_hash=structure_hash(model),
        task=Task(batch=BATCH),
        backend="onnxruntime",
        label=encoding,
        fresh=True,
    )
