"""A device that is not as it was when a run was interrupted: its old times are measured again."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from tests.host.fleet.leveled import LeveledDevice, leveled_agent

from boardfront.host.earlier_times import EarlierTimes
from boardfront.host.experiment import TargetSettings
from boardfront.host.targets import Targets, TargetSurroundings
from boardfront.latency_models.store import MeasurementStore
from boardfront.search.evaluation import Candidate, Latency
from boardfront.search.spaces import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boardfront.search.spaces.spos.space import SposSpace

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[LeveledDevice]:
    with leveled_agent(tmp_path / "agent") as running:
        yield running


class _Part:
    """A part of a run, from one start to its end."""

    def __init__(self, folder: Path, device: LeveledDevice, known: dict[str, Candidate]) -> None:
        settings = {"resolution": 8, "classes": 10, "stem_channels": 8, "stages": [[16, 2]]}
        space: SposSpace = catalog.load("spos", settings)  # type: ignore[assignment]
        self.said: list[str] = []
        self.corrected: dict[str, Latency] = {}
        self.store = MeasurementStore(folder / "store.db")
        around = TargetSurroundings(store=self.store, job_seed="run 1", say=self.said.append)
        target = TargetSettings(
            name="here", device=device.wire.address, backend="level", reference="none"
        )
        quick = dataclasses.replace(target, precision=0.05, min_duration_s=0.1)
        self.targets = Targets([quick], space, around)
        self.source = self.targets.by_name["here"].source
        self.earlier = EarlierTimes(
            self.targets.by_name,
            self.store,
            known.values(),
            say=self.said.append,
            on_remeasured=lambda _, encoding, time: self.corrected.update({encoding: time}),
        )

    def time(self, encoding: str) -> Latency:
        found = self.source.latency(encoding)
        assert isinstance(found, Latency), found
        return found

    def close(self) -> None:
        self.targets.close()
        self.store.close()


def test_old_times_that_are_found_wrong_are_measured_again(
    tmp_path: Path, device: LeveledDevice
) -> None:
    first = _Part(tmp_path, device, {})
    known = {
        encoding: Candidate(
            encoding=encoding,
            estimator_state_id="s",
            accuracy=0.5,
            latencies={"here": first.time(encoding)},
        )
        for encoding in ("33", "35")
    }
    first.earlier.put_right()
    assert first.corrected == {}
    first.close()
    device.set(1.2)
    second = _Part(tmp_path, device, known)
    second.earlier.put_right()
    second.time("37")
    second.earlier.put_right()
    assert set(second.corrected) == {"33", "35"}
    for encoding, latency in second.corrected.items():
        before = known[encoding].latencies["here"]
        assert latency.median_s == pytest.approx(1.2 * before.median_s, rel=0.03)
        assert second.source.corrections[encoding] == latency
    # Once.
    told = len(second.said)
    second.earlier.put_right()
    assert len(second.said) == told
    second.close()
