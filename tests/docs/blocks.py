"""The code blocks of README.md and docs/, and what is written above them for the tests.

A comment on the lines above a block says how it is tested:

    <!-- not run: why -->       its syntax, commands and options are checked, nothing is executed
    <!-- beforehand: COMMAND -->  what the tests need first and a reader does not
    <!-- shows: PATTERN -->     a regular expression that its output must match; repeatable
    <!-- exit code: 1 -->       of its last command, where it is not 0
    <!-- terminal: KEYS once PATTERN -->  its command gets a terminal, and these keys when what it
                               wrote there, or to its file, matches; `^C` interrupts it

`console` blocks hold commands behind a prompt (`$`, or `board$`, `host$`: who types it); lines
without one show output, which is not compared. A block with `title="FILE"` is that file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>.*)$")
_MARK = re.compile(
    r"^ *<!-- (?P<key>not run|beforehand|shows|exit code|terminal): (?P<value>.+?) -->$"
)
_PROMPT = re.compile(r"^(?P<who>[a-z]*)\$ +(?P<text>.+)$")
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command of a console block; `line` counts in the page, `who` types it or is empty."""

    line: int
    who: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    title: str
    text: str
    not_run: str = ""
    beforehand: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    exit_code: int = 0
    keys: str = ""
    keys_once: str = ""
    commands: tuple[Command, ...] = field(default=())

    @property
    def where(self) -> str:
        """Page and line, as editors take them."""
        return f"{self.page}:{self.line}"

    @property
    def kind(self) -> str:
        """How it is tested: run, read (data that is parsed), exempt (checked only), shown."""
        if self.not_run:
            return "exempt"
        if self.commands or self.language == "python":
            return "run"
        return "read" if self.language in _DATA else "shown"


_DATA = ("toml", "json", "yaml", "c", "ini")


def pages() -> list[str]:
    """Return the pages of the documentation, as paths in the repository."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return ["README.md", *(str(path.relative_to(ROOT)) for path in found)]


def blocks_of(page: str) -> list[Block]:
    """Return a page's blocks in order."""
    return list(_blocks(page, (ROOT / page).read_text(encoding="utf-8").splitlines()))


def _blocks(page: str, lines: list[str]) -> Iterator[Block]:
    marks: list[tuple[str, str]] = []
    index = 0
    while index < len(lines):
        fence = _FENCE.match(lines[index])
        if fence is None:
            mark = _MARK.match(lines[index])
            if mark:
                marks.append((mark["key"], mark["value"]))
            elif lines[index].strip():
                assert not marks, f"{page}:{index + 1}: a mark, and no block below it"
            index += 1
            continue
        closing = next(
            number for number in range(index + 1, len(lines)) if lines[number].strip() == "```"
        )
        indent = len(fence["indent"])
        body = [line[indent:] for line in lines[index + 1 : closing]]
        yield _block(page, index + 1, fence["info"].strip(), body, marks)
        marks = []
        index = closing + 1


def _block(
    page: str, line: int, info: str, body: list[str], marks: list[tuple[str, str]]
) -> Block:
    language = info.split(" ", maxsplit=1)[0]
    title = _TITLE.search(info)
    said = dict(marks)
    keys, _, keys_once = said.get("terminal", "").partition(" once ")
    return Block(
        page=page,
        line=line,
        language=language,
        title=title[1] if title else "",
        text="\n".join(body) + "\n",
        not_run=said.get("not run", ""),
        beforehand=tuple(value for key, value in marks if key == "beforehand"),
        shows=tuple(value for key, value in marks if key == "shows"),
        exit_code=int(said.get("exit code", "0")),
        keys=keys,
        keys_once=keys_once,
        commands=tuple(_commands(body, line + 1)) if language == "console" else (),
    )


def _commands(body: list[str], first_line: int) -> Iterator[Command]:
    index = 0
    while index < len(body):
        prompt = _PROMPT.match(body[index])
        number = first_line + index
        index += 1
        if prompt is None:
            continue
        text = prompt["text"]
        while text.endswith("\\"):
            text = text[:-1].rstrip() + " " + body[index].strip()
            index += 1
        yield Command(line=number, who=prompt["who"], text=text)


def summary() -> str:
    """Say in a few lines how the blocks of all pages are tested."""
    blocks = [block for page in pages() for block in blocks_of(page)]
    count = {
        kind: sum(b.kind == kind for b in blocks) for kind in ("run", "read", "exempt", "shown")
    }
    commands = sum(len(b.commands) for b in blocks if b.kind == "run")
    lines = [
        f"{len(blocks)} code blocks on {len(pages())} pages: {count['run']} run ({commands} "
        f"commands), {count['read']} read as data, {count['exempt']} checked and not run, "
        f"{count['shown']} only show output or a drawing",
    ]
    lines += [f"  not run: {b.where}: {b.not_run}" for b in blocks if b.not_run]
    return "\n".join(lines)
