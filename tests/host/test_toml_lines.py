"""The scanner finds every key that tomllib finds, on the line where a person sees it."""

from __future__ import annotations

import random
import sys

import pytest

from boardfront.host.toml_lines import KeyPath, key_lines

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_DOCUMENT = '''\
# a comment with [brackets] and = signs
title = "a # no comment" # a comment
"quoted key" = 1
'literal.key' = 2
"esc\\u0061ped \\"x\\"" = 3
a.b . "c.d" = 4

[table]   # comment
numbers = [ 1, 2, # one
  3,
]
nested = [[1, 2], [3, [4, "]"]]]
inline = { x = 1, y.z = "}", deep = { k = [1] } }
text = """
[not a table]
key = 1 \\
""" # after
closing = """two quotes"""""
raw = \'\'\'
it's = "raw" \\\'\'\'
date = 1979-05-27 07:32:00
empty = []
none = {}
float = -1.5e3

[[target]]
name = "first"
[target.options]
threads = 1
[[target]]
name = "second"
  [[target.sub]]
  x = 1
  [[target.sub]]
  x = 2
[deep.er.est]
y = true
[deep]
z = false
[[a.arr]]
p = [{ q = 1 }, { q = 2 }]
'''

_DOCUMENTS = [
    _DOCUMENT,
    _DOCUMENT.replace("\n", "\r\n"),
    "",
    "# only a comment",
    "a = 1",
    "a='x'\nb=''\nc=\"\"\nd=''''''\ne=\"\"\"\"\"\"\n",
    "x = [\n  # comment ]\n  'a', # b\n  \"c\",\n]\ny = 1\n",
    "[a]\n[a.b]\n[[a.b.c]]\nd = 1\n[[a.b.c]]\nd.e = 2\n[a.f]\n",
    '"" = 1\n"a.b".c = 2\n3 = 4\n1.2 = 3\n',
]


def _paths(value: object, path: KeyPath = ()) -> set[KeyPath]:
    found: set[KeyPath] = {path} if path else set()
    if isinstance(value, dict):
        for key, entry in value.items():
            found |= _paths(entry, (*path, key))
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            found |= _paths(entry, (*path, i))
    return found


@pytest.mark.parametrize("text", _DOCUMENTS, ids=range(len(_DOCUMENTS)))
def test_the_keys_are_those_that_the_parser_finds(text: str) -> None:
    assert set(key_lines(text)) == _paths(tomllib.loads(text))


@pytest.mark.parametrize(
    ("path", "start"),
    [
        (("title",), "title"),
        (("quoted key",), '"quoted key"'),
        (('escaped "x"',), '"esc'),
        (("a", "b", "c.d"), "a.b ."),
        (("table",), "[table]"),
        (("table", "numbers", 2), "3,"),
        (("table", "inline", "y", "z"), "inline"),
        (("table", "closing"), "closing"),
        (("table", "date"), "date"),
        (("target", 0), "[[target]]"),
        (("target", 0, "options", "threads"), "threads"),
        (("target", 1, "name"), 'name = "second"'),
        (("target", 1, "sub", 1, "x"), "x = 2"),
        (("deep", "er"), "[deep.er.est]"),
        (("deep", "z"), "z = false"),
        (("a", "arr", 0, "p", 1, "q"), "p ="),
    ],
    ids=str,
)
def test_the_line_is_where_the_key_stands(path: KeyPath, start: str) -> None:
    line = key_lines(_DOCUMENT)[path]
    assert _DOCUMENT.split("\n")[line - 1].strip().startswith(start)


def test_the_second_table_of_an_array_has_its_own_line() -> None:
    lines = key_lines(_DOCUMENT)
    assert lines["target", 1] == lines["target", 0] + 4


def test_random_documents() -> None:
    rng = random.Random(5)  # noqa: S311
    keys = ["a", "b-c", '"d e"', "'f.g'", '"h#"']
    values = [
        "1",
        '"x # y"',
        "'[t]'",
        "[1, [2]]",
        "{ k = 1, l = [2, 3] }",
        '"""\n[x]\n"""',
        "[\n]",
    ]
    for _ in range(200):
        parts = []
        for table in range(rng.randrange(4)):
            parts.append(rng.choice(["", "# c\n", "\n"]) + f"[[arr]]\n[arr.t{table}]\n")
            chosen = rng.sample(keys, rng.randrange(len(keys)))
            parts += [f"{key} = {rng.choice(values)} # c\n" for key in chosen]
        text = "".join(parts)
        assert set(key_lines(text)) == _paths(tomllib.loads(text))


@pytest.mark.parametrize("text", ["= 1", "[", "a = [", 'a = "', "a = {b", "[[x", "\\", "a\n!b"])
def test_the_scan_of_a_broken_document_ends(text: str) -> None:
    key_lines(text)
