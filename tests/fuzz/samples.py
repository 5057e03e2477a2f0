"""Right inputs, from which wrong ones are made."""

from __future__ import annotations

import functools
import inspect
import itertools
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tests.device_agent import onnx_files
from tests.device_agent.harness import make_job, name_of, programme

from boardfront.device_agent import sentinel
from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.weightless import Note

if TYPE_CHECKING:
    from collections.abc import Iterator

ARTIFACT = programme(time_s=0.001)
MESSAGES: tuple[type[Any], ...] = tuple(
    found
    for _, found in inspect.getmembers(agent_pb2, inspect.isclass)
    if issubclass(found, Message)
)
"""Every message of the contract."""


def filled(kind: type[Any]) -> Any:
    """Return a message of a type with a value in every field, also inside."""
    message = kind()
    _fill(message, itertools.count(1), depth=6)
    return message


def submission(job_id: str = "fuzz") -> agent_pb2.SubmitRequest:
    """Return a request that an agent with `ARTIFACT` takes."""
    return agent_pb2.SubmitRequest(
        job=codec.to_message(make_job(ARTIFACT, job_id=job_id)),
        protocol_version=records.PROTOCOL_VERSION,
    )


def requests() -> dict[str, Message]:
    """Return a right request of every method that takes one, by the method's name."""
    return {
        "Describe": agent_pb2.DescribeRequest(),
        "FindMissingArtifacts": agent_pb2.FindMissingArtifactsRequest(sha256=[name_of(ARTIFACT)]),
        "Submit": submission(),
        "Watch": agent_pb2.WatchRequest(job_id="watched", from_event=0),
        "Cancel": agent_pb2.CancelRequest(job_id="fuzz"),
        "Acknowledge": agent_pb2.AcknowledgeRequest(job_id="fuzz"),
        "WatchTelemetry": agent_pb2.WatchTelemetryRequest(period_s=1.0),
        "AcquireLease": agent_pb2.AcquireLeaseRequest(
            lease_id="fuzz-lease", holder="fuzz", priority=1, duration_s=1.0
        ),
        "ReleaseLease": agent_pb2.ReleaseLeaseRequest(lease_id="fuzz-lease"),
        "ShowLease": agent_pb2.ShowLeaseRequest(),
        "RequestCertificate": agent_pb2.RequestCertificateRequest(),
        "InstallCertificate": agent_pb2.InstallCertificateRequest(
            certificate_pem=_PEM, authority_pem=_PEM
        ),
        "SetRevoked": agent_pb2.SetRevokedRequest(serials=["1a2b"]),
    }


def artifacts() -> tuple[bytes, ...]:
    """Return files that backends take."""
    return (ARTIFACT, *networks(), sentinel.FILE.read_bytes())


@functools.cache
def networks() -> tuple[bytes, ...]:
    """Return small ONNX files, with weights and without."""
    note = Note(scale=0.05, seed=7).to_bytes()
    return (
        onnx_files.conv_net(),
        onnx_files.dynamic_net(),
        _with_note(onnx_files.conv_net(), note),
    )


_PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def _with_note(network: bytes, note: bytes) -> bytes:
    import onnx

    model = onnx.load_model_from_string(network)
    for tensor in model.graph.initializer:
        tensor.raw_data = note
    content: bytes = model.SerializeToString()
    return content


def _fill(message: Any, numbers: Iterator[int], *, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            _fill_map(getattr(message, field.name), inner, numbers)
        elif inner is not None and depth:
            target = getattr(message, field.name)
            _fill(target.add() if field.is_repeated else target, numbers, depth=depth - 1)
        elif inner is None and field.is_repeated:
            getattr(message, field.name).append(_value(field, numbers))
        elif inner is None:
            setattr(message, field.name, _value(field, numbers))


def _fill_map(target: Any, entry: Any, numbers: Iterator[int]) -> None:
    value = entry.fields_by_name["value"]
    if value.message_type is None:
        target["key"] = _value(value, numbers)
    else:
        _fill(target["key"], numbers, depth=1)


def _value(field: FieldDescriptor, numbers: Iterator[int]) -> Any:
    if field.enum_type is not None:
        return 1
    if field.type == FieldDescriptor.TYPE_BYTES:
        return f"bytes {next(numbers)}".encode()
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return f"text-{next(numbers)}"
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return True
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return next(numbers) + 0.5
    return next(numbers)
