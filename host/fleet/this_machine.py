"""Is a device this very machine? Then nothing of ours may run beside its timed windows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.protos.records import Origin

if TYPE_CHECKING:
    from boardfront.protos.records import DeviceDescription

_MACHINE_ID = Path("/etc/machine-id")
_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")


def own_device_id(machine_id: Path = _MACHINE_ID) -> str | None:
    """Return what an agent on this machine calls itself; None where the system has no id.

    The same rule as in device_agent/environment.py, `read_device_id`.
    """
    try:
        found = machine_id.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return hashlib.sha256(f"boardfront {found}".encode()).hexdigest()[:16] if found else None


def may_overlap(
    description: DeviceDescription, backend: str, address: str, *, own_id: str | None
) -> bool:
    """Return whether this host may work while a device measures.

    Not where it is this machine, unless the backend's times are programmed. A board behind a
    tunnel has a loopback address and an id of its own.

    Args:
        description: Of the device.
        backend: That measures.
        address: Of its agent; decides where this machine has no id.
        own_id: See `own_device_id`.
    """
    info = description.backend(backend)
    if info is not None and info.origin is Origin.PROGRAMMED:
        return True
    if own_id is None:
        return not address.startswith(_LOOPBACK)
    return description.device_id != own_id
