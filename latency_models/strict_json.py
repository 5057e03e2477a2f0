"""Frozen records to plain JSON values and back, by their annotations and nothing else.

Strict both ways: a number that JSON has no word for is refused when written, a value of another
type or a key that the record lacks is refused when read.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TypeVar

from boardfront.protos.errors import WrongInputError

_Record = TypeVar("_Record")


def encode(value: object, where: str = "") -> object:
    """Turn a record into dicts, lists, strings, numbers, booleans and None.

    Args:
        value: A dataclass instance, or anything that one may hold.
        where: Path of `value` inside the whole, for the error's text.

    Raises:
        WrongInputError: A number is NaN or infinite, or a value is of no known kind.
    """
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise WrongInputError(
                f"expected a finite number at {where or 'the top'}, got {value}: "
                "leave it out (None) or record a failure",
            )
        return value
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: encode(getattr(value, name), _join(where, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(name): encode(entry, _join(where, name)) for name, entry in value.items()}
    if isinstance(value, tuple | list):
        finite = _are_finite(value)
        return list(value) if finite else [encode(v, _join(where, i)) for i, v in enumerate(value)]
    raise WrongInputError(
        f"expected a record's value at {where or 'the top'}, got {type(value).__name__}: "
        "convert it to a plain number or string first",
    )


def decode(record: type[_Record], data: object, where: str = "") -> _Record:
    """Build a record from what `encode` wrote.

    A key may be missing only where the field has a default: that is how files stay readable
    when a record grows.

    Args:
        record: The dataclass to build.
        data: The JSON value.
        where: Path of `data` inside the whole, for the error's text.

    Raises:
        WrongInputError: A key is unknown or missing, or a value is of another type.
    """
    built: _Record = _decode(record, data, where)
    return built


def _decode(annotation: typing.Any, data: object, where: str) -> typing.Any:
    if type(data) is annotation and (not isinstance(data, float) or math.isfinite(data)):
        # A store's import does this millions of times.
        return data
    origin = typing.get_origin(annotation)
    if origin in {types.UnionType, typing.Union}:
        return _decode_union(typing.get_args(annotation), data, where)
    if origin is tuple:
        return _decode_tuple(typing.get_args(annotation), data, where)
    if origin is Mapping:
        entry = typing.get_args(annotation)[1]
        pairs = _expect(dict, data, where).items()
        return {name: _decode(entry, value, _join(where, name)) for name, value in pairs}
    if dataclasses.is_dataclass(annotation):
        return _decode_record(annotation, _expect(dict, data, where), where)
    return _decode_plain(annotation, data, where)


def _decode_plain(annotation: typing.Any, data: object, where: str) -> object:
    if issubclass(annotation, enum.Enum):
        return _decode_enum(annotation, data, where)
    if annotation is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    return _expect(annotation, data, where)


def _decode_record(
    record: typing.Any,
    data: dict[str, object],
    where: str,
) -> object:
    hints, required = _hints(record), _required(record)
    if not data.keys() <= hints.keys():
        unknown = min(data.keys() - hints.keys())
        raise _mismatch(f"one of {', '.join(hints)}", f"the key {unknown!r}", where)
    missing = [name for name in required if name not in data]
    if missing:
        raise _mismatch(f"the key {missing[0]!r}", f"only {', '.join(data) or 'nothing'}", where)
    return record(
        **{name: _decode(hints[name], value, _join(where, name)) for name, value in data.items()},
    )


@functools.cache
def _required(record: typing.Any) -> tuple[str, ...]:
    """Return the names of the fields without a default."""
    return tuple(
        field.name
        for field in dataclasses.fields(record)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )


@functools.cache
def _hints(record: typing.Any) -> dict[str, object]:
    """Return the fields' types by their names, in their order."""
    # The records import Mapping for type checkers only.
    hints = typing.get_type_hints(record, localns={"Mapping": Mapping})
    return {field.name: hints[field.name] for field in dataclasses.fields(record)}


def _decode_union(members: tuple[object, ...], data: object, where: str) -> object:
    if data is None and type(None) in members:
        return None
    plain = [member for member in members if member is not type(None)]
    if len(plain) != 1:
        raise _mismatch("a record whose fields have one type each", repr(members), where)
    return _decode(plain[0], data, where)


def _decode_tuple(members: tuple[object, ...], data: object, where: str) -> tuple[object, ...]:
    entries = _expect(list, data, where)
    if len(members) == 2 and members[1] is Ellipsis:
        if members[0] is float and _are_finite(entries):
            return tuple(entries)
        members = (members[0],) * len(entries)
    if len(members) != len(entries):
        raise _mismatch(f"{len(members)} entries", str(len(entries)), where)
    return tuple(
        _decode(member, entry, _join(where, i))
        for i, (member, entry) in enumerate(zip(members, entries, strict=True))
    )


def _are_finite(entries: Sequence[object]) -> bool:
    """Whether all are finite floats: raw samples are most of what is read and written."""
    return set(map(type, entries)) <= {float} and all(map(math.isfinite, entries))  # type: ignore[arg-type]


def _decode_enum(kind: type[enum.Enum], data: object, where: str) -> object:
    members = {member.value: member for member in kind}
    if isinstance(data, str) and data in members:
        return members[data]
    allowed = ", ".join(str(value) for value in members)
    raise _mismatch(f"one of {allowed}", repr(data), where)


def _expect(kind: typing.Any, data: object, where: str) -> typing.Any:
    fits = isinstance(data, kind) and (kind in {bool, object} or not isinstance(data, bool))
    if not fits or (isinstance(data, float) and not math.isfinite(data)):
        raise _mismatch(kind.__name__, f"{data!r:.60}", where)
    return data


def _mismatch(expected: str, got: str, where: str) -> WrongInputError:
    place = where or "the top"
    return WrongInputError(
        f"expected {expected} at {place}, got {got}: "
        "the data is damaged or was written by another version",
    )


def _join(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)
