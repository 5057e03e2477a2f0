"""What a board tells the local network by mDNS, where its owner wants it: no secrets, no proof.

Anybody in the network can announce anything: an announcement is a hint where to look. Who a board
is, its certificate tells.

Source: RFC 6762 (multicast DNS), RFC 6763 (DNS-based service discovery, keys of TXT records).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE_TYPE = "_boardfront._tcp.local."
_LONGEST = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Announcement:
    """What an agent says of itself.

    Args:
        name: What the device is called.
        device_id: Its identity.
        protocol_version: Of the contract that it speaks; 0 if it did not say.
        tls: Whether it asks for a certificate.
    """

    name: str
    device_id: str
    protocol_version: int
    tls: bool

    def to_properties(self) -> dict[str, str]:
        """Return the keys and values of the TXT record."""
        return {
            "name": _shown(self.name),
            "id": self.device_id,
            "v": str(self.protocol_version),
            "tls": str(int(self.tls)),
        }


def from_properties(properties: Mapping[bytes, bytes | None]) -> Announcement:
    """Read a TXT record; whatever stands in it is made printable and short."""
    words = {
        key.decode("ascii", "replace"): _shown((value or b"").decode("utf-8", "replace"))
        for key, value in properties.items()
    }
    version = words.get("v", "")
    return Announcement(
        name=words.get("name", ""),
        device_id=words.get("id", ""),
        protocol_version=int(version) if version.isascii() and version.isdigit() else 0,
        tls=words.get("tls") == "1",
    )


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:_LONGEST]
