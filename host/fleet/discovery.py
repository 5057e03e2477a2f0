"""Find agents in the local network by mDNS: hints where to look. Certificates are the proof."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.protos.announcement import SERVICE_TYPE, from_properties
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zeroconf import ServiceInfo, Zeroconf

_MOST = 500
"""Announcements that are looked at: anybody in the network can make any number."""

_DETAILS_WITHIN_S = 2.0
_STEP_S = 0.05


class DiscoveryError(BoardfrontError):
    """The network cannot be asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """An agent that somebody announced.

    Args:
        name: What the device calls itself.
        address: HOST:PORT.
        device_id: What it says its identity is.
        protocol_version: Of the contract; 0: it did not say.
        tls: Whether it asks for a certificate.
    """

    name: str
    address: str
    device_id: str
    protocol_version: int
    tls: bool


def discover(within_s: float, *, interfaces: Sequence[str] = ()) -> list[Found]:
    """Listen for announcements.

    Args:
        within_s: How long to listen, in seconds.
        interfaces: Addresses of the interfaces to listen at; none: all.

    Returns:
        What was announced, by name; one device may be there several times.

    Raises:
        DiscoveryError: If zeroconf is not installed, or this machine may not listen.
    """
    try:
        import zeroconf
    except ImportError:
        raise DiscoveryError(
            "looking for boards needs zeroconf: run pip install 'boardfront[discovery]', or name "
            "the board: boardfront device add HOST:PORT"
        ) from None
    try:
        listener = zeroconf.Zeroconf(interfaces=list(interfaces) or zeroconf.InterfaceChoice.All)
    except OSError as error:
        raise DiscoveryError(
            f"this machine may not listen for announcements ({error.strerror}): expected a "
            "network with multicast; name the board: boardfront device add HOST:PORT"
        ) from None
    with contextlib.closing(listener):
        found = _listen(listener, within_s)
    # Not by device alone: a false announcement must not hide the true one.
    return sorted(set(found), key=lambda one: (one.name, one.address, one.device_id))


class _Names:
    """Collects the names of services; called in zeroconf's thread, which must not wait."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def add_service(self, listener: Zeroconf, kind: str, name: str) -> None:
        del listener, kind
        if len(self.seen) < _MOST:
            self.seen.append(name)

    def update_service(self, listener: Zeroconf, kind: str, name: str) -> None:
        """Do nothing: details are asked for later."""

    def remove_service(self, listener: Zeroconf, kind: str, name: str) -> None:
        del listener, kind
        with contextlib.suppress(ValueError):
            self.seen.remove(name)


def _listen(listener: Zeroconf, within_s: float) -> list[Found]:
    from zeroconf import ServiceBrowser

    names = _Names()
    deadline_s = time.monotonic() + within_s
    browser = ServiceBrowser(listener, SERVICE_TYPE, names)  # type: ignore[arg-type]
    try:
        while time.monotonic() < deadline_s:
            time.sleep(_STEP_S)
    finally:
        browser.cancel()
    # Mostly they came with the names; who sends names alone is not waited for long.
    deadline_s = time.monotonic() + _DETAILS_WITHIN_S
    details = (_details(listener, name, deadline_s) for name in list(names.seen))
    return [found for found in details if found is not None]


def _details(listener: Zeroconf, name: str, deadline_s: float) -> Found | None:
    """Return what was said under a name; None if it says no address that one could call."""
    left_s = max(0.001, deadline_s - time.monotonic())
    info = listener.get_service_info(SERVICE_TYPE, name, timeout=round(1e3 * left_s))
    address = _address(info) if info is not None else None
    if info is None or address is None:
        return None
    said = from_properties(info.properties)
    return Found(
        name=said.name or name.removesuffix(f".{SERVICE_TYPE}"),
        address=address,
        device_id=said.device_id,
        protocol_version=said.protocol_version,
        tls=said.tls,
    )


def _address(info: ServiceInfo) -> str | None:
    """Return HOST:PORT, of version 4 where there is one."""
    hosts = info.parsed_scoped_addresses()
    if not hosts or not info.port:
        return None
    host = next((one for one in hosts if ":" not in one), hosts[0])
    return f"[{host}]:{info.port}" if ":" in host else f"{host}:{info.port}"
