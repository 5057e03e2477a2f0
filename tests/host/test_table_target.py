"""`table build --target`: the table that an experiment's search then takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.host.searching import EXPERIMENT, Place

from boardfront.host.commands.table_target import Asked, asked_of_target
from boardfront.host.config import load_experiment
from boardfront.host.table_part import with_tables
from boardfront.latency_models.table import Table
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Collection

# Of the command line's own.
DEFAULTS = Asked(
    space="",
    settings={},
    device="local",
    backend="onnxruntime",
    options={},
    cpus="",
    task="inference",
    batch=1,
    start_below_c=None,
    output=None,
)
TARGET = """
[[target]]
name = "far"
device = ["127.0.0.1:1", "127.0.0.1:2"]
backend = "torch"
options = { threads = 2 }
cpus = "4-7"
batch = 4
task = "training-step"
start_below_c = 60.0
table = "far.json"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two.toml"
    path.write_text(EXPERIMENT + TARGET)
    return path


def _asked(target: object, said: Asked = DEFAULTS, names: Collection[str] = ()) -> Asked:
    return asked_of_target(str(target), said, names)


def test_all_of_it_comes_from_the_target(file: Path) -> None:
    said = replace(DEFAULTS, device="127.0.0.1:2")
    asked = _asked(f"{file}:far", said, {"device"})
    experiment = load_experiment(file)
    assert asked == Asked(
        space="spos",
        settings=experiment.space.settings,
        device="127.0.0.1:2",
        backend="torch",
        options={"threads": "2"},
        cpus="4-7",
        task="training-step",
        batch=4,
        start_below_c=60.0,
        output=file.parent / "far.json",
    )


def test_what_is_said_goes_before(file: Path) -> None:
    said = replace(
        DEFAULTS,
        settings={"resolution": 16},
        device="pi5",
        batch=1,
        options={"threads": "1"},
        output=Path("mine.json"),
    )
    asked = _asked(f"{file}:far", said, {"device", "batch", "output", "option", "setting"})
    assert (asked.device, asked.batch, asked.output) == ("pi5", 1, Path("mine.json"))
    assert (asked.backend, asked.options) == ("torch", {"threads": "1"})
    assert asked.settings["resolution"] == 16
    assert asked.settings["classes"] == 10


def test_another_backend_has_other_options(file: Path) -> None:
    asked = _asked(f"{file}:far", replace(DEFAULTS, backend="fake"), {"backend", "device"})
    assert (asked.backend, asked.options) == ("fake", {})


def test_which_of_a_targets_boards_has_to_be_said(file: Path) -> None:
    with pytest.raises(WrongInputError, match=r"--device with one of 127\.0\.0\.1:1, 127"):
        _asked(f"{file}:far")


def test_the_one_target_needs_no_name(file: Path) -> None:
    file.write_text(EXPERIMENT)
    assert _asked(file) == _asked(f"{file}:{load_experiment(file).targets[0].name}")


@pytest.mark.parametrize("name", ["", ":nobody"])
def test_which_of_several_has_to_be_said(file: Path, name: str) -> None:
    with pytest.raises(WrongInputError, match="with one of here, far"):
        _asked(f"{file}{name}")


def test_another_space_is_refused(file: Path) -> None:
    with pytest.raises(WrongInputError, match="--space etnas: expected spos"):
        _asked(f"{file}:far", replace(DEFAULTS, space="etnas"), {"space"})


def test_a_search_takes_the_table(tmp_path: Path) -> None:
    place = Place(tmp_path)
    text = EXPERIMENT.replace('backend = "fake"', 'backend = "fake"\nbatch = 3\ntable = "it.json"')
    (tmp_path / "one.toml").write_text(text)
    done = place.call(
        *("table", "build", "--target", "one.toml", "--duration", "0.05", "--rounds", "0"),
        *("--calibration", "0", "--held-out", "2", "--repeats", "0"),
    )
    assert done.returncode == 0, done.stderr
    table = Table.load(tmp_path / "it.json")
    assert (table.task.batch, table.target.backend, table.is_finished) == (3, "fake", True)
    (target,) = with_tables(load_experiment(tmp_path / "one.toml")).targets
    assert target.table is not None
    assert target.table.digest == table.content_digest


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-o", "a.json"), "expected --space SPACE, or --target EXPERIMENT.toml"),
        (("--space", "spos"), "expected -o FILE, or a target with a table = FILE"),
    ],
)
def test_too_little_is_told(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    done = Place(tmp_path).call("table", "build", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
