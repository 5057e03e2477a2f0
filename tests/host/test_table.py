"""Tables for people on a terminal, for other programs in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

from boardfront.host.table import print_pairs, print_table, print_tables

if TYPE_CHECKING:
    import pytest

_PROGRAM = """\
from boardfront.host.table import print_table, print_pairs
rows = [("a [bold]b", "1.203 ms"), ("c", "12.39 ms")]
print_table(("name", "time"), rows, title="front", right={"time"})
print_pairs([("store", "here"), ("measurements", "3")])
"""


def test_a_pipe_gets_headings_and_cells_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [("a  b", "1.203 ms"), ("[bold]", "-")]
    print_table(("name", "time"), rows, title="a title", right={"time"})
    assert capsys.readouterr().out == "name\ttime\na  b\t1.203 ms\n[bold]\t-\n"


def test_a_cell_in_a_pipe_breaks_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name",), [("a\tb\nc\r\nd",)])
    assert capsys.readouterr().out == "name\na b c  d\n"


def test_tables_of_one_form_are_one_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    tables: dict[str, tuple[tuple[str, ...], list[tuple[str, ...]]]] = {
        "pi": (("#", "searched", "verdict"), [("0", "1 ms", "ok")]),
        "rock": (("#", "predicted", "off by", "verdict"), [("0", "2 ms", "+1.0%", "ok")]),
    }
    print_tables("target", tables)
    assert capsys.readouterr().out == (
        "target\t#\tsearched\tverdict\tpredicted\toff by\n"
        "pi\t0\t1 ms\tok\t-\t-\n"
        "rock\t0\t-\tok\t2 ms\t+1.0%\n"
    )


def test_one_table_has_no_column_for_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    print_tables("target", {"pi": (("#", "time"), [("0", "1 ms")])})
    assert capsys.readouterr().out == "#\ttime\n0\t1 ms\n"


def test_pairs_in_a_pipe_have_no_padding(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs([("store", "here"), ("measurements", "3")])
    assert capsys.readouterr().out == "store\there\nmeasurements\t3\n"


def test_pairs_beside_a_table_leave_the_pipe_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs([("base", "1.5")], beside_table=True)
    assert capsys.readouterr() == ("", "base\t1.5\n")


def test_a_terminal_gets_columns_and_a_title() -> None:
    said = _on_a_terminal(_PROGRAM)
    lines = [line.rstrip() for line in said.splitlines()]
    assert "\t" not in said
    assert lines[:4] == [
        "front",
        "name           time",
        "a [bold]b  1.203 ms",
        "c          12.39 ms",
    ]
    assert lines[4:] == ["store         here", "measurements  3"]


def _on_a_terminal(program: str) -> str:
    """Return what a program writes on a terminal of 80 columns without colours."""
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "80", "NO_COLOR": "1"}
    environment.pop("FORCE_COLOR", None)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=its, stdin=its, env=environment
    ) as process:
        os.close(its)
        said = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # Linux says so when the other end is closed
                break
            if not piece:
                break
            said += piece
        assert process.wait(timeout=60) == 0
    os.close(ours)
    return said.decode()
