"""Serve, measure by onnxruntime, and print which runtimes this process imported meanwhile.

Usage: python serve_and_list_modules.py STATE_FOLDER
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import grpc

from boardfront.device_agent.agent import Agent
from boardfront.device_agent.server import start_server
from boardfront.protos import agent_pb2, agent_pb2_grpc, codec, records


def main() -> None:
    """Run one job that fails in its worker, which is enough to go all the way."""
    agent = Agent(Path(sys.argv[1]))
    agent.start()
    server, port = start_server(agent, "127.0.0.1:0")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = agent_pb2_grpc.AgentStub(channel)
        stub.Describe(agent_pb2.DescribeRequest())
        content = b"not a model"
        name = hashlib.sha256(content).hexdigest()
        chunk = agent_pb2.ArtifactChunk(sha256=name, size_bytes=len(content), data=content)
        stub.UploadArtifact(iter([chunk]))
        subject = records.Subject(subject_id="s", artifact_sha256=name, backend="onnxruntime")
        job = records.Job(job_id="j", subjects=(subject,), task=records.Task())
        stub.Submit(
            agent_pb2.SubmitRequest(
                job=codec.to_message(job), protocol_version=records.PROTOCOL_VERSION
            )
        )
        events = list(stub.Watch(agent_pb2.WatchRequest(job_id="j")))
        if any(event.WhichOneof("body") == "failure" for event in events):
            sys.stdout.write("measured\n")
    server.stop(grace=None).wait()
    agent.stop()
    runtimes = {"onnxruntime", "onnx", "torch", "tvm", "rknn"} & set(sys.modules)
    sys.stdout.write(f"{sorted(runtimes)}\n")


if __name__ == "__main__":
    main()
