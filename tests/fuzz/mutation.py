"""Spoils bytes and protobuf messages, always the same way for one seed."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message

ESCAPED = "boardfront-fuzz-escaped"
"""Part of every path that must never come into being."""

_NUMBERS = (
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    256,
    2**31 - 1,
    -(2**31),
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)
_REALS = (0.0, -0.0, -1.0, 1e-308, 1e308, math.inf, -math.inf, math.nan, 0.5, 1e9)
_AWAY = f"/tmp/{ESCAPED}"  # noqa: S108 - a path that must never be written
_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "a" * 129,
        "a" * 70_000,
        "\n",
        "é" * 64,
        "\U0001d518",
        "%s%n",
        "{}",
        "-",
        ".",
    ),
    *("..", "../", f"../../{ESCAPED}", _AWAY, f"{ESCAPED}\0", "0" * 64, "f" * 64),
    *("con", "job.json", "acknowledged.txt", "fake", "onnxruntime", "local", "NaN", "0-99999"),
)
_SOME_BYTES = (b"\0", b"\xff", b"\xff" * 10, b"\x80" * 9 + b"\x01", b"{", b"[[[[", b"\n")


class Mutator:
    """Makes wrong inputs out of right ones.

    Args:
        seed: The same one makes the same inputs.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - inputs, not secrets

    def spoil(self, content: bytes) -> bytes:
        """Return other bytes: a few changes of any kind at any place."""
        spoilt = bytearray(content)
        changes: tuple[Callable[[bytearray], None], ...] = (
            self._flip,
            self._set,
            self._insert,
            self._remove,
            self._repeat,
            self._cut,
        )
        for _ in range(self.random.choice((1, 1, 1, 2, 3, 8))):
            self.random.choice(changes)(spoilt)
        return bytes(spoilt)

    def twist(self, message: Message, *, changes: int = 2) -> None:
        """Put values into some fields of a message, or of one in it, that nobody expects."""
        for _ in range(self.random.randint(1, changes)):
            self._twist_field(message, depth=4)

    def _twist_field(self, message: Any, *, depth: int) -> None:
        fields: Sequence[FieldDescriptor] = message.DESCRIPTOR.fields
        if not fields:
            return
        field = self.random.choice(fields)
        if self.random.random() < 0.15:
            message.ClearField(field.name)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._twist_map(getattr(message, field.name), field.message_type)
        elif field.message_type is not None and depth:
            self._twist_inner(message, field, depth=depth)
        elif field.message_type is None and field.is_repeated:
            values = [self._scalar(field) for _ in range(self.random.choice((0, 1, 2, 50)))]
            del getattr(message, field.name)[:]
            getattr(message, field.name).extend(values)
        elif field.message_type is None:
            setattr(message, field.name, self._scalar(field))

    def _twist_inner(self, message: Any, field: FieldDescriptor, *, depth: int) -> None:
        inner = getattr(message, field.name)
        if not field.is_repeated:
            inner.SetInParent()
            self._twist_field(inner, depth=depth - 1)
        elif not inner or self.random.random() < 0.2:
            for _ in range(self.random.choice((1, 2, 40))):
                inner.add()
        elif self.random.random() < 0.2:
            inner.add().CopyFrom(self.random.choice(inner))
        else:
            self._twist_field(self.random.choice(inner), depth=depth - 1)

    def _twist_map(self, target: Any, entry: Any) -> None:
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        name = self._scalar(key)
        if value.message_type is None:
            target[name] = self._scalar(value)
        else:
            self._twist_field(target[name], depth=1)

    def _scalar(self, field: FieldDescriptor) -> Any:
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            text = self.random.choice(_TEXTS)
            return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
        if kind in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
            return self.random.choice(_REALS)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return self.random.random() < 0.5
        return self._whole_number(kind)

    def _whole_number(self, kind: int) -> int:
        number: int = self.random.choice(_NUMBERS)
        if kind == FieldDescriptor.CPPTYPE_UINT64:
            return number % 2**64
        if kind == FieldDescriptor.CPPTYPE_UINT32:
            return number % 2**32
        bits = 64 if kind == FieldDescriptor.CPPTYPE_INT64 else 32
        half = 1 << (bits - 1)
        return (number + half) % (2 * half) - half

    def _place(self, content: bytearray) -> int:
        return self.random.randrange(len(content) + 1)

    def _flip(self, content: bytearray) -> None:
        if content:
            content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)

    def _set(self, content: bytearray) -> None:
        if content:
            content[self.random.randrange(len(content))] = self.random.randrange(256)

    def _insert(self, content: bytearray) -> None:
        place = self._place(content)
        text = self.random.choice(_TEXTS).encode()[:300]
        content[place:place] = self.random.choice((*_SOME_BYTES, text))

    def _remove(self, content: bytearray) -> None:
        place = self._place(content)
        del content[place : place + self.random.choice((1, 2, 8, 100))]

    def _repeat(self, content: bytearray) -> None:
        place = self._place(content)
        piece = content[place : place + self.random.choice((1, 8, 64, 1000))]
        content[place:place] = piece * self.random.choice((1, 2, 20))

    def _cut(self, content: bytearray) -> None:
        del content[self._place(content) :]
