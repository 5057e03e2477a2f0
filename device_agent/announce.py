"""Tell the local network by mDNS where this agent is: `serve --announce`, off by default.

`zeroconf` is an extra, imported only where it is wanted: the agent's base stays light. Announcing
answers a few packets of others at any time, timed windows included.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from boardfront.protos.announcement import SERVICE_TYPE, Announcement
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zeroconf import ServiceInfo

_log = logging.getLogger(__name__)

_LONGEST_LABEL_BYTES = 63
"""Of a name's part, RFC 1035."""


class NotInstalledError(BoardfrontError):
    """The extra that announces is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where an agent listens.

    Args:
        host: As it was told to, e.g. `0.0.0.0`.
        port: That it got.
    """

    host: str
    port: int


def check(listen: str) -> None:
    """Find out, before anything is served, whether it can be announced.

    Args:
        listen: HOST:PORT, as the agent was told.

    Raises:
        WrongInputError: If nobody else could reach it there.
        NotInstalledError: If zeroconf is not installed.
    """
    if not addresses(listen.rpartition(":")[0]):
        raise WrongInputError(
            f"--announce with --listen {listen}: expected an address that others can reach, e.g. "
            "0.0.0.0:50051; leave out --announce"
        )
    try:
        import zeroconf  # noqa: F401 - only whether it is there
    except ImportError:
        raise NotInstalledError(
            "--announce needs zeroconf: run pip install 'boardfront[discovery]', or leave it out"
        ) from None


@contextlib.contextmanager
def announcing(
    announcement: Announcement, place: Place, *, interfaces: Sequence[str] = ()
) -> Iterator[None]:
    """Announce for as long as the context lasts; a network that refuses is only warned of.

    Args:
        announcement: What to say.
        place: Where the agent listens.
        interfaces: Addresses of the interfaces to say it on; none: all.
    """
    import zeroconf

    chosen = list(interfaces) or zeroconf.InterfaceChoice.All
    try:
        speaker = zeroconf.Zeroconf(interfaces=chosen)
    except OSError as error:
        _log.warning("--announce: this network lets nothing be announced: %s", error)
        yield
        return
    with contextlib.closing(speaker):
        try:
            speaker.register_service(
                _service(announcement, place, interfaces), allow_name_change=True
            )
        except (OSError, zeroconf.Error) as error:
            _log.warning("--announce: not announced: %s: %s", type(error).__name__, error)
        else:
            _log.info("announced as %s", announcement.name)
        # Closing takes the announcement back.
        yield


def addresses(host: str) -> list[str]:
    """Return this machine's addresses that others may reach an agent at; none for loopback.

    Args:
        host: That the agent listens at.
    """
    with contextlib.suppress(ValueError):
        parsed = ipaddress.ip_address(host.strip("[]"))
        if not parsed.is_unspecified:
            return [] if parsed.is_loopback else [str(parsed)]
        families = [socket.AF_INET] + ([socket.AF_INET6] if parsed.version == 6 else [])
        return _own_addresses(families)
    if host in {"localhost", "unix"} or host.startswith("unix:"):
        return []
    return _own_addresses([socket.AF_INET])


def _own_addresses(families: Sequence[int]) -> list[str]:
    return [
        one.address
        for interface in psutil.net_if_addrs().values()
        for one in interface
        if one.family in families and _is_far(one.address)
    ]


def _is_far(address: str) -> bool:
    """Whether it means this machine elsewhere too; fe80:: means it on one cable only."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return not parsed.is_loopback and not (parsed.version == 6 and parsed.is_link_local)


def _service(announcement: Announcement, place: Place, interfaces: Sequence[str]) -> ServiceInfo:
    import zeroconf

    label = re.sub(r"[^A-Za-z0-9_-]+", "-", announcement.name).strip("-") or "board"
    # Two boards may be called alike.
    instance = f"{label[: _LONGEST_LABEL_BYTES - 9]}-{announcement.device_id[:8]}"
    return zeroconf.ServiceInfo(
        SERVICE_TYPE,
        f"{instance}.{SERVICE_TYPE}",
        parsed_addresses=addresses(place.host) or list(interfaces),
        port=place.port,
        properties=announcement.to_properties(),
        server=f"{instance}.local.",
    )
