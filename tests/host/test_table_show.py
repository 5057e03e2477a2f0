"""What `boardfront table show` and `table diff` print: in a pipe, on a terminal, as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.host.tables import made_up
from tests.host.terminal import InTerminal
from tests.latency_models import table_samples

from boardfront.latency_models.table import Calibration, NetworkRole, Table
from boardfront.latency_models.table_models import choose_model
from boardfront.protos.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host.searching import Place

    Command = Callable[..., tuple[int, str, str]]

PUBLISHED = """\
Conv-input:224x224x3-output:112x112x32: {mean: 2.5, count: 50}
expanded_conv-input:112x112x32-output:56x56x24-expand:6-kernel:5-stride:2-idskip:0: {mean: 1.25}
Logits-input:7x7x1280-output:1000: {mean: 0.25, count: 50}
"""


def _doubted() -> Table:
    """Return a table two of whose nine held-out networks, and one calibrated on, are not ok."""
    made = table_samples.table()
    held_out = [one.encoding for one in made.networks if one.role is NetworkRole.HELD_OUT]
    doubted = {*held_out[:2], made.networks[0].encoding}
    networks = tuple(
        replace(one, verdict=Verdict.CONTENDED) if one.encoding in doubted else one
        for one in made.networks
    )
    calibration = Calibration(offset_s=0.0, slope=1.0, networks=6)
    return replace(made, networks=networks, calibration=calibration)


def _sections(out: str) -> list[list[list[str]]]:
    """Return the cells of the lines of what stands between empty lines."""
    return [[line.split("\t") for line in section.splitlines()] for section in out.split("\n\n")]


def test_a_pipe_gets_tables_with_tabs_only(boardfront: Command, place: Place) -> None:
    table = _doubted()
    table.save(place.folder / "toy.json")
    code, out, told = boardfront("table", "show", "toy.json")
    assert (code, told) == (0, "")
    about, fixed, blocks, networks = _sections(out)
    assert {len(line) for line in about} == {2}
    for section in (fixed, blocks, networks):
        assert {len(line) for line in section} == {len(section[0])}
    assert blocks[0][0] == "ms"
    assert networks[0] == ["network", "role", "measured ms", "predicted ms", "error", "verdict"]
    by_name = {line[0]: line[1:] for line in networks[1:]}
    assert len(by_name) == len(table.networks)
    first = table.networks[0]
    predicted_s = table.predict_s(first.decomposition)
    assert by_name[first.encoding] == [
        "calibration",
        f"{first.time_s * 1e3:.4f}",
        f"{predicted_s * 1e3:.4f}",
        f"{predicted_s / first.time_s - 1:+.1%}",
        "contended",
    ]


def test_truths_that_are_not_ok_are_counted(boardfront: Command, place: Place) -> None:
    _doubted().save(place.folder / "toy.json")
    _, out, _ = boardfront("table", "show", "toy.json")
    about = dict(_sections(out)[0])
    assert "built nothing in it, 2 of 9 of them not ok (plain sum" in about["residual"]
    assert about["calibration"].endswith("on 6 networks, 1 of 6 of them not ok")
    table_samples.table().save(place.folder / "good.json")
    _, out, _ = boardfront("table", "show", "good.json")
    assert "not ok" not in out


def test_a_terminal_gets_a_plot_that_marks_what_is_not_ok(place: Place) -> None:
    table = _doubted()
    table.save(place.folder / "toy.json")
    command = [sys.executable, "-m", "boardfront.host.cli", "table", "show", "toy.json"]
    with InTerminal(command, cwd=place.folder, environment={"NO_COLOR": "1"}) as screen:
        assert screen.wait(within_s=60.0) == 0
    said = screen.text
    assert "\t" not in said
    assert "* held out, o calibrated on, ? its verdict is not ok" in said
    names = {one.encoding for one in table.networks}
    plotted = [line for line in said.splitlines() if line.split(" ")[0] in names]
    assert len(plotted) == len(table.networks)
    assert sum("ms?" in line or "us?" in line for line in plotted) == 3
    assert (sum("*?" in line for line in plotted), sum("o?" in line for line in plotted)) == (2, 1)


def test_json_has_the_model_and_its_rivals(boardfront: Command, place: Place) -> None:
    table = made_up()
    table.save(place.folder / "board.json")
    code, out, _ = boardfront("table", "show", "board.json", "--json")
    assert code == 0
    choice = choose_model(table)
    assert choice is not None
    said = json.loads(out)["model"]
    assert (said["name"], said["best"], said["networks"]) == (choice.name, choice.best, 12)
    assert [one["name"] for one in said["scores"]] == [one.name for one in choice.scores]
    by_name = {one["name"]: one["mape"] for one in said["scores"]}
    assert said["mape"] == by_name[choice.name]
    made_up(networks=3).save(place.folder / "few.json")
    assert json.loads(boardfront("table", "show", "few.json", "--json")[1])["model"] is None


def test_an_imported_table_promises_nothing(boardfront: Command, place: Place) -> None:
    (place.folder / "pixel.yaml").write_text(PUBLISHED)
    assert boardfront("table", "import", "pixel.yaml", "-o", "pixel.json")[0] == 0
    code, out, _ = boardfront("table", "show", "pixel.json")
    assert code == 0
    about, fixed, *_ = _sections(out)
    said = {name: value for name, value, *_ in about}
    assert said["intervals"] == "imported: no interval is known"
    assert (said["fingerprint"], said["protocol"], said["base"]) == ("-", "-", "-")
    assert said["built"].startswith("file of 20")
    assert said["target"] == "pixel, else not known"
    assert [line[:4] for line in fixed[1:]] == [
        ["call", "-", "-", ""],
        ["stem 3->32 /2 @224", "2.5000", "-", "imported"],
        ["head 1280->1000 /1 @7", "0.2500", "-", "imported"],
    ]


def test_a_difference_in_a_pipe_is_one_table(boardfront: Command, place: Place) -> None:
    table_samples.table().save(place.folder / "a.json")
    table_samples.table(factor=1.5).save(place.folder / "b.json")
    code, out, told = boardfront("table", "diff", "a.json", "b.json")
    assert code == 0
    heading, *lines = [line.split("\t") for line in out.splitlines()]
    assert heading == ["block", "A ms", "B ms", "B over A", "apart"]
    assert {(*line[3:],) for line in lines} == {("1.500", "yes")}
    said = dict(line.split("\t") for line in told.splitlines())
    assert (said["A"], said["B"]) == ("a.json", "b.json")
    # 1 % of each base, in quadrature.
    assert said["base"] == "1.500 (1.479 .. 1.521), B over A, of aaaa"
    assert said["apart"] == f"{len(lines)} of {len(lines)}, with what the bases may be off"


def test_imported_tables_get_no_verdict(boardfront: Command, place: Place) -> None:
    (place.folder / "a.yaml").write_text(PUBLISHED)
    (place.folder / "b.yaml").write_text(PUBLISHED.replace("2.5", "2.5025"))
    for name in ("a", "b"):
        assert boardfront("table", "import", f"{name}.yaml", "-o", f"{name}.json")[0] == 0
    _, out, told = boardfront("table", "diff", "a.json", "b.json")
    assert [line.split("\t")[-1] for line in out.splitlines()] == ["apart", "-", "-", "-"]
    assert "imported\t3 of 3: no interval is known, no verdict\n" in told
    content = json.loads(boardfront("table", "diff", "a.json", "b.json", "--json")[1])
    assert (content["apart"], content["judged"], content["base"]) == (0, 0, None)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_export_that_cannot_be_imported_is_not_called_damaged(
    boardfront: Command, place: Place, ending: str
) -> None:
    table_samples.table().save(place.folder / "toy.json")
    assert boardfront("table", "export", "toy.json", f"toy.{ending}")[0] == 0
    code, out, told = boardfront("table", "import", f"toy.{ending}", "-o", "back.json")
    assert (code, out, told.count("\n")) == (2, "", 1)
    assert "only these can be imported" in told
    assert "damaged" not in told
