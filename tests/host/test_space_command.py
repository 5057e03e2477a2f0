"""`boardfront space show etnas`: an architecture's size, with either stem."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., tuple[int, str, str]]

RESNET_18 = "020-_64_11-21-21-21"


def test_json_has_the_counts_of_the_published_network(boardfront: Command) -> None:
    encoding = "23311-a02c12_64_211-2111-21111111111111111111111-211"
    code, out, told = boardfront("space", "show", "etnas", encoding, "--json")
    assert (code, told) == (0, "")
    content = json.loads(out)
    # NASOA, Table 10, ET-NAS-L: 130.4 M parameters, 23.46 GMACs, 19.4 M activations.
    assert (content["space"], content["encoding"]) == ("etnas", encoding)
    assert (content["resolution"], content["classes"]) == (224, 1000)
    assert f"{content['params'] / 1e6:.1f}" == "130.4"
    assert f"{content['macs'] / 1e9:.2f}" == "23.46"
    assert f"{content['activations'] / 1e6:.1f}" == "19.4"


def test_in_a_pipe_the_spaces_are_a_table(boardfront: Command) -> None:
    code, out, told = boardfront("space", "list")
    assert (code, told) == (0, "")
    headings, *rows = [line.split("\t") for line in out.splitlines()]
    assert headings == ["space", "setting", "default", "meaning"]
    assert {len(row) for row in rows} == {4}
    assert ["spos", "resolution"] in [row[:2] for row in rows]
    listed = json.loads(boardfront("space", "list", "--json")[1])
    assert [(row[0], row[3]) for row in rows if not row[1]] == [
        (one["name"], one["summary"]) for one in listed
    ]


def test_the_stem_is_a_setting(boardfront: Command) -> None:
    code, out, told = boardfront("space", "show", "etnas", RESNET_18, "--set", 'stem="resnet"')
    assert (code, told) == (0, "")
    # torchvision's resnet18.
    assert "(11689512)" in out
    assert "(11689512)" not in boardfront("space", "show", "etnas", RESNET_18)[1]


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("020-_64-11-21-21-21", "at position 7: expected '_' after the channels, got '-'"),
        ("020-a13_64_11-21-21-21", "at position 6: expected a node behind node 1"),
        ("020-_64_11-21-21", "at position 16: expected '-' and stage 4 of 4"),
    ],
)
def test_a_wrong_encoding_gives_position_and_rule(
    boardfront: Command, encoding: str, line: str
) -> None:
    code, out, told = boardfront("space", "show", "etnas", encoding)
    assert (code, out) == (2, "")
    assert line in told
    assert told.count("\n") == 1
