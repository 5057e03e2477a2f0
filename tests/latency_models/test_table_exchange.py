"""Tables as files of other programs, and published tables as ours."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
import yaml
from tests.latency_models.table_samples import table

from boardfront.latency_models.blocks import BlockKey
from boardfront.latency_models.table import EntryOrigin, Table
from boardfront.latency_models.table_exchange import (
    COLUMNS,
    about,
    export_table,
    import_any,
    rows,
)
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

# In the form of the authors' published file, cut down.
OFA = """\
Conv-input:224x224x3-output:112x112x32:
  mean: 2.5
  count: 50
  std: 0.1
expanded_conv-input:112x112x32-output:56x56x24-expand:6-kernel:5-stride:2-idskip:0:
  mean: 1.25
expanded_conv-input:112x112x32-output:112x112x32-expand:6-kernel:5-stride:1-idskip:1:
  mean: 0.75
Conv_1-input:7x7x320-output:7x7x1280:
  mean: 0.5
Logits-input:7x7x1280-output:1000:
  mean: 0.25
"""


def test_csv_has_units_in_its_header_and_all_digits(tmp_path: Path) -> None:
    made = table()
    path = tmp_path / "toy.csv"
    export_table(made, path)
    with path.open(newline="") as file:
        lines = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert list(lines[0]) == [name for name, _ in COLUMNS]
    assert {"time_s", "low_s", "high_s", "resolution_pixels"} <= set(lines[0])
    call, *blocks = lines
    assert (call["block"], float(call["time_s"])) == ("call", made.fixed_s)
    assert [BlockKey.parse(line["block"]) for line in blocks] == [e.block for e in made.entries]
    assert [float(line["time_s"]) for line in blocks] == [e.time_s for e in made.entries]


def test_csv_says_what_it_is_of(tmp_path: Path) -> None:
    made = replace(table(), notes=("two\nlines, # and a mark",))
    path = tmp_path / "toy.csv"
    export_table(made, path)
    lines = path.read_text().splitlines()
    said = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    assert lines[len(said)].startswith("block,")
    assert said["format"] == "boardfront-latency-table 1"
    assert said["space"] == "toy"
    assert json.loads(said["space_settings"]) == made.space_settings
    assert (said["task"], said["batch"], said["resolution_pixels"]) == ("inference", "1", "32")
    assert said["target"] == "board, fake 1 cpus 0-1 (noise=0.001)"
    assert said["fingerprint"] == "f" * 16
    assert said["built"] == "2023-11-14T22:13:20+00:00"
    assert (said["protocol"], said["unit"], said["origin"]) == ("2", "s", "programmed")
    assert (said["base"], float(said["base_s"])) == (made.base, made.base_s)
    assert json.loads(said["base_interval_s"]) == [made.base_low_s, made.base_high_s]
    assert made.residual is not None
    assert json.loads(said["residual"])["mape"] == made.residual.mape
    assert json.loads(said["notes"]) == list(made.notes)


def test_csv_is_read_by_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    made = table()
    path = tmp_path / "toy.csv"
    export_table(made, path)
    frame = pandas.read_csv(path, comment="#")
    assert list(frame.columns) == [name for name, _ in COLUMNS]
    assert frame["time_s"].tolist() == pytest.approx(
        [made.fixed_s, *(entry.time_s for entry in made.entries)], rel=1e-12
    )


@pytest.mark.parametrize("ending", ["json", "yaml", "yml"])
def test_json_and_yaml_come_back_as_they_were(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"toy.{ending}"
    export_table(table(), path)
    assert import_any(path, name="") == table()


def test_parquet_has_types_and_what_the_table_is_of(tmp_path: Path) -> None:
    made = table()
    path = tmp_path / "toy.parquet"
    export_table(made, path)
    content = pq.read_table(path)
    assert content.to_pylist() == rows(made)
    about = json.loads(content.schema.metadata[b"boardfront"])
    assert about["target"]["fingerprint"] == made.target.fingerprint
    assert about["unit"] == "s"


def test_an_export_replaces_nothing_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "toy.csv"
    path.write_text("mine")
    with pytest.raises(WrongInputError, match="--overwrite"):
        export_table(table(), path)
    assert path.read_text() == "mine"
    export_table(table(), path, overwrite=True)
    assert path.read_text().startswith("# format: boardfront-latency-table")
    for name in ("toy.xlsx", "toy"):
        with pytest.raises(WrongInputError, match=r"ends in \.csv"):
            export_table(table(), tmp_path / name)
    for name in ("none/toy.csv", "none/toy.parquet"):
        with pytest.raises(WrongInputError, match="expected a place to write to"):
            export_table(table(), tmp_path / name)


def test_once_for_all_s_milliseconds_become_seconds(tmp_path: Path) -> None:
    path = tmp_path / "mobile_trim.yaml"
    path.write_text(OFA)
    made = import_any(path, name="pixel1")
    found = {entry.block.text: entry for entry in made.entries}
    assert {text: entry.time_s for text, entry in found.items()} == {
        "stem 3->32 /2 @224": 2.5e-3,
        "expanded_conv-expand6-kernel5-idskip0 32->24 /2 @112": 1.25e-3,
        "expanded_conv-expand6-kernel5-idskip1 32->32 /1 @112": 0.75e-3,
        "Conv_1 320->1280 /1 @7": 0.5e-3,
        "head 1280->1000 /1 @7": 0.25e-3,
    }
    assert {entry.origin for entry in made.entries} == {EntryOrigin.IMPORTED}
    assert found["stem 3->32 /2 @224"].count == 50
    assert made.device_name == "pixel1"
    # It is a table like others.
    made.save(tmp_path / "pixel.json")
    assert Table.load(tmp_path / "pixel.json") == made


def test_what_a_published_table_does_not_tell_is_left_out(tmp_path: Path) -> None:
    source = tmp_path / "mobile_trim.yaml"
    source.write_text(OFA)
    made = import_any(source, name="pixel1")
    call, *blocks = rows(made)
    assert call["time_s"] is None
    assert {(row["low_s"], row["high_s"], row["verdict"]) for row in blocks} == {(None,) * 3}
    assert [row["time_s"] for row in blocks] == [entry.time_s for entry in made.entries]
    said = dict(about(made))
    assert said["target"] == "pixel1, else not known"
    assert {said[name] for name in ("fingerprint", "protocol", "base", "base_s")} == {"not known"}
    assert said["built"].startswith("file of 20")
    assert said["origin"] == "imported"
    for name in ("pixel.csv", "pixel.parquet"):
        export_table(made, tmp_path / name)
    assert pq.read_table(tmp_path / "pixel.parquet").to_pylist() == rows(made)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_only_what_holds_a_whole_table_is_imported(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"toy.{ending}"
    export_table(table(), path)
    with pytest.raises(WrongInputError, match=r"expected \.json, \.yaml or \.yml") as caught:
        import_any(path, name="")
    assert "only these can be imported; export the table as .json" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "NoneType without layers"),
        ("[1, 2]", "list without layers"),
        ("a: [", "expected YAML"),
        ("Conv: {mean: 1}", "the layer 'Conv'"),
        ("Conv-input:8x8x3-output:: {mean: 1}", "without an output"),
        ("Conv-input:8x8x3-output:4x4x8: {mean: fast}", "the mean 'fast'"),
        ("Conv-input:8x8x3-output:4x4x8: {mean: .nan}", "the mean nan"),
        ("Conv-input:8x8x3-output:4x4x8: {mean: -1}", "the mean -1"),
        ("Conv-input:8x8x3-output:4x4x8: {std: 1}", "the mean None"),
        ("Conv-input:8x8x3-output:4x4x0: {mean: 1}", "at least 1"),
        ("!!python/object/apply:os.getcwd []", "expected YAML"),
    ],
)
def test_a_damaged_published_table_is_refused_in_one_line(
    tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(WrongInputError) as caught:
        import_any(path, name="x")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_layers_that_are_one_block_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    layers = {f"Conv-input:{side}x8x3-output:4x4x8": {"mean": 1} for side in (8,)}
    layers["Conv-input:8x9x3-output:4x4x8"] = {"mean": 2}
    path.write_text(yaml.safe_dump(layers))
    with pytest.raises(WrongInputError, match="two layers"):
        import_any(path, name="x")
    with pytest.raises(WrongInputError, match="No such file"):
        import_any(tmp_path / "none.yaml", name="x")
