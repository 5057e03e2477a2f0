"""Which tables a run accepts, what it says of them, and that they count for its digest."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.host.searching import EXPERIMENT
from tests.host.tables import SETTINGS, made_up

from boardfront.host import table_part
from boardfront.host.config import load_experiment, parse_experiment
from boardfront.host.experiment import Experiment, differences
from boardfront.host.run_folder import create_run
from boardfront.host.table_part import (
    load_tables,
    table_files,
    with_copies,
    with_tables,
    write_row,
)
from boardfront.latency_models.table import EntryOrigin, Table, TargetChangedError
from boardfront.latency_models.table_finalists import FinalistTime, add_row
from boardfront.latency_models.table_models import predictor_of
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import (
    BackendInfo,
    DeviceDescription,
    Hardware,
    OperatingSystem,
    Origin,
    Target,
)
from boardfront.search.spaces import catalog

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.host.table_part import RunTable

TABLED = EXPERIMENT.replace('backend = "fake"\n', 'backend = "fake"\ntable = "board.json"\n')


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An experiment beside its table."""
    made_up().save(tmp_path / "board.json")
    path = tmp_path / "tiny.toml"
    path.write_text(TABLED)
    return path


def _change(file: Path, **changes: object) -> None:
    path = file.parent / "board.json"
    replace(Table.load(path), **changes).save(path)  # type: ignore[arg-type]


def _load(file: Path) -> Experiment:
    return with_tables(load_experiment(file))


def _table(file: Path) -> RunTable:
    experiment = _load(file)
    space = catalog.load(experiment.space.name, experiment.space.settings)
    return load_tables(experiment, space)["here"]


def test_a_table_is_found_beside_the_experiment(file: Path) -> None:
    experiment = _load(file)
    choice = experiment.targets[0].table
    assert choice is not None
    assert (choice.name, choice.file) == ("board.json", file.parent / "board.json")
    assert choice.digest == made_up().content_digest
    assert table_files(experiment) == {0: file.parent / "board.json"}


def test_the_digest_holds_what_the_table_says_not_where_it_lies(
    file: Path, tmp_path: Path
) -> None:
    before = _load(file)
    assert before.digest() != load_experiment(file).digest()
    (tmp_path / "board.json").rename(tmp_path / "moved.json")
    file.write_text(TABLED.replace("board.json", "moved.json"))
    assert _load(file).digest() == before.digest()
    (tmp_path / "moved.json").rename(tmp_path / "board.json")
    file.write_text(TABLED)
    _change(file, fixed_s=1.05e-5)
    (told,) = differences(before, _load(file))
    assert told.startswith("target[0].table: ")


def test_without_a_table_digests_are_what_they_were() -> None:
    # As runs of before there were tables have it in their journals.
    before = "dad82e2a5319768e04c4b0f45430c2c01948042d07bf2d88f1502b0fe7040269"
    assert parse_experiment(EXPERIMENT, file="tiny.toml").digest() == before


def test_rows_of_finalists_are_no_part_of_the_digest(file: Path) -> None:
    before, table = _load(file).digest(), _table(file)
    row = table.row("run", [_finalist()])
    assert row is not None
    add_row(file.parent / "board.json", row)
    assert Table.load(file.parent / "board.json").finalists
    assert _load(file).digest() == before


def test_a_run_keeps_a_copy(file: Path, tmp_path: Path) -> None:
    experiment = _load(file)
    folder = create_run(tmp_path / "runs", "tiny", file, table_files(experiment))
    copied = with_copies(load_experiment(folder.experiment), folder)
    assert copied.digest() == experiment.digest()
    assert copied.targets[0].table is not None
    assert copied.targets[0].table.file == folder.path / "tables" / "0.json"
    # The person's own may go, or become another.
    (tmp_path / "board.json").unlink()
    assert not differences(copied, with_tables(load_experiment(file), lost=folder))
    made_up(networks=9).save(tmp_path / "board.json")
    assert differences(copied, with_tables(load_experiment(file), lost=folder))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("resolution = 8", "resolution = 16", "spos with resolution 16, got one of 8"),
        ("last_channels = 32", "", "spos with last_channels the default, got one of 32"),
        ('backend = "fake"', 'backend = "onnxruntime"', "backend onnxruntime, got one of fake"),
        ('backend = "fake"', 'backend = "fake"\nbatch = 2', "batch 2, got one of 1"),
        ('backend = "fake"', 'backend = "fake"\ncpus = "1"', "cores 1, got one of 0-1"),
        (
            'backend = "fake"',
            'backend = "fake"\noptions = { noise = 0.1 }',
            "option noise 0.1, got one of 0.001",
        ),
        (
            'backend = "fake"',
            'backend = "fake"\ntask = "training-step"',
            "kind training-step, got one of inference",
        ),
    ],
)
def test_a_table_of_something_else_is_refused(file: Path, key: str, value: str, says: str) -> None:
    file.write_text(TABLED.replace(key, value, 1))
    with pytest.raises(WrongInputError) as told:
        _load(file)
    assert str(told.value).startswith("target 'here': table board.json: expected one of ")
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_what_is_the_same_may_be_said_otherwise(file: Path) -> None:
    target = 'backend = "fake"\ncpus = "0,1"\noptions = { noise = 0.001 }'
    file.write_text(TABLED.replace('backend = "fake"', target))
    _load(file)
    # A default may be given or left out.
    settings = {**SETTINGS, "stem_stride": 2}
    _change(file, space_settings=settings)
    file.write_text(TABLED.replace("stem_stride = 1\n", ""))
    _load(file)
    file.write_text(TABLED)
    with pytest.raises(WrongInputError, match="stem_stride"):
        _load(file)


