"""A gRPC client that knows the service's name and nothing of boardfront's code.

Usage: python stock_client.py HOST:PORT
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

_SERVICE = "boardfront.v1.Agent"


class _Stock:
    """Calls methods by name with messages made from their descriptors."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        database = ProtoReflectionDescriptorDatabase(channel)
        assert _SERVICE in database.get_services()
        self._pool = descriptor_pool.DescriptorPool(database)
        self._service = self._pool.FindServiceByName(_SERVICE)

    def call(self, method: str, **fields: Any) -> Any:
        """Call a method whose request and reply are one message each."""
        return self._callable("unary_unary", method)(self.make(method, **fields), timeout=20.0)

    def stream(self, method: str, **fields: Any) -> Any:
        """Call a method that answers by a stream."""
        return self._callable("unary_stream", method)(self.make(method, **fields), timeout=20.0)

    def send(self, method: str, *requests: Any) -> Any:
        """Call a method that takes a stream."""
        return self._callable("stream_unary", method)(iter(requests), timeout=20.0)

    def make(self, method: str, **fields: Any) -> Any:
        """Make the request of a method."""
        descriptor = self._service.FindMethodByName(method).input_type
        return message_factory.GetMessageClass(descriptor)(**fields)

    def enum(self, name: str, value: str) -> int:
        """Return an enum's value by its names."""
        found = self._pool.FindEnumTypeByName(f"boardfront.v1.{name}")
        return int(found.values_by_name[value].number)

    def enum_name(self, name: str, number: int) -> str:
        """Return the name of an enum's value."""
        found = self._pool.FindEnumTypeByName(f"boardfront.v1.{name}")
        return str(found.values_by_number[number].name)

    def _callable(self, kind: str, method: str) -> Any:
        reply = self._service.FindMethodByName(method).output_type
        return getattr(self._channel, kind)(
            f"/{_SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(reply).FromString,
        )


def main() -> None:
    """Describe the agent, measure a programmed network, read its median, acknowledge."""
    with grpc.insecure_channel(sys.argv[1]) as channel:
        stock = _Stock(channel)
        device = stock.call("Describe")
        _say("name", device.name)
        _say("backends", ",".join(sorted(backend.name for backend in device.backends)))

        content = json.dumps({"time_s": 0.0042}).encode()
        name = hashlib.sha256(content).hexdigest()
        stock.send(
            "UploadArtifact",
            stock.make("UploadArtifact", sha256=name, size_bytes=len(content), data=content),
        )
        job = {
            "job_id": "stock-client-1",
            "subjects": [{"subject_id": "net", "artifact_sha256": name, "backend": "fake"}],
            "task": {
                "kind": stock.enum("TaskKind", "TASK_KIND_INFERENCE"),
                "batch": 1,
                "cache": stock.enum("CacheState", "CACHE_STATE_WARM"),
            },
            "precision": {"relative_half_width": 0.01, "min_duration_s": 0.2, "min_windows": 6},
            "deadlines": {"queue_s": 60.0, "compile_s": 20.0, "run_s": 20.0},
            "purpose": stock.enum("Purpose", "PURPOSE_CANDIDATE"),
        }
        reply = stock.call("Submit", job=job, protocol_version=device.protocol_version)
        _say("created", reply.created)
        for event in stock.stream("Watch", job_id="stock-client-1"):
            if event.WhichOneof("body") == "result":
                _say("median_s", event.result.statistics.median_s)
            if event.WhichOneof("body") == "finished":
                _say("last", stock.enum_name("JobState", event.finished.state))
        stock.call("Acknowledge", job_id="stock-client-1")
    ours = [module for module in sys.modules if module.startswith("boardfront")]
    _say("boardfront", ours)


def _say(what: str, value: object) -> None:
    sys.stdout.write(f"{what} {value}\n")


if __name__ == "__main__":
    main()
