"""An experiment file is read whole, and each mistake is told with its line and a way out."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import pytest

from boardfront.host.config import load_experiment, parse_experiment
from boardfront.host.experiment import Experiment, differences
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import TaskKind

if TYPE_CHECKING:
    from pathlib import Path

_TEXT = """\
seed = 3
[space]
name = "spos"
classes = 10
[data]
name = "digits"
[supernet]
epochs = 2
batch = 64
learning_rate = 0.1
[search]
algorithm = "nsga2"
population = 8
evaluations = 32
[[target]]
name = "laptop"
device = "local"
backend = "onnxruntime"
options = { threads = 1, spin = false }
[[target]]
name = "board"
device = "10.0.0.2:50051"
backend = "onnxruntime"
task = "inference"
batch = 2
precision = 0.05
[[objective]]
name = "accuracy"
kind = "accuracy"
[[objective]]
name = "latency"
kind = "latency"
target = "laptop"
limit_ms = 12.5
[finalists]
processes = 2
"""


_TRAINED = _TEXT.replace("[supernet]", "[training]")


def _parse(text: str = _TEXT) -> Experiment:
    return parse_experiment(text, file="quick.toml")


def _changed(old: str, new: str) -> str:
    assert old in _TEXT
    return _TEXT.replace(old, new, 1)


def test_everything_is_read() -> None:
    experiment = _parse()
    assert experiment.name == "quick"
    assert experiment.seed == 3
    assert experiment.space.name == "spos"
    assert experiment.space.settings == {"classes": 10}
    assert experiment.data.name == "digits"
    assert experiment.training is None
    assert experiment.supernet is not None
    assert experiment.supernet.epochs == 2
    assert experiment.supernet.momentum == 0.9
    assert experiment.supernet.recalibration_images == 2048
    assert experiment.search.population == 8
    assert [t.name for t in experiment.targets] == ["laptop", "board"]
    assert experiment.targets[0].options == {"threads": "1", "spin": "false"}
    assert experiment.targets[1].task is TaskKind.INFERENCE
    assert experiment.targets[1].precision == 0.05
    assert experiment.objectives[1].limit == pytest.approx(0.0125)
    assert experiment.objectives[1].target == "laptop"
    assert experiment.finalists.processes == 2
    assert experiment.finalists.precision == 0.01


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "night.toml"
    path.write_text(_TEXT)
    assert load_experiment(path).name == "night"
    assert load_experiment(path).digest() == _parse().digest()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "population = 8",
            "populaton = 8",
            "quick.toml:13: unknown key 'populaton' in [search]: expected one of algorithm, "
            "crossover_probability, evaluations, mutation_probability, population; "
            "did you mean 'population'?",
        ),
        ("seed = 3", "sede = 3", "quick.toml:1: unknown key 'sede' in the top of the file"),
        ("seed = 3", "zzz = 3", "; remove it"),
        ("backend =", "bakend =", "quick.toml:18: unknown key 'bakend' in [[target]]"),
        ("epochs = 2", "epochs = 0", "quick.toml:8: wrong value for 'epochs' in [supernet]"),
        ("epochs = 2", "epochs = 0", "expected it to be greater than or equal to 1, got 0"),
        ("epochs = 2", 'epochs = "2"', "expected it to be a valid integer, got '2'"),
        ("epochs = 2", "", "quick.toml:7: missing key 'epochs' in [supernet]: expected it beside"),
        ("learning_rate = 0.1", "learning_rate = nan", "quick.toml:10: wrong value for"),
        ("population = 8", "population = 1", "greater than or equal to 2, got 1"),
        (
            "evaluations = 32",
            "evaluations = 7",
            "quick.toml:14: wrong value for 'evaluations' in [search]: expected at least the "
            "population of 8, got 7",
        ),
        ("precision = 0.05", "precision = 1.0", "quick.toml:26: wrong value for 'precision'"),
        ("precision = 0.05", "precision = 0", "expected it to be greater than 0, got 0"),
        ('device = "local"', 'device = "nowhere"', "quick.toml:17: wrong value for 'device'"),
        (
            'device = "local"',
            'device = "nowhere"',
            "expected 'local' or HOST:PORT, e.g. 192.168.1.20:50051, or a name in",
        ),
        (
            '[data]\nname = "digits"',
            "[search.x]",
            "quick.toml:5: unknown key 'x' in [search]",
        ),
        ("threads = 1", "threads = [1]", "quick.toml:19: wrong value for 'threads' in [target"),
        (
            'task = "inference"',
            'task = "infer"',
            "'training-step' or 'training-step-graph', got 'infer'",
        ),
        (
            'name = "board"',
            'name = "laptop"',
            "quick.toml:21: duplicate name in [[target]]: expected each once, got 'laptop' again",
        ),
        ('name = "latency"', 'name = "accuracy"', "duplicate name in [[objective]]"),
        (
            'target = "laptop"',
            'target = "latpop"',
            "quick.toml:33: wrong value for 'target' in [[objective]]: expected one of laptop, "
            "board, got 'latpop'; did you mean 'laptop'?",
        ),
        ('target = "laptop"', "", "expected one of laptop, board, got nothing; choose one"),
        (
            'kind = "accuracy"',
            'kind = "latency"\ntarget = "board"',
            "expected at least one of kind 'accuracy'",
        ),
        ('kind = "accuracy"', 'kind = "accuracy"\nlimit_ms = 3', "quick.toml:30: wrong key"),
        ('algorithm = "nsga2"', 'algorithm = "nsga"', "quick.toml:12: wrong value for 'algor"),
        ('name = "digits"', 'name = "digit"', "quick.toml:6: wrong value for 'name' in [data]"),
        ('name = "spos"', 'name = "sp"', "quick.toml:3: in [space]: unknown space 'sp'"),
        ("classes = 10", "classes = -1", "quick.toml:4: in [space]: "),
        ("classes = 10", "klasses = 10", "quick.toml:4: in [space]: "),
        (
            'name = "spos"',
            'name = "etnas"',
            "quick.toml:3: wrong value for 'name' in [space]: expected a space whose networks can "
            "share the weights of a supernet, got 'etnas'; choose another space, or [training] in "
            "place of [supernet]",
        ),
        (
            "[supernet]\nepochs = 2\nbatch = 64\nlearning_rate = 0.1",
            "",
            "quick.toml:1: missing table [supernet] or [training]: expected one of them",
        ),
        (
            "[search]",
            "[training]\nepochs = 1\nbatch = 8\nlearning_rate = 0.1\n[search]",
            "quick.toml:11: two tables for accuracy: expected one of [supernet] and [training], "
            "got both; remove one",
        ),
        # Checked before hours of training, not after.
        (
            "[supernet]\nepochs = 2",
            "[supernet]\nepochs = 2\nrecalibration_images = 1",
            "quick.toml:9: wrong value for 'recalibration_images' in [supernet]",
        ),
        ("[supernet]\nepochs", "[training]\nepoch", "unknown key 'epoch' in [training]"),
        (
            "[supernet]\nepochs = 2",
            "[training]\nepochs = 2\nrecalibration_images = 8",
            "quick.toml:9: unknown key 'recalibration_images' in [training]: expected one of "
            "augment, batch, device, epochs, gradient_clip, label_smoothing, learning_rate, "
            "momentum, weight_decay; remove it",
        ),
        ("[data]", "[dat]", "quick.toml:5: unknown key 'dat' in the top of the file"),
        ('[data]\nname = "digits"', "", "quick.toml:1: missing table [data]: expected it beside"),
        ("batch = 64", "batch = = 64", "quick.toml:9: expected valid TOML, got a syntax error ("),
        ("batch = 64", "epochs = 64", "quick.toml:9: expected valid TOML, got a syntax error ("),
        ("processes = 2", "processes = [", "expected valid TOML"),
    ],
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, message: str) -> None:
    with pytest.raises(WrongInputError, match=re.escape(message)) as error:
        _parse(_changed(old, new))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("table", ["[[target]]", "[[objective]]"])
def test_a_missing_array_of_tables(table: str) -> None:
    blocks = re.split(r"(?m)^(?=\[)", _TEXT)
    text = "".join(block for block in blocks if not block.startswith(table))
    with pytest.raises(WrongInputError, match=re.escape(f"missing table {table}")):
        _parse(text)


def test_a_value_in_the_place_of_a_table() -> None:
    text = "data = 4\n" + _changed('[data]\nname = "digits"', "")
    with pytest.raises(WrongInputError, match=r"quick\.toml:1: .*to be a valid table, got 4"):
        _parse(text)


def test_finalists_may_be_left_out() -> None:
    experiment = _parse(_changed("[finalists]\nprocesses = 2", ""))
    assert experiment.finalists.processes == 3


def test_a_table_lies_beside_the_experiment(tmp_path: Path) -> None:
    text = _changed('name = "board"\n', 'name = "board"\ntable = "tables/pi.json"\n')
    (tmp_path / "night.toml").write_text(text)
    laptop, board = load_experiment(tmp_path / "night.toml").targets
    assert laptop.table is None
    assert board.table is not None
    # It is read when a run begins.
    assert board.table.file == tmp_path / "tables" / "pi.json"
    assert (board.table.name, board.force_table) == ("tables/pi.json", False)


def test_nothing_is_forced_without_a_table() -> None:
    message = "wrong key 'force_table' in [[target]]: expected it beside 'table', got it alone"
    with pytest.raises(WrongInputError, match=re.escape(message)):
        _parse(_changed('name = "board"\n', 'name = "board"\nforce_table = true\n'))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WrongInputError, match=r"none\.toml: expected an experiment file"):
        load_experiment(tmp_path / "none.toml")
    with pytest.raises(WrongInputError, match=r"got nothing readable \(Is a directory\)"):
        load_experiment(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    with pytest.raises(WrongInputError, match="it is not UTF-8 text"):
        load_experiment(tmp_path / "latin.toml")


def test_short_training_is_read() -> None:
    experiment = _parse(_TRAINED)
    assert experiment.supernet is None
    assert experiment.training is not None
    assert experiment.training.epochs == 2
    assert experiment.training.label_smoothing == 0.1
    assert experiment.training.augment


def test_a_space_without_a_supernet_is_trained() -> None:
    experiment = _parse(_TRAINED.replace('name = "spos"', 'name = "etnas"'))
    assert experiment.space.name == "etnas"


def test_the_digest_of_a_supernet_experiment_is_what_it_was() -> None:
    # Computed by the version before there was short training: its runs can be gone on with.
    assert _parse().digest() == "c2fc280e535d6bede8654649a62fec825ef7426c0c053cf12fcf63421b7df3d9"


def test_short_training_is_another_experiment() -> None:
    assert _parse(_TRAINED).digest() != _parse().digest()
    changed = differences(_parse(), _parse(_TRAINED))
    assert "supernet.epochs: 2 -> absent" in changed
    assert "training.epochs: absent -> 2" in changed
    assert differences(_parse(_TRAINED), _parse(_TRAINED.replace("epochs = 2", "epochs = 3"))) == (
        "training.epochs: 2 -> 3",
    )


def test_the_name_does_not_change_the_digest() -> None:
    other = dataclasses.replace(_parse(), name="another")
    assert other.digest() == _parse().digest()
    assert differences(_parse(), other) == ()


def test_differences_name_the_key_and_both_values() -> None:
    new = _parse(
        _changed("population = 8", "population = 16")
        .replace("threads = 1", "threads = 2")
        .replace("classes = 10", "classes = 10\nresolution = 32"),
    )
    assert new.digest() != _parse().digest()
    assert differences(_parse(), new) == (
        "search.population: 8 -> 16",
        "space.resolution: absent -> 32",
        'target[0].options.threads: "1" -> "2"',
    )


def test_several_devices_make_a_pool_and_one_is_what_it_was() -> None:
    one = parse_experiment(_TEXT, file="quick.toml")
    listed = parse_experiment(
        _TEXT.replace('"10.0.0.2:50051"', '["10.0.0.2:50051"]'), file="quick.toml"
    )
    assert listed == one
    assert listed.digest() == one.digest()
    pool = parse_experiment(
        _TEXT.replace('"10.0.0.2:50051"', '["10.0.0.2:50051", "10.0.0.3:50051"]'),
        file="quick.toml",
    )
    assert pool.targets[1].device == ("10.0.0.2:50051", "10.0.0.3:50051")
    assert any(line.startswith("target[1].device") for line in differences(one, pool))


@pytest.mark.parametrize("wrong", ["[]", "5", '["10.0.0.2:50051", ""]', '["a:1", "a:1"]'])
def test_a_list_of_devices_that_is_none(wrong: str) -> None:
    text = _TEXT.replace('"10.0.0.2:50051"', wrong)
    with pytest.raises(WrongInputError, match=r"quick.toml:22: wrong value for 'device'"):
        parse_experiment(text, file="quick.toml")
