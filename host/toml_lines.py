"""Find the line of each key of a TOML document: the standard parser does not tell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys from the root down; an integer counts the tables of an array from 0."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\r\n]*")
_SHORT_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


def key_lines(text: str) -> dict[KeyPath, int]:
    """Map the path of every key, table and array entry to its line.

    A key that several lines make (a table that is opened by its parts) has the first of them.

    Args:
        text: A document that the standard parser accepts; the lines of another are undefined.

    Returns:
        Lines counted from 1, by path.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    """Walks a valid document once. `at` is the index of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self._counts: dict[KeyPath, int] = {}
        self._line, self._line_at = 1, 0

    def document(self) -> None:
        table: KeyPath = ()
        self._skip(_BETWEEN)
        while self.at < len(self.text):
            if self._next("[["):
                table = self._array_table()
            elif self._next("["):
                table = self._resolve(self._header("]"))
                self._note(table)
            else:
                self._pair(table)
            self._skip(_BETWEEN)

    def _header(self, end: str) -> tuple[str, ...]:
        self.at += len(end)
        keys = tuple(self._keys())
        self.at += len(end)
        return keys

    def _array_table(self) -> KeyPath:
        keys = self._header("]]")
        path = (*self._resolve(keys[:-1]), keys[-1])
        count = self._counts.get(path, 0)
        self._counts[path] = count + 1
        self._note((*path, count))
        return (*path, count)

    def _resolve(self, keys: tuple[str, ...]) -> KeyPath:
        """Put in the index of the last table wherever a key names an array of tables."""
        path: KeyPath = ()
        for key in keys:
            path = (*path, key)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _pair(self, table: KeyPath) -> None:
        path = (*table, *self._keys())
        self._note(path)
        self.at += 1  # the equals sign
        self._skip(_BLANK)
        self._value(path)

    def _keys(self) -> Iterator[str]:
        """Yield the parts of a dotted key, and leave the blanks behind it."""
        while True:
            self._skip(_BLANK)
            yield self._key()
            self._skip(_BLANK)
            if not self._next("."):
                return
            self.at += 1

    def _key(self) -> str:
        if self._next('"') or self._next("'"):
            return self._string()
        found = _BARE_KEY.match(self.text, self.at)
        if found is None:
            self.at += 1  # not valid: go on, so that the scan ends
            return ""
        self.at = found.end()
        return found.group()

    def _value(self, path: KeyPath) -> None:
        if self._next('"') or self._next("'"):
            self._string()
        elif self._next("["):
            self._array(path)
        elif self._next("{"):
            self._inline_table(path)
        else:
            self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while self._more("]"):
            self._note((*path, index))
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while self._more("}"):
            self._pair(path)

    def _more(self, end: str) -> bool:
        """Step over blanks, comments and a comma; at `end`, step over it and say no."""
        self._skip(_BETWEEN)
        if self._next(","):
            self.at += 1
            self._skip(_BETWEEN)
        if self.at >= len(self.text):
            return False
        if self._next(end):
            self.at += 1
            return False
        return True

    def _string(self) -> str:
        """Step over a string and return its text."""
        quote = self.text[self.at]
        literal = quote == "'"
        mark = quote * 3 if self._next(quote * 3) else quote
        start = self.at = self.at + len(mark)
        while self.at < len(self.text) and not self._next(mark):
            self.at += 1 if literal or not self._next("\\") else 2
        end = self.at
        self.at += len(mark)
        if len(mark) == 3:
            # Up to two quotes may stand right before the closing three.
            while self._next(quote):
                self.at, end = self.at + 1, end + 1
        text = self.text[start:end]
        return text if literal else _unescape(text)

    def _next(self, mark: str) -> bool:
        return self.text.startswith(mark, self.at)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()

    def _note(self, path: KeyPath) -> None:
        """Record the present line for a path and for the tables that it opens on its way."""
        self._line += self.text.count("\n", self._line_at, self.at)
        self._line_at = self.at
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], self._line)


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] in "uUx":
            return chr(int(code[1:], 16))
        return _SHORT_ESCAPES.get(code, code)

    return re.sub(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|.)", replace, text)
