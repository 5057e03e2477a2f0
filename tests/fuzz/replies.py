"""A host under wrong replies: an agent that is none, or gone mad, ends no host with a bug."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
from tests.device_agent.harness import make_job, name_of
from tests.fuzz import samples
from tests.fuzz.targets import WITHIN_S, spoilt_message

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.protos import agent_pb2, codec, records
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from google.protobuf.message import Message
    from tests.fuzz.mutation import Mutator

_JOB = make_job(samples.ARTIFACT, job_id="fuzz")


def fuzz_replies(mutator: Mutator, count: int) -> Counter[str]:
    """Every call of the host's client: it ends soon, and well or with an error of ours.

    Returns:
        How often each call came to what.
    """
    outcomes: Counter[str] = Counter()
    agent = _MadAgent(mutator)
    with _serving(agent) as address:
        for number in range(count):
            client = AgentClient(RemoteAddress(address), lost_after_s=0.0)
            name, call = _CALLS[number % len(_CALLS)]
            agent.sane = mutator.random.random() < 0.3
            begin_s = time.monotonic()
            try:
                call(client)
            except BoardfrontError as error:
                outcomes[f"{name} {type(error).__name__}"] += 1
            except Exception as error:
                text = f"{name}: {type(error).__name__}: {error}: of {agent.sent!r}"
                raise AssertionError(text) from error
            else:
                outcomes[f"{name} OK"] += 1
            finally:
                client.close()
            assert time.monotonic() - begin_s < WITHIN_S, (name, agent.sent)
    return outcomes


_CALLS: Sequence[tuple[str, Callable[[AgentClient], object]]] = (
    ("describe", lambda client: client.describe()),
    ("missing", lambda client: client.missing([name_of(samples.ARTIFACT)])),
    ("run", lambda client: _run(client)),  # noqa: PLW0108 - defined below
    ("acknowledge", lambda client: client.acknowledge("fuzz")),
    ("cancel", lambda client: client.cancel("fuzz")),
    ("telemetry", lambda client: next(client.telemetry(1.0), None)),
    ("show_lease", lambda client: client.show_lease()),
    (
        "acquire_lease",
        lambda client: client.acquire_lease(
            records.AcquireLeaseRequest(lease_id="x", holder="y", priority=0, duration_s=30.0)
        ),
    ),
)


def _run(client: AgentClient) -> Mapping[str, object]:
    return client.run(_JOB, {name_of(samples.ARTIFACT): samples.ARTIFACT}, lambda _: None)


class _MadAgent(grpc.GenericRpcHandler):  # type: ignore[misc, type-arg, unused-ignore]
    """Answers each method with a spoilt reply of its kind.

    Attributes:
        sane: Spoil streams only.
        sent: The last replies.
    """

    def __init__(self, mutator: Mutator) -> None:
        self._mutator = mutator
        self.sane = False
        self.sent: list[bytes] = []

    def service(self, handler_call_details: Any) -> Any:  # type: ignore[explicit-override, unused-ignore]
        name = handler_call_details.method.rpartition("/")[2]
        if name in {"Watch", "WatchTelemetry"}:
            return grpc.unary_stream_rpc_method_handler(lambda *_: self._stream(name))
        if name == "UploadArtifact":
            return grpc.stream_unary_rpc_method_handler(lambda *_: self._reply(name))
        return grpc.unary_unary_rpc_method_handler(lambda *_: self._reply(name))

    def _reply(self, name: str) -> bytes:
        right = _replies()[name]
        content = right.SerializeToString() if self.sane else spoilt_message(self._mutator, right)
        return self._note(content)

    def _stream(self, name: str) -> Iterator[bytes]:
        for right in _streams()[name]:
            content = right.SerializeToString()
            if self._mutator.random.random() < 0.4:
                content = spoilt_message(self._mutator, right)
            yield self._note(content)

    def _note(self, content: bytes) -> bytes:
        self.sent = [*self.sent[-5:], content[:1000]]
        return content


def _replies() -> Mapping[str, Message]:
    description = samples.filled(agent_pb2.DeviceDescription)
    description.protocol_version = records.PROTOCOL_VERSION
    return {
        "Describe": description,
        "FindMissingArtifacts": agent_pb2.FindMissingArtifactsReply(
            missing_sha256=[name_of(samples.ARTIFACT)]
        ),
        "UploadArtifact": agent_pb2.UploadArtifactReply(sha256=name_of(samples.ARTIFACT)),
        "Submit": agent_pb2.SubmitReply(state=agent_pb2.JOB_STATE_QUEUED, created=False),
        "Cancel": agent_pb2.CancelReply(state=agent_pb2.JOB_STATE_CANCELLED),
        "Acknowledge": agent_pb2.AcknowledgeReply(),
        "AcquireLease": samples.filled(agent_pb2.AcquireLeaseReply),
        "ReleaseLease": agent_pb2.ReleaseLeaseReply(),
        "ShowLease": samples.filled(agent_pb2.LeaseStatus),
    }


def _streams() -> Mapping[str, Sequence[Message]]:
    bodies: tuple[records.EventBody, ...] = (
        records.Queued(position=0),
        records.Working(phase=records.Phase.LOADING),
        records.Failure(kind=records.FailureKind.TIMEOUT, message="too long"),
        records.Finished(state=records.JobState.COMPLETED),
    )
    events = [
        codec.to_message(
            records.JobEvent(index=index, time_unix_s=1.0, subject_id="s0", body=body)
        )
        for index, body in enumerate(bodies)
    ]
    return {"Watch": events, "WatchTelemetry": [samples.filled(agent_pb2.TelemetrySample)]}


@contextlib.contextmanager
def _serving(agent: _MadAgent) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), handlers=[agent])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()
