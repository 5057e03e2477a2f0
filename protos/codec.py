"""Records to protobuf messages and back.

A record and its message have the same name and the same fields, so one rule a kind of field does
for all of them; `tests/protos/test_codec.py` proves for every record that none was forgotten.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from boardfront.protos import agent_pb2, records
from boardfront.protos.errors import InvalidRecordError

if typing.TYPE_CHECKING:
    from google.protobuf.message import Message

_Record = TypeVar("_Record")


def to_message(record: object) -> Any:
    """Return the protobuf message of a record.

    Args:
        record: An instance of a dataclass of `records` that has a message of its name.

    Returns:
        The message `agent_pb2.<class name>`.
    """
    message = getattr(agent_pb2, type(record).__name__)()
    record_type: Any = type(record)
    for field, hint in _fields(record_type):
        value = getattr(record, field)
        if value is not None:
            _set(message, field, value, hint)
    return message


def from_message(message: Message, record_type: type[_Record]) -> _Record:
    """Return the record of a protobuf message.

    Raises:
        InvalidRecordError: If an enum is unset or unknown, a number is not finite, or a required
            message is missing.
    """
    key: Any = record_type
    values = {field: _get(message, field, hint) for field, hint in _fields(key)}
    return record_type(**values)


@functools.cache
def _fields(record_type: Any) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(record_type)
    names = [field.name for field in dataclasses.fields(record_type)]
    return tuple((name, hints[name]) for name in names)


def _set(message: Any, field: str, value: Any, hint: Any) -> None:
    if hint is records.EventBody:
        getattr(message, _body_field(type(value))).CopyFrom(to_message(value))
    elif isinstance(value, tuple):
        getattr(message, field).extend(_scalar(item) for item in value)
    elif isinstance(value, Mapping):
        _set_map(getattr(message, field), value)
    elif dataclasses.is_dataclass(value):
        getattr(message, field).CopyFrom(to_message(value))
    else:
        setattr(message, field, _scalar(value))


def _set_map(target: Any, value: Mapping[str, Any]) -> None:
    for key, item in value.items():
        if isinstance(item, tuple):
            target[key].dimensions.extend(item)
        else:
            target[key] = item


def _scalar(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return getattr(agent_pb2, _enum_name(value))
    if dataclasses.is_dataclass(value):
        return to_message(value)
    return value


def _get(message: Any, field: str, hint: Any) -> Any:
    if hint is records.EventBody:
        return _get_body(message)
    origin = typing.get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        inner = next(arg for arg in typing.get_args(hint) if arg is not type(None))
        return _get(message, field, inner) if message.HasField(field) else None
    value = getattr(message, field)
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(_parse(message, field, item, inner) for item in value)
    if origin is Mapping:
        return {key: _map_item(message, field, item) for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and not message.HasField(field):
        raise InvalidRecordError(f"{type(message).__name__}.{field} is missing: it is required")
    return _parse(message, field, value, hint)


def _map_item(message: Any, field: str, item: Any) -> Any:
    if isinstance(item, agent_pb2.Shape):
        return tuple(item.dimensions)
    return _parse(message, field, item, type(item))


def _parse(message: Any, field: str, value: Any, hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _parse_enum(message, field, value, hint)
    if dataclasses.is_dataclass(hint):
        return from_message(value, typing.cast("type[Any]", hint))
    if hint is float and not math.isfinite(value):
        raise InvalidRecordError(
            f"{type(message).__name__}.{field} is {value}: expected a finite number"
        )
    return value


def _parse_enum(message: Any, field: str, value: int, hint: type[enum.Enum]) -> enum.Enum:
    for member in hint:
        if getattr(agent_pb2, _enum_name(member)) == value:
            return member
    known = ", ".join(_enum_name(member) for member in hint)
    raise InvalidRecordError(
        f"{type(message).__name__}.{field} is {value}: expected one of {known}"
    )


def _get_body(message: Any) -> Any:
    chosen = message.WhichOneof("body")
    if chosen is None:
        raise InvalidRecordError("JobEvent.body is missing: expected one kind of event")
    for body_type in typing.get_args(records.EventBody):
        if _body_field(body_type) == chosen:
            return from_message(getattr(message, chosen), body_type)
    raise InvalidRecordError(f"JobEvent.body is {chosen!r}: this side is too old to know it")


def _body_field(body_type: type) -> str:
    return body_type.__name__.lower()


def _enum_name(member: enum.Enum) -> str:
    """`TaskKind.TRAINING_STEP` -> `TASK_KIND_TRAINING_STEP`, as protobuf's style guide asks."""
    words = "".join(f"_{c}" if c.isupper() else c.upper() for c in type(member).__name__)
    return f"{words[1:]}_{member.name}"
