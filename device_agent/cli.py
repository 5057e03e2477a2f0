"""The command `boardfront-agent`: argument parsing only."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import os
import platform
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.device_agent import (
    announce,
    describe_command,
    enroll_command,
    environment,
    isolation,
)
from boardfront.protos.announcement import Announcement
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.protos.records import PROTOCOL_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.device_agent.artifacts import ArtifactLimits
    from boardfront.device_agent.clocks import ClockLock

_log = logging.getLogger(__name__)

_DEFAULT_LISTEN = "127.0.0.1:50051"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    # gRPC must not see our workers being started: they are exec'ed and share nothing with it.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # Else whoever knocks without a certificate writes a line into our log each time.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
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
    except OSError as error:
        if options.debug:
            raise
        sys.stderr.write(
            f"boardfront-agent: {error}: expected a folder that can be written and has free "
            "space; see --state and --help\n"
        )
        return 1
    return exit_code


def _serve(options: argparse.Namespace, stop: threading.Event | None = None) -> int:
    from boardfront.device_agent.agent import Agent, WorkerRules
    from boardfront.device_agent.clocks import ClockLock
    from boardfront.device_agent.server import start_server

    if options.announce:
        announce.check(options.listen)
    credentials = enroll_command.credentials_of(options)
    stop = stop or _stop_at_signals()
    clocks = ClockLock(options.root, options.state, highest_hz=_highest_hz(options.lock_clocks))
    agent = Agent(
        options.state,
        name=options.name,
        clocks=clocks,
        artifact_limits=_artifact_limits(options),
        workers=WorkerRules(
            memory_bytes=_worker_memory_bytes(options.worker_memory_mb),
            native_code=options.run_native_code,
            isolation=options.worker_isolation,
        ),
        root=options.root,
    )
    (options.state / "address").unlink(missing_ok=True)
    try:
        _hold(clocks, wanted=options.lock_clocks is not None)
        agent.start()
        server, port = start_server(agent, options.listen, credentials)
        kind, _, _ = options.listen.rpartition(":")
        address = options.listen if kind == "unix" else f"{kind}:{port}"
        _publish(options.state, address)
        sys.stdout.write(f"listening on {address}\n")
        sys.stdout.flush()
        if options.exit_with_stdin:
            threading.Thread(target=_stop_at_eof, args=(stop,), daemon=True).start()
        tls = credentials is not None
        with enroll_command.health(options, credentials), _announced(options, port, tls=tls):
            stop.wait()
        server.stop(grace=0.5).wait()
    finally:
        (options.state / "address").unlink(missing_ok=True)
        agent.stop()
        for line in clocks.release():
            _log.warning("clocks: %s", line)
    return 0


def _enroll(options: argparse.Namespace) -> int:
    if options.announce:
        announce.check(options.listen)
    enroll_command.check(options)
    # One for both: a signal that comes between them must not be lost.
    stop = _stop_at_signals()
    enroll_command.enroll(options, stop)
    return 0 if options.exit else _serve(options, stop)


def _announced(
    options: argparse.Namespace, port: int, *, tls: bool
) -> contextlib.AbstractContextManager[None]:
    if not options.announce:
        return contextlib.nullcontext()
    announcement = Announcement(
        name=options.name or platform.node(),
        device_id=environment.read_device_id(options.state, options.root),
        protocol_version=PROTOCOL_VERSION,
        tls=tls,
    )
    place = announce.Place(host=options.listen.rpartition(":")[0], port=port)
    return announce.announcing(announcement, place)


def _stop_at_signals() -> threading.Event:
    """Return what is set when somebody wants this process to end."""
    stop = threading.Event()
    heard, told = socket.socketpair()
    told.settimeout(0.0)
    # Python runs handlers in the main thread, which a signal that comes while it is about to fall
    # asleep does not wake; what the system's own handler writes here, a thread reads at once.
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)

    def obey() -> None:
        # For the life of the process: `told` must not be closed under the system's handler.
        while told.fileno() >= 0 and heard.recv(1):
            stop.set()

    threading.Thread(target=obey, name="signals", daemon=True).start()
    return stop


def _hold(clocks: ClockLock, *, wanted: bool) -> None:
    """Hold the clocks if that is wanted, after those of an agent that was killed are back."""
    if not wanted:
        for line in clocks.recover():
            _log.warning("clocks: %s", line)
        return
    report = clocks.lock()
    for line in report.held:
        _log.info("--lock-clocks: %s", line)
    for line in report.refused:
        _log.warning("--lock-clocks: %s", line)
    if not report.held:
        _log.warning("--lock-clocks: no clock could be set: times are taken on moving clocks")


def _highest_hz(lock_clocks_mhz: float | None) -> float | None:
    """Return where `--lock-clocks MHZ` holds the clocks; infinity is what it is without MHZ."""
    if lock_clocks_mhz is None or lock_clocks_mhz == math.inf:
        return None
    if not lock_clocks_mhz > 0:
        raise WrongInputError(f"--lock-clocks {lock_clocks_mhz:g}: expected MHz above 0")
    return lock_clocks_mhz * 1e6


def _doctor(options: argparse.Namespace) -> int:
    from boardfront.device_agent import doctor
    from boardfront.protos.findings import as_json, as_lines, exit_code

    if not options.root.is_dir():
        raise WrongInputError(f"--root {options.root}: expected a folder with sys and proc in it")
    if sys.stderr.isatty():
        sys.stderr.write("looking at the load for a second, then asking the backends ...\n")
    findings = doctor.examine(options.root, options.state)
    if options.json:
        sys.stdout.write(json.dumps(as_json(findings), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(as_lines(findings)) + "\n")
    return exit_code(findings)


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
    serve.add_argument(
        "--listen",
        default=_DEFAULT_LISTEN,
        metavar="HOST:PORT",
        help=f"or unix:PATH, for this user alone (default: {_DEFAULT_LISTEN})",
    )
    serve.add_argument("--state", type=Path, default=_default_state(), metavar="FOLDER")
    serve.add_argument("--name", help="what the device is called (default: its host name)")
    serve.add_argument("--max-artifact-mb", type=int, default=1024, metavar="MB")
    _add_limits(serve)
    serve.add_argument(
        "--lock-clocks",
        type=float,
        nargs="?",
        const=math.inf,
        metavar="MHZ",
        help="hold all clocks still while serving, boost off, at most at MHZ (default: as high as "
        "they go); what was set before comes back at the end, also after a crash",
    )
    serve.add_argument(
        "--health-listen",
        metavar="HOST:PORT",
        help="answer grpc.health, and nothing else, to clients without a certificate there",
    )
    serve.add_argument(
        "--announce",
        action="store_true",
        help="tell the local network by mDNS where this agent is; see boardfront device discover",
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
    describe.set_defaults(run=describe_command.run)
    doctor = commands.add_parser(
        "doctor",
        help="say what would make times wrong or backends fail here, and what to do",
        epilog="exit code: 0 if there is no worse than warnings, 1 if there is a problem",
    )
    doctor.add_argument("--state", type=Path, default=_default_state(), metavar="FOLDER")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=_doctor)
    for command in (serve, describe, doctor):
        command.add_argument(
            "--root",
            type=Path,
            default=Path("/"),
            metavar="FOLDER",
            help="read the device's files (sys, proc, etc) under this folder instead of /, "
            "to try a board's layout without the board",
        )
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks"
        )
    # Last, because it takes all that `serve` takes.
    enroll_command.add_to(commands, serve, _enroll)
    return parser


def _add_limits(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--artifact-store-mb",
        type=int,
        default=4096,
        metavar="MB",
        help="of all artifacts together; those not used for longest go first (default: 4096)",
    )
    serve.add_argument(
        "--artifact-days",
        type=float,
        default=30.0,
        metavar="DAYS",
        help="remove an artifact that was not used for so long (default: 30)",
    )
    serve.add_argument(
        "--run-native-code",
        action="store_true",
        help="run libraries that a host compiled for this device: any program, in effect",
    )
    serve.add_argument(
        "--worker-isolation",
        choices=(isolation.OFF, isolation.AUTO, isolation.ON),
        default=isolation.AUTO,
        help="keep networks' processes from the network and from this agent's files: where the "
        "system lets us (auto, the default), or else do not serve (on)",
    )
    serve.add_argument(
        "--worker-memory-mb",
        type=int,
        metavar="MB",
        help="what one network may take (default: 80 %% of the memory)",
    )


def _artifact_limits(options: argparse.Namespace) -> ArtifactLimits:
    from boardfront.device_agent.artifacts import ArtifactLimits

    for name in ("max_artifact_mb", "artifact_store_mb", "artifact_days"):
        if getattr(options, name) <= 0:
            raise WrongInputError(
                f"--{name.replace('_', '-')} {getattr(options, name)}: expected more than 0"
            )
    return ArtifactLimits(
        one_bytes=options.max_artifact_mb << 20,
        all_bytes=options.artifact_store_mb << 20,
        unused_s=options.artifact_days * 86400.0,
    )


def _worker_memory_bytes(memory_mb: int | None) -> int | None:
    from boardfront.device_agent.limits import MIN_MEMORY_BYTES

    if memory_mb is None:
        return None
    if memory_mb << 20 < MIN_MEMORY_BYTES:
        raise WrongInputError(
            f"--worker-memory-mb {memory_mb}: expected {MIN_MEMORY_BYTES >> 20} or more, which a "
            "worker needs for itself"
        )
    return memory_mb << 20


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