def test_a_table_that_is_none(file: Path, tmp_path: Path) -> None:
    (tmp_path / "board.json").write_text("{}")
    with pytest.raises(WrongInputError, match="expected a latency table"):
        _load(file)
    (tmp_path / "board.json").unlink()
    with pytest.raises(WrongInputError, match="got No such file"):
        _load(file)


def test_a_table_that_covers_nothing_is_refused_and_a_hole_is_told(file: Path) -> None:
    made_up(without="5").save(file.parent / "board.json")
    told = _table(file).told()
    assert any("the table lacks 1 blocks, e.g. 5 16->16" in line for line in told)
    made_up(without="stem").save(file.parent / "board.json")
    with pytest.raises(WrongInputError, match=r"got none of \d+ drawn"):
        _table(file)


def test_what_takes_long_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_part, "predictor_of", lambda table, *_: predictor_of(table))
    experiment = _load(file)
    space = catalog.load(experiment.space.name, experiment.space.settings)
    told: list[str] = []
    load_tables(experiment, space, told.append)
    assert told == []
    # Of an interpolated table models of the residual are compared.
    path = file.parent / "board.json"
    table = Table.load(path)
    entries = (
        replace(table.entries[0], origin=EntryOrigin.INTERPOLATED, count=0),
        *table.entries[1:],
    )
    replace(table, entries=entries).save(path)
    load_tables(_load(file), space, told.append)
    assert told == [f"here: comparing models on {len(table.networks)} networks of its table"]


def test_what_predicts_is_told(file: Path) -> None:
    first, origin = _table(file).told()
    assert first == (
        "here: times are predicted from table board.json by additive, calibrated: off by 0.0% on "
        "12 networks left out in turn; the table has no residual yet"
    )
    assert origin == "here: the table's times are programmed"
    _change(file, origin=Origin.MEASURED, networks=made_up().networks[:3])
    (only,) = _table(file).told()
    assert "how far off is not known: too few whole networks" in only


def test_another_device_is_refused_or_marked(file: Path) -> None:
    description = DeviceDescription(
        device_id="d",
        name="board",
        hardware=Hardware(
            machine="aarch64",
            cpu_model="A76",
            soc=None,
            logical_cores=4,
            physical_cores=4,
            max_frequency_hz=None,
            memory_bytes=1 << 32,
        ),
        system=OperatingSystem(name="Linux", kernel="6", distribution=None, governor=None),
        fingerprint="0" * 16,
        agent_version="0.1.0",
        protocol_version=1,
        measurement_protocol_version=2,
        backends=(BackendInfo(name="fake", available=True, version="2"),),
        queued_jobs=0,
    )
    with pytest.raises(TargetChangedError) as told:
        _table(file).check_device(description)
    assert str(told.value).startswith("target 'here': table board.json: expected the target")
    assert "fingerprint 000000000000" in str(told.value)
    assert "fake is 2, the table was measured with 1" in str(told.value)
    assert "force_table = true" in str(told.value)
    file.write_text(TABLED.replace('"board.json"', '"board.json"\nforce_table = true'))
    table = _table(file)
    assert len(table.check_device(description)) == 2
    # Told once, kept for whoever reads the row.
    assert table.check_device(description) == ()
    row = table.row("run", [_finalist()])
    assert row is not None
    assert len(row.forced) == 2


def test_other_options_cores_or_tuning_show_in_what_was_measured(file: Path) -> None:
    table = _table(file)
    mine = made_up().target
    assert table.check_measured(mine) == ()
    assert table.check_measured(replace(mine, cpus="0,1")) == ()
    other: Target = replace(
        mine, options={"noise": "0.2", "time_s": ""}, cpus="1", tuning="tuned for 10 min"
    )
    with pytest.raises(TargetChangedError) as told:
        table.check_measured(other)
    assert told.value.changes == (
        "option noise is '0.2', the table's '0.001'",
        "cores are 1, the table's 0-1",
        "tuning is tuned for 10 min, the table's none",
    )


def test_the_level_is_that_of_the_base(file: Path) -> None:
    table = _table(file)
    assert table.note_reference("55-55", 2e-4) is None
    assert table.level is None
    told = table.note_reference("33-33", 1.1e-4)
    assert told is not None
    assert "takes 1.100 times as long as in the table" in told
    row = table.row("run", [_finalist()])
    assert row is not None
    assert row.at_level is not None
    assert row.level == pytest.approx(1.1)
    assert row.error.mape == pytest.approx(1 - 1 / 1.1)
    assert row.at_level.mape == pytest.approx(0.0, abs=1e-9)


def test_a_row_that_cannot_be_written_is_told(file: Path) -> None:
    row = _table(file).row("run", [_finalist()])
    assert row is not None
    said: list[str] = []
    path = file.parent / "board.json"
    path.chmod(0o444)
    write_row(row, path, said.append)
    (line,) = said
    assert line.startswith("note: the error on the finalists is not in the table: ")
    assert "read-only" in line
    assert json.loads(path.read_text())["finalists"] == []


def _finalist() -> FinalistTime:
    return FinalistTime(
        encoding="33-33", predicted_s=1e-4, low_s=0.9e-4, high_s=1.1e-4, measured_s=1.1e-4
    )
