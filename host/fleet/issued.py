"""The list of certificates that an authority issued and revoked."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from boardfront.host.fleet.credentials import CredentialsError, Role
from boardfront.protos.private_file import read_private, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LIST_FILE = "issued.json"
_LIST_VERSION = 1
_LOCK_WITHIN_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """One certificate that was issued.

    Args:
        kind: `board` or `client`.
        name: What people call the board, or the client's name.
        serial: In hexadecimal.
        not_after: Until when it is accepted, UTC.
        device_id: Of a board; empty for a client.
        role: Of a client; None for a board.
        revoked: Whether boards refuse it.
        retired: Whether its board was taken out of the fleet.
    """

    kind: str
    name: str
    serial: str
    not_after: datetime
    device_id: str = ""
    role: Role | None = None
    revoked: bool = False
    retired: bool = False


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes; what is done under it takes milliseconds.

    Raises:
        CredentialsError: If another process holds it for ten seconds.
    """
    deadline_s = time.monotonic() + _LOCK_WITHIN_S
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    with os.fdopen(os.open(folder / "lock", flags, 0o600), "wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    raise CredentialsError(
                        f"another process has held {folder / 'lock'} for {_LOCK_WITHIN_S:g} s: "
                        "look for a boardfront that hangs"
                    ) from None
                time.sleep(0.02)
        yield


def read_list(folder: Path) -> list[Certificate]:
    """Return the list that lies in a folder, the oldest certificate first.

    Raises:
        CredentialsError: If it is damaged, or another version wrote it.
        PrivateFileError: If others may read it.
    """
    content = read_private(folder / _LIST_FILE)
    if content is None:
        return []
    try:
        document = json.loads(content)
        if document["version"] != _LIST_VERSION:
            raise CredentialsError(
                f"{folder / _LIST_FILE} is of version {document['version']}, expected "
                f"{_LIST_VERSION}: use the boardfront that wrote it"
            )
        return [_from_json(item) for item in document["certificates"]]
    except (ValueError, KeyError, TypeError) as error:
        raise CredentialsError(
            f"{folder / _LIST_FILE} is damaged ({type(error).__name__}): put its "
            "backup there; without it nobody knows what was issued and revoked"
        ) from None


def write_list(folder: Path, listed: list[Certificate]) -> None:
    """Write the list; a reader sees all of it or the old one."""
    document = {"version": _LIST_VERSION, "certificates": [_to_json(one) for one in listed]}
    write_private(folder / _LIST_FILE, json.dumps(document, indent=1).encode())


def _to_json(one: Certificate) -> dict[str, Any]:
    return {
        **asdict(one),
        "not_after": one.not_after.isoformat(),
        "role": None if one.role is None else one.role.value,
    }


def _from_json(item: dict[str, Any]) -> Certificate:
    role = item["role"]
    return Certificate(
        kind=item["kind"],
        name=item["name"],
        serial=item["serial"],
        not_after=datetime.fromisoformat(item["not_after"]),
        device_id=item["device_id"],
        role=None if role is None else Role(role),
        revoked=item["revoked"],
        retired=item["retired"],
    )
