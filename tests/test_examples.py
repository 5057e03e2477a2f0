"""Every example can be read; that it also runs is shown on a smaller one, tests/host/."""

from __future__ import annotations

from pathlib import Path

import pytest

from boardfront.host.config import load_experiment
from boardfront.search.objective import ObjectiveKind

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_there_are_examples() -> None:
    assert EXAMPLES / "quickstart.toml" in EXAMPLES.iterdir()
    assert {path.suffix for path in EXAMPLES.iterdir()} == {".toml"}, "a test has to run others"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_an_example_can_be_read(path: Path) -> None:
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    assert experiment.targets


def test_the_quickstart_does_what_the_readme_promises() -> None:
    experiment = load_experiment(EXAMPLES / "quickstart.toml")
    assert experiment.data.name == "digits"
    assert experiment.search.evaluations >= 100
    assert [target.device for target in experiment.targets] == ["local"]
    assert [target.backend for target in experiment.targets] == ["onnxruntime"]
    assert {objective.kind for objective in experiment.objectives} == set(ObjectiveKind)
    assert experiment.finalists.processes >= 2
