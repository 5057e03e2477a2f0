"""Every example can be read; that it also runs is shown on a smaller one, tests/host/."""

from __future__ import annotations

from pathlib import Path

import pytest

from boardfront.host.config import load_experiment
from boardfront.protos.records import TaskKind
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


def test_the_search_without_a_supernet_is_for_the_time_of_a_training_step() -> None:
    experiment = load_experiment(EXAMPLES / "etnas_training_step.toml")
    assert experiment.space.name == "etnas"
    assert experiment.supernet is None
    assert experiment.training is not None
    (target,) = experiment.targets
    assert target.task is TaskKind.TRAINING_STEP
    assert (target.backend, target.device) == ("torch", "local")
    assert {objective.kind for objective in experiment.objectives} == set(ObjectiveKind)
