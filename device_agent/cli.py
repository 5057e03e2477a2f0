"""The command `boardfront-agent`: argument parsing only."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import json_format

from boardfront.protos import codec
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFAULT_LISTEN = "127.0.0.1:50051"
_LOOPBACK = ("127.", "localhost:", "[::1]:")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    # gRPC must not see our workers being started: they are exec'ed and share nothing with it.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        exit_code: int = options.run(options)
    except BoardfrontError as error:
        if options.debug:
            raise
        sys.stderr.write(f"boardfront-agent: {error}\n")
        return error.exit_code
    return exit_code


def _serve(options: argparse.Namespace) -> int:
    from boardfront.device_agent.agent import Agent
    from boardfront.device_agent.server import start_server

    if not options.listen.startswith(_LOOPBACK) and not options.insecure:
        raise BoardfrontError(
            f"--listen {options.listen} is open to the network, and this agent has no "
            "credentials: listen on 127.0.0.1 behind an SSH tunnel, or add --insecure"
        )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    agent = Agent(
        options.state, name=options.name, artifact_limit_bytes=options.max_artifact_mb << 20
    )
    (options.state / "address").unlink(missing_ok=True)
    agent.start()
    try:
        server, port = start_server(agent, options.listen)
        address = f"{options.listen.rpartition(':')[0]}:{port}"
        _publish(options.state, address)
        sys.stdout.write(f"listening on {address}\n")
        sys.stdout.flush()
        if options.exit_with_stdin:
            threading.Thread(target=_stop_at_eof, args=(stop,), daemon=True).start()
        stop.wait()
        server.stop(grace=0.5).wait()
    finally:
        (options.state / "address").unlink(missing_ok=True)
        agent.stop()
    return 0


def _describe(options: argparse.Namespace) -> int:
    import tempfile

    from boardfront.device_agent.agent import Agent

    with tempfile.TemporaryDirectory() as folder:
        agent = Agent(Path(folder), name=options.name)
        description = agent.describe()
        agent.stop()
    if options.json:
        message = json_format.MessageToDict(
            codec.to_message(description),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        sys.stdout.write(json.dumps(message, indent=2) + "\n")
        return 0
    hardware, system = description.hardware, description.system
    lines = [
        f"name         {description.name}",
        f"processor    {hardware.cpu_model}, {hardware.logical_cores} cores, {hardware.machine}",
        f"memory       {hardware.memory_bytes / 2**30:.1f} GiB",
        f"system       {system.distribution or system.name}, kernel {system.kernel}",
        f"governor     {system.governor or 'not readable'}",
        f"fingerprint  {description.fingerprint}",
    ]
    for info in description.backends:
        state = info.version if info.available else f"not available: {info.reason}"
        lines.append(f"backend      {info.name} {state}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="boardfront-agent",
        description="Measure networks on this device for a boardfront host.",
        epilog="example: boardfront-agent serve --listen 127.0.0.1:50051",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="take jobs from a host",
        epilog="example: boardfront-agent serve --listen 127.0.0.1:50051 --name rock5b",
    )
    serve.add_argument("--listen", default=_DEFAULT_LISTEN, metavar="HOST:PORT")
    serve.add_argument("--state", type=Path, default=_default_state(), metavar="FOLDER")
    serve.add_argument("--name", help="what the device is called (default: its host name)")
    serve.add_argument("--max-artifact-mb", type=int, default=1024, metavar="MB")
    serve.add_argument(
        "--insecure",
        action="store_true",
        help="listen beyond loopback without credentials: anybody there can run networks here",
    )
    serve.add_argument("--exit-with-stdin", action="store_true", help=argparse.SUPPRESS)
    serve.set_defaults(run=_serve)
    describe = commands.add_parser(
        "describe",
        help="say what this device is and what it can do",
        epilog="example: boardfront-agent describe --json",
    )
    describe.add_argument("--name", help="what the device is called")
    describe.add_argument("--json", action="store_true", help="print JSON")
    describe.set_defaults(run=_describe)
    for command in (serve, describe):
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks"
        )
    return parser


def _default_state() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "boardfront" / "agent"


def _publish(state: Path, address: str) -> None:
    """Write the address for hosts on this machine; a reader sees all of it or the old one."""
    part = state / "address.part"
    part.write_text(address)
    part.replace(state / "address")


def _stop_at_eof(stop: threading.Event) -> None:
    """Stop when whoever started this agent is gone."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
