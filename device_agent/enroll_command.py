"""What certificates add to the command line: `enroll`, and what `serve` does with them."""

from __future__ import annotations

import contextlib
import functools
import logging
import platform
import sys
import time
from typing import TYPE_CHECKING, Any

from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    import argparse
    import threading
    from collections.abc import Callable, Iterator

    from boardfront.device_agent.credentials import Credentials
    from boardfront.device_agent.enrolment import Waiting

_log = logging.getLogger(__name__)

_MAX_WAIT_MINUTES = 24 * 60.0


def add_to(
    commands: Any, serve: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]
) -> None:
    """Add `enroll`, which takes all that `serve` takes, to the commands."""
    # Any: argparse does not name the type of its sub-commands.
    enroll_parser = commands.add_parser(
        "enroll",
        parents=[serve],
        add_help=False,
        help="wait to be taken into a fleet, then serve with the certificate it gives",
        description="Print a token, wait until `boardfront device add` brings it back, keep the "
        "certificate that comes with it, and serve at the same address.",
        epilog="example: boardfront-agent enroll --listen 0.0.0.0:50051 --name rock5b",
    )
    enroll_parser.add_argument(
        "--wait",
        type=float,
        default=15.0,
        metavar="MINUTES",
        help="how long the token is good for (default: 15)",
    )
    enroll_parser.add_argument(
        "--exit", action="store_true", help="end when enrolled: do not serve"
    )
    enroll_parser.set_defaults(run=run)


def check(options: argparse.Namespace) -> None:
    """Check what only `enroll` takes.

    Raises:
        WrongInputError: If it cannot be.
    """
    if not 0 < options.wait <= _MAX_WAIT_MINUTES:
        raise WrongInputError(
            f"--wait {options.wait:g}: expected minutes above 0, up to {_MAX_WAIT_MINUTES:g}"
        )


def enroll(options: argparse.Namespace, stop: threading.Event) -> None:
    """Wait to be enrolled; afterwards `options.listen` is where that was.

    Raises:
        NotEnrolledError: If nobody came with the token.
        WrongInputError: If the address cannot be bound.
    """
    from boardfront.device_agent import environment
    from boardfront.device_agent.agent import Agent
    from boardfront.device_agent.enrolment import enrol

    # Holds the folder, so that nobody else uses it meanwhile.
    agent = Agent(options.state, name=options.name, root=options.root)
    try:
        options.listen = enrol(
            options.state,
            options.listen,
            device=(
                environment.read_device_id(options.state, options.root),
                options.name or platform.node(),
            ),
            within_s=options.wait * 60.0,
            tell=functools.partial(_tell_token, options.wait),
            stop=stop,
        )
    finally:
        agent.stop()
    sys.stdout.write("enrolled\n")
    sys.stdout.flush()


def credentials_of(options: argparse.Namespace) -> Credentials | None:
    """Return what this agent proves itself with; None if it listens to its own machine only.

    Raises:
        BoardfrontError: If it has no credentials, and listens to others or to monitors.
    """
    from boardfront.device_agent import environment, security
    from boardfront.device_agent.credentials import Credentials

    options.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    device_id = environment.read_device_id(options.state, options.root)
    found = Credentials.load(options.state, device_id)
    if found is None and not security.is_local(options.listen):
        raise BoardfrontError(
            f"--listen {options.listen} is open to the network, and this agent has no "
            f"credentials: `boardfront-agent enroll --listen {options.listen}` gives it some, or "
            "listen on 127.0.0.1 behind an SSH tunnel"
        )
    if found is None and options.health_listen is not None:
        raise WrongInputError(
            "--health-listen is for agents with credentials: one without answers grpc.health at "
            "--listen"
        )
    if found is not None:
        for line in found.warnings(time.time()):
            _log.warning("%s", line)
    return found


@contextlib.contextmanager
def health(options: argparse.Namespace, credentials: Credentials | None) -> Iterator[None]:
    """Answer grpc.health on a port of its own, if that is wanted."""
    if credentials is None or options.health_listen is None:
        yield
        return
    from boardfront.device_agent.server import start_health_server

    server, port = start_health_server(credentials, options.health_listen)
    sys.stdout.write(f"health on {options.health_listen.rpartition(':')[0]}:{port}\n")
    sys.stdout.flush()
    yield
    server.stop(grace=None)


def _tell_token(minutes: float, waiting: Waiting) -> None:
    from boardfront.device_agent.enrolment import address_for_people

    address = address_for_people(waiting.address)
    sys.stdout.write(
        f"type this on the host within {minutes:g} minutes, it works once:\n"
        f"boardfront device add {address} --token {waiting.token.text()}\n"
    )
    sys.stdout.flush()
