"""Exports of searches other than by a supernet on one target."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.host.searching import EXPERIMENT, Place, errors, front

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

TRAINED = EXPERIMENT.replace("[supernet]", "[training]").replace(
    "recalibration_images = 128\n", ""
)
SMALL = (
    TRAINED.replace("population = 5", "population = 3")
    .replace("evaluations = 10", "evaluations = 3")
    .replace("epochs = 3", "epochs = 1")
    .replace("processes = 2", "processes = 1")
    .replace(
        "[[objective]]",
        """\
[[target]]
name = "slow"
device = "local"
backend = "fake"
options = { time_s = 0.002, noise = 0 }
batch = 4
min_duration_s = 0.05

[[objective]]""",
        1,
    )
    .replace(
        "[finalists]",
        '[[objective]]\nname = "slow"\nkind = "latency"\ntarget = "slow"\n\n[finalists]',
    )
)


def _export(place: Place, name: str, *arguments: str) -> dict[str, object]:
    done = place.call("export", "latest", "-o", name, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    content: dict[str, object] = json.loads(done.stdout)
    return content


def test_each_target_has_its_own_promise(place: Place) -> None:
    place.experiment.write_text(SMALL)
    assert place.call("search", "tiny.toml").returncode == 0
    first = _export(place, "first", "--pick", "fastest")
    slow = _export(place, "slow", "--pick", "fastest", "--target", "slow")
    member = front(place.run_folder)["members"][0]
    assert _of(first, "promise", "target", "name") == "here"
    assert _of(slow, "promise", "median_s") == pytest.approx(0.002)
    # The network is written for the batch that was timed there.
    assert _of(first, "input", "shape") == [1, 1, 8, 8]
    assert _of(slow, "input", "shape") == [4, 1, 8, 8]
    assert _of(slow, "agreement", "batches") == [4, 1, 2, 5]
    assert _of(slow, "accuracy", "of") == "short-training"
    assert "short training" in (place.folder / "slow" / "README.md").read_text()
    assert member["encoding"] in {first["encoding"], slow["encoding"]}
    _refuses_without_weights(place, place.run_folder.supernet.with_name("candidates"))


def _refuses_without_weights(place: Place, candidates: Path) -> None:
    for path in candidates.iterdir():
        path.unlink()
    done = place.call("export", "latest", "-o", "third")
    assert done.returncode == 2
    (line,) = errors(done.stderr)
    assert ".pt is gone" in line
    # Nothing was trained in place of it.
    assert not list(candidates.iterdir())


def _of(content: object, *path: str) -> object:
    for name in path:
        assert isinstance(content, dict)
        content = content[name]
    return content
