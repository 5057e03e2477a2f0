"""Every record that has a message survives the wire whole, and no nonsense gets in."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import itertools
import types
import typing
from collections.abc import Mapping
from typing import Any

import pytest

from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.errors import InvalidRecordError, WrongInputError

_BODIES: tuple[type[Any], ...] = typing.get_args(records.EventBody)
_RECORDS: tuple[type[Any], ...] = tuple(
    record
    for _, record in inspect.getmembers(records, inspect.isclass)
    if dataclasses.is_dataclass(record)
)
_ENUMS: tuple[type[enum.Enum], ...] = tuple(
    found
    for _, found in inspect.getmembers(records, inspect.isclass)
    if issubclass(found, enum.Enum)
)


def _hints(record: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(record)
    return {field.name: hints[field.name] for field in dataclasses.fields(record)}


def _filled(record: type[Any], *, optional: bool = True, body: type[Any] = records.Queued) -> Any:
    """Return a record whose every field differs from its default and from its neighbours."""
    counter = itertools.count(3)
    values = {
        name: _value(hint, counter, optional=optional, body=body)
        for name, hint in _hints(record).items()
    }
    return record(**values)


def _value(hint: Any, counter: itertools.count[int], *, optional: bool, body: type[Any]) -> Any:  # noqa: PLR0911
    def inner(part: Any) -> Any:
        return _value(part, counter, optional=optional, body=body)

    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is records.EventBody:
        return _filled(body, optional=optional)
    if origin in {types.UnionType, typing.Union}:
        return inner(parts[0]) if optional else None
    if origin is tuple:
        return (inner(parts[0]), inner(parts[0]))
    if origin is Mapping:
        return {f"key {next(counter)}": inner(parts[1]) for _ in range(2)}
    if dataclasses.is_dataclass(hint):
        return _filled(typing.cast("type[Any]", hint), optional=optional, body=body)
    if issubclass(hint, enum.Enum):
        return list(hint)[-1]
    return {bool: True, str: f"text {next(counter)}", int: next(counter)}.get(
        hint, next(counter) + 0.5
    )


def _through_bytes(record: Any) -> Any:
    message = codec.to_message(record)
    parsed = type(message).FromString(message.SerializeToString())
    return codec.from_message(parsed, type(record))


@pytest.mark.parametrize("record", _RECORDS, ids=lambda record: record.__name__)
def test_every_record_has_a_message_with_just_its_fields(record: type[Any]) -> None:
    message = getattr(agent_pb2, record.__name__)
    on_the_wire = {field.name for field in message.DESCRIPTOR.fields}
    bodies = {body.__name__.lower() for body in _BODIES}
    if record is records.JobEvent:
        assert on_the_wire >= bodies
        on_the_wire = on_the_wire - bodies | {"body"}
    assert on_the_wire == set(_hints(record))


@pytest.mark.parametrize("record", _RECORDS, ids=lambda record: record.__name__)
@pytest.mark.parametrize("optional", [True, False], ids=["full", "nothing-optional"])
def test_every_record_survives(record: type[Any], *, optional: bool) -> None:
    original = _filled(record, optional=optional)
    assert _through_bytes(original) == original


@pytest.mark.parametrize("record", _RECORDS, ids=lambda record: record.__name__)
def test_each_field_alone_makes_a_difference(record: type[Any]) -> None:
    original = _filled(record)
    for name in _hints(record):
        message = codec.to_message(original)
        wire_name = "queued" if name == "body" else name
        message.ClearField(wire_name)
        assert message != codec.to_message(original), name


@pytest.mark.parametrize("body", _BODIES, ids=lambda body: body.__name__)
def test_every_kind_of_event_survives(body: type[Any]) -> None:
    original = _filled(records.JobEvent, body=body)
    assert isinstance(original.body, body)
    assert _through_bytes(original) == original


@pytest.mark.parametrize("found", _ENUMS, ids=lambda found: found.__name__)
def test_every_value_of_an_enum_is_on_the_wire_and_zero_is_none_of_them(
    found: type[enum.Enum],
) -> None:
    descriptor = getattr(agent_pb2, found.__name__).DESCRIPTOR
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    names = {value.name.removeprefix(prefix) for value in descriptor.values if value.number}
    assert names == {member.name for member in found}


def test_absent_stays_absent_and_zero_stays_zero() -> None:
    assert _through_bytes(records.Circumstances()) == records.Circumstances()
    zero = records.Circumstances(
        governor="", temperature_before_c=0.0, steal_fraction=0.0, worker_peak_rss_bytes=0
    )
    back = _through_bytes(zero)
    assert back == zero
    assert back.temperature_before_c == 0.0
    assert back.temperature_after_c is None
    sampling = records.Sampling(windows=2, median_s=0.1, low_s=None, high_s=None, elapsed_s=0.0)
    assert _through_bytes(sampling).low_s is None


def test_numbers_keep_every_bit() -> None:
    window = records.Window(start_s=1e-300, loops=2**53 + 1, samples_s=(0.1, 1 / 3, 5e-324))
    assert _through_bytes(window) == window


def test_shapes_keep_their_order_and_an_empty_one() -> None:
    subject = records.Subject(
        subject_id="s",
        artifact_sha256="a" * 64,
        backend="fake",
        input_shapes={"x": (1, 3, 224, 224), "scalar": ()},
    )
    assert _through_bytes(subject) == subject


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (record, name)
        for record in _RECORDS
        for name, hint in _hints(record).items()
        if isinstance(hint, type) and issubclass(hint, enum.Enum)
    ],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
@pytest.mark.parametrize("number", [0, 99])
def test_an_enum_unset_or_unknown_is_refused(record: type[Any], field: str, number: int) -> None:
    message = codec.to_message(_filled(record))
    setattr(message, field, number)
    pattern = rf"{record.__name__}\.{field} is {number}: expected one of [A-Z_]+"
    with pytest.raises(InvalidRecordError, match=pattern):
        codec.from_message(message, record)


def test_an_unset_enum_in_a_list_is_refused() -> None:
    message = codec.to_message(_filled(records.BackendInfo))
    message.tasks.append(0)
    with pytest.raises(InvalidRecordError, match=r"BackendInfo\.tasks is 0"):
        codec.from_message(message, records.BackendInfo)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_refused_wherever_it_stands(number: float) -> None:
    window = records.Window(start_s=0.0, loops=1, samples_s=(0.1, number))
    circumstances = records.Circumstances(temperature_after_c=number)
    precision = records.Precision(relative_half_width=number)
    sample = records.TelemetrySample(
        time_unix_s=0.0, queued_jobs=0, temperatures_c={"soc": 40.0, "gpu": number}
    )
    for record, field in [
        (window, "samples_s"),
        (sample, "temperatures_c"),
        (circumstances, "temperature_after_c"),
        (precision, "relative_half_width"),
    ]:
        with pytest.raises(InvalidRecordError, match=rf"\.{field} is .*: expected a finite"):
            _through_bytes(record)


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (record, name)
        for record in _RECORDS
        for name, hint in _hints(record).items()
        if dataclasses.is_dataclass(hint)
    ],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_a_required_message_left_out_is_refused(record: type[Any], field: str) -> None:
    message = codec.to_message(_filled(record))
    message.ClearField(field)
    with pytest.raises(InvalidRecordError, match=rf"{record.__name__}\.{field} is missing"):
        codec.from_message(message, record)


def test_an_event_without_a_body_is_refused() -> None:
    with pytest.raises(InvalidRecordError, match=r"JobEvent\.body is missing"):
        codec.from_message(agent_pb2.JobEvent(index=1), records.JobEvent)


def test_an_event_of_a_kind_not_yet_known_is_refused() -> None:
    # A newer agent's event is a field that this side's schema lacks: no body is left.
    message = codec.to_message(_filled(records.JobEvent))
    message.ClearField("queued")
    unknown_field_15 = bytes([15 << 3 | 2, 0])
    parsed = agent_pb2.JobEvent.FromString(message.SerializeToString() + unknown_field_15)
    with pytest.raises(InvalidRecordError, match="expected one kind of event"):
        codec.from_message(parsed, records.JobEvent)


def test_a_field_not_yet_known_is_passed_over() -> None:
    original = _filled(records.Task)
    content = codec.to_message(original).SerializeToString() + bytes([15 << 3, 1])
    assert codec.from_message(agent_pb2.Task.FromString(content), records.Task) == original


def test_an_invalid_record_is_wrong_input() -> None:
    # So that the agent answers INVALID_ARGUMENT and not INTERNAL.
    assert issubclass(InvalidRecordError, WrongInputError)
